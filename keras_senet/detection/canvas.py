"""From an image of any size to a detector's input."""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_senet.fields import is_integer
from keras_senet.preprocessing import Preprocessing

MULTIPLE = 32  # of the sides of a canvas: the largest stride of a backbone's maps


class Canvas(NamedTuple):
    """Normalised images with black borders at the right and at the bottom.

    images  (N, H, W, C) float32
    sizes   (N, 2) int32, the height and width of each without its border
    """

    images: tf.Tensor
    sizes: tf.Tensor


def check_canvas(canvas) -> tuple[int, int]:
    """The height and width as integers. Raises ValueError unless they are multiples of 32."""
    is_pair = isinstance(canvas, list | tuple | np.ndarray) and len(canvas) == 2
    if not is_pair or not all(is_integer(side) and side > 0 for side in canvas):
        raise ValueError(
            f"`canvas` must be a height and a width, multiples of {MULTIPLE}. Received: {canvas!r}"
        )
    if any(side % MULTIPLE for side in canvas):
        raise ValueError(
            f"The sides of a `canvas` must be multiples of {MULTIPLE}, the stride of a backbone's "
            f"last maps. Received: {tuple(canvas)}"
        )
    return int(canvas[0]), int(canvas[1])


def resized_size(
    height: int, width: int, short: int, long: int, canvas: tuple[int, int] | None = None
) -> tuple[int, int]:
    """The height and width of an image whose shorter side gets `short` pixels, or less where the
    longer one would get more than `long`, or where it would not fit in the canvas; rounded down, at
    least 1.
    """
    factor = min(short / min(height, width), long / max(height, width))
    if canvas is not None:
        factor = min(factor, canvas[0] / height, canvas[1] / width)
    return max(1, math.floor(height * factor)), max(1, math.floor(width * factor))


def fit(image, preprocessing: Preprocessing, size, canvas) -> tf.Tensor:
    """An image (h, w, C) of 0..255, resized to a size, normalised and padded with zeros to a
    canvas: float32 (1, H, W, C). Both may be tensors.

    The resizing is bilinear and not antialiased, as torchvision's and Detectron's.
    """
    normalised = preprocessing.normalize(image, "channels_last")
    resized = tf.image.resize(normalised, size, antialias=False)
    border = [(0, canvas[0] - size[0]), (0, canvas[1] - size[1]), (0, 0)]
    return tf.pad(resized, border)[None]


def prepare(
    images,
    preprocessing: Preprocessing,
    short: int,
    long: int,
    canvas: tuple[int, int] | None = None,
) -> Canvas:
    """The `Canvas` of images, each (H, W, C) of 0..255: resized, normalised, padded with zeros to
    the given height and width, or to the largest ones, each a multiple of 32.
    """
    canvas = None if canvas is None else check_canvas(canvas)
    sizes = [resized_size(*image.shape[:2], short, long, canvas) for image in images]
    if canvas is None:
        height, width = (-(-max(side) // MULTIPLE) * MULTIPLE for side in zip(*sizes, strict=True))
        canvas = height, width
    padded = [
        fit(image, preprocessing, size, canvas) for image, size in zip(images, sizes, strict=True)
    ]
    return Canvas(tf.concat(padded, axis=0), tf.constant(sizes, tf.int32))
