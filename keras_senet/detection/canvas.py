"""From an image of any size to a detector's input."""

import math
from typing import NamedTuple

import tensorflow as tf

from keras_senet.preprocessing import Preprocessing

MULTIPLE = 32  # of the sides of a canvas: the largest stride of a backbone's maps


class Canvas(NamedTuple):
    """Normalised images with black borders at the right and at the bottom.

    images  (N, H, W, C) float32
    sizes   (N, 2) int32, the height and width of each without its border
    """

    images: tf.Tensor
    sizes: tf.Tensor


def resized_size(height: int, width: int, short: int, long: int) -> tuple[int, int]:
    """The height and width of an image whose shorter side gets `short` pixels, or less where the
    longer one would get more than `long`; rounded down, at least 1.
    """
    factor = min(short / min(height, width), long / max(height, width))
    return max(1, math.floor(height * factor)), max(1, math.floor(width * factor))


def prepare(images, preprocessing: Preprocessing, short: int, long: int) -> Canvas:
    """The `Canvas` of images, each (H, W, C) of 0..255: resized, normalised, padded with zeros to
    the largest height and width, each a multiple of 32.

    The resizing is bilinear and not antialiased, as torchvision's and Detectron's.
    """
    resized = []
    for image in images:
        size = resized_size(*image.shape[:2], short, long)
        normalised = preprocessing.normalize(image, "channels_last")
        resized.append(tf.image.resize(normalised, size, antialias=False))
    sizes = tf.constant([each.shape[:2] for each in resized], tf.int32)
    height, width = (math.ceil(int(side) / MULTIPLE) * MULTIPLE for side in tf.reduce_max(sizes, 0))
    padded = [
        tf.pad(each, [(0, height - each.shape[0]), (0, width - each.shape[1]), (0, 0)])
        for each in resized
    ]
    return Canvas(tf.stack(padded), sizes)
