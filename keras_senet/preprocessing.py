"""From images of 0..255 RGB to what a network takes, and from its answers to the names of ImageNet's classes."""

import math
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

INTERPOLATIONS = ("bilinear", "bicubic")
MAX_SIZE = 4096  # pixels: more is a mistake, or a file that wants the memory


@dataclass(frozen=True)
class Preprocessing:
    """What turns an image into a network's input: `(x - mean) / std` a channel, of an image of `size` pixels a side.

    `mean` and `std` are in units of 0..255 RGB. `crop_fraction` is the part of the resized image's side that the
    centre crop keeps; `interpolation` ("bilinear" or "bicubic") is that of the resizing, antialiased.

    Raises:
        ValueError: for any other value, naming it.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int = 224
    crop_fraction: float = 0.875
    interpolation: str = "bilinear"

    def __post_init__(self):
        numbers = (*self.mean, *self.std)
        if len(self.mean) != len(self.std) or not all(math.isfinite(n) for n in numbers) or min(self.std) <= 0:
            raise ValueError(
                "`mean` and `std` must be finite, one number a channel, `std` above 0. "
                f"Received: mean={self.mean!r}, std={self.std!r}"
            )
        if type(self.size) is not int or not 1 <= self.size <= MAX_SIZE:
            raise ValueError(f"`size` must be an integer of 1..{MAX_SIZE}. Received: size={str(self.size)[:20]}")
        if not 0.1 <= self.crop_fraction <= 1:
            raise ValueError(f"`crop_fraction` must be 0.1..1. Received: {self.crop_fraction!r}")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"`interpolation` must be one of {list(INTERPOLATIONS)}. Received: interpolation={self.interpolation!r}"
            )

    @classmethod
    def scaled(cls, size):
        """0..255 -> -1..1, for whole images of `size` pixels a side."""
        return cls((127.5, 127.5, 127.5), (127.5, 127.5, 127.5), size, crop_fraction=1.0)

    def for_channels(self, channels):
        """The same for images of another number of channels: each gets the average of mean and of std."""
        if channels == len(self.mean):
            return self
        mean, std = (sum(values) / len(values) for values in (self.mean, self.std))
        return replace(self, mean=(mean,) * channels, std=(std,) * channels)

    def normalize(self, images, data_format=None):
        """(..., H, W, 3) of 0..255 RGB, any dtype -> float32, the networks' input."""
        data_format = data_format or keras.config.image_data_format()
        shape = (-1,) if data_format == "channels_last" else (-1, 1, 1)
        mean, std = (ops.reshape(ops.convert_to_tensor(v, "float32"), shape) for v in (self.mean, self.std))
        return (ops.cast(images, "float32") - mean) / std

    @property
    def short_side(self):
        """The short side of the resized image that the centre crop is cut from, in pixels."""
        return self.short_side_for(self.size)

    def short_side_for(self, size):
        """The same for a crop of another size."""
        return math.floor(size / self.crop_fraction)

    def crop(self, image):
        """One image (H, W, C) of 0..255 -> float32 (size, size, C) of 0..255: its middle, antialiased.

        The short side becomes `floor(size / crop_fraction)`, the long one in proportion, rounded down; values are
        whole numbers again. Works on TensorFlow's tensors, also inside `tf.data` and exported graphs.
        """
        return middle(resize(image, self.short_side, self.interpolation), self.size)

    def read(self, path):
        """The file of one JPEG, PNG, BMP, GIF or WebP image, cropped as `crop` does: float32 (size, size, C) of 0..255.

        C is 3, RGB, or 1, grey, as `mean` has it.

        Raises:
            ValueError: if it is not an image that can be decoded, or for another number of channels.
            OSError: if it cannot be read.
        """
        import tensorflow as tf

        from keras_senet.decoding import decode, reason_of

        channels = len(self.mean)
        if channels not in (1, 3):
            raise ValueError(f"An image file has 1 or 3 channels, this network takes {channels}: {str(path)!r}")
        content = Path(path).read_bytes()
        try:
            return self.crop(decode(content, channels)).numpy()
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(f"Not an image that can be decoded: {str(path)!r} ({reason_of(error)})") from error


def resize(image, short, interpolation):
    """One image (H, W, C) of 0..255 -> float32 of 0..255 whose short side has `short` pixels: antialiased, rounded.

    The long side is in proportion, rounded down. Works on TensorFlow's tensors, also inside `tf.data`.
    """
    import tensorflow as tf

    height, width = tf.unstack(tf.shape(image)[:2])
    shortest = tf.minimum(height, width)
    resized = [
        tf.where(
            side == shortest,
            short,
            tf.cast(short * tf.cast(side, tf.int64) // tf.cast(shortest, tf.int64), tf.int32),
        )
        for side in (height, width)
    ]
    image = tf.image.resize(tf.cast(image, tf.float32), resized, interpolation, antialias=True)
    return tf.clip_by_value(tf.round(image), 0, 255)


def middle(image, size):
    """The middle (size, size, C) of one image (H, W, C), which is at least as large."""
    import tensorflow as tf

    top, left = middle_offset(image, size)
    return tf.ensure_shape(image[top : top + size, left : left + size], (size, size, None))


def middle_offset(image, size):
    """Where the middle (size, size, C) of an image (H, W, C) begins: its first row and column."""
    import tensorflow as tf

    return [tf.cast(tf.round((side - size) / 2), tf.int32) for side in tf.unstack(tf.shape(image)[:2])]


# timm's legacy_se* checkpoints (0.485, 0.456, 0.406 and 0.229, 0.224, 0.225 of 0..1)
IMAGENET = Preprocessing(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
# the authors' own: mean values 104, 117, 123 of BGR in their prototxts
CAFFE = Preprocessing(mean=(123.0, 117.0, 104.0), std=(1.0, 1.0, 1.0))
MODES = {"torch": IMAGENET, "caffe": CAFFE}


def preprocess_input(x, data_format=None, mode="torch"):
    """Images of 0..255 RGB -> the input of ImageNet's networks, float32.

    A network's own `model.preprocessing.normalize` is the same, and right for every network.

    Args:
        x: an array or tensor (..., H, W, 3), or (..., 3, H, W) with "channels_first".
        data_format: None is `keras.config.image_data_format()`.
        mode: "torch" subtracts the mean and divides by the standard deviation; "caffe", for weights read from
            `.caffemodel` files, subtracts (123, 117, 104). Both keep the order RGB.

    Raises:
        ValueError: for another mode or data format.
    """
    if mode not in MODES:
        raise ValueError(f"`mode` must be one of {list(MODES)}. Received: mode={mode!r}")
    if data_format not in (None, "channels_last", "channels_first"):
        raise ValueError(
            f"`data_format` must be None, 'channels_last' or 'channels_first'. Received: data_format={data_format!r}"
        )
    result = MODES[mode].normalize(x, data_format)
    return ops.convert_to_numpy(result) if isinstance(x, np.ndarray) else result


class ImageNetClass(NamedTuple):
    """A class: its id in WordNet, its name, and its place in the authors' output order."""

    wordnet_id: str
    name: str
    caffe_index: int


@cache
def imagenet_classes():
    """The 1,000 classes in the standard order, that of their WordNet ids."""
    rows = files("keras_senet").joinpath("imagenet_classes.txt").read_text(encoding="ascii").splitlines()
    return tuple(ImageNetClass(wordnet_id, name, int(index)) for wordnet_id, name, index in map(str.split, rows))


@cache
def class_order():
    """For each class of the standard order its place in the authors' outputs: `caffe_outputs[..., class_order()]`."""
    return np.array([imagenet_class.caffe_index for imagenet_class in imagenet_classes()])


def decode_predictions(preds, top=5):
    """The likeliest classes of each image: lists of (WordNet id, name, score), the highest score first.

    Args:
        preds: probabilities or logits (N, 1000) of a network for ImageNet.
        top: how many classes.

    Raises:
        ValueError: for another shape or another number of classes.
    """
    scores = np.asarray(ops.convert_to_numpy(preds))
    classes = imagenet_classes()
    if scores.ndim != 2 or scores.shape[1] != len(classes):
        raise ValueError(f"`preds` must have the shape (N, {len(classes)}). Received: preds of shape {scores.shape}")
    if type(top) is not int or not 1 <= top <= len(classes):
        raise ValueError(f"`top` must be an integer of 1..{len(classes)}. Received: top={top!r}")
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return [
        [(classes[i].wordnet_id, classes[i].name, float(row[i])) for i in indices]
        for indices, row in zip(best, scores, strict=True)
    ]
