"""From images of 0..255 RGB to a network's input."""

import math
import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec
from numbers import Real

import numpy as np

from keras_senet.extras import require
from keras_senet.fields import check_choice, check_field, is_integer, plain
from keras_senet.files import printable, read_bytes

# Each interpolation, and TensorFlow's name of its kernel.
INTERPOLATIONS = {"bilinear": "triangle", "bicubic": "keyscubic"}
RADIUS = 2  # of the wider kernel, in pixels
MAX_ASPECT = 4  # only the centre of longer images is resized
MAX_SIZE = 4096  # pixels: more is a mistake, or a file meant to exhaust the memory


@dataclass(frozen=True)
class Preprocessing:
    """What turns an image into a network's input: `(x - mean) / std` per channel, of an image of
    `size` x `size` pixels.

    `mean` and `std` are in units of 0..255 RGB. `size` is the height and width of a square, or a
    pair of both. `crop_fraction` is the fraction of the resized image's side that the centre crop
    keeps; `interpolation` ("bilinear" or "bicubic") is that of the resizing, antialiased. `upright`
    says whether an image file is rotated as its EXIF orientation says, as viewers show it.

    Raises:
        ValueError: for any other value, naming it.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int | tuple[int, int] = 224
    crop_fraction: float = 0.875
    interpolation: str = "bilinear"
    upright: bool = True

    def __post_init__(self):
        for name, value in vars(self).items():
            value = value.tolist() if isinstance(value, np.ndarray) else value
            value = tuple(value) if isinstance(value, list) else value
            object.__setattr__(self, name, plain(value))
        if not (_are_numbers(self.mean) and _are_numbers(self.std) and min(self.std) > 0) or (
            len(self.mean) != len(self.std)
        ):
            raise ValueError(
                "`mean` and `std` must be finite, one number per channel, `std` above 0. "
                f"Received: mean={self.mean!r}, std={self.std!r}"
            )
        if not is_size(self.size):
            raise ValueError(
                f"`size` must be an integer of 1..{MAX_SIZE}, or a pair of them, height and width. "
                f"Received: size={str(self.size)[:40]}"
            )
        if self.height == self.width:
            object.__setattr__(self, "size", self.height)  # so that equal ones compare equal
        if not _are_numbers((self.crop_fraction,)) or not 0.1 <= self.crop_fraction <= 1:
            raise ValueError(f"`crop_fraction` must be 0.1..1. Received: {self.crop_fraction!r}")
        check_choice("interpolation", self.interpolation, INTERPOLATIONS)
        check_field(self, "upright", isinstance(self.upright, bool), "True or False")

    @property
    def height(self) -> int:
        """Of the network's images, in pixels."""
        return sides(self.size)[0]

    @property
    def width(self) -> int:
        """Of the network's images, in pixels."""
        return sides(self.size)[1]

    @classmethod
    def scaled(cls, size: int | tuple[int, int]) -> "Preprocessing":
        """0..255 -> -1..1, for whole images of `size` x `size` pixels."""
        return cls((127.5, 127.5, 127.5), (127.5, 127.5, 127.5), size, crop_fraction=1.0)

    def for_sides(self, height: int | None, width: int | None) -> "Preprocessing":
        """The same for images of another size, if there can be such; None keeps a side."""
        size = (height or self.height, width or self.width)
        return replace(self, size=size) if is_size(size) else self

    def for_channels(self, channels: int) -> "Preprocessing":
        """The same for another number of channels: each gets the average of mean and of std."""
        if channels == len(self.mean):
            return self
        mean, std = (sum(values) / len(values) for values in (self.mean, self.std))
        return replace(self, mean=(mean,) * channels, std=(std,) * channels)

    def normalize(self, images, data_format: str | None = None):
        """(..., H, W, 3) of 0..255 RGB, any dtype -> float32, the network's input."""
        import keras  # which exported files are run without
        from keras import ops

        data_format = data_format or keras.config.image_data_format()
        shape = (-1,) if data_format == "channels_last" else (-1, 1, 1)
        mean, std = (
            ops.reshape(ops.convert_to_tensor(v, "float32"), shape) for v in (self.mean, self.std)
        )
        return (ops.cast(images, "float32") - mean) / std

    @property
    def short_side(self) -> int | tuple[int, int]:
        """The short side of the resized image that the centre crop is taken from, in pixels; for a
        pair, the height and width that the resized image covers.
        """
        return self.short_side_for(self.size)

    def short_side_for(self, size: int | tuple[int, int]) -> int | tuple[int, int]:
        """The same for a crop of another size; a pair for a pair."""
        if isinstance(size, tuple):
            height, width = size
            return math.floor(height / self.crop_fraction), math.floor(width / self.crop_fraction)
        return math.floor(size / self.crop_fraction)

    def crop(self, image):
        """One image (H, W, C) of 0..255 -> float32 (height, width, C) of 0..255: its centre,
        antialiased.

        The image is resized in proportion, until it just covers `size / crop_fraction`, rounded
        down: for a square the short side becomes that. Values are whole numbers again. Works on
        TensorFlow's tensors, also inside `tf.data` and exported graphs. Of long images only the
        part that is kept is resized.

        Raises:
            MissingExtraError: if TensorFlow is not installed.
        """
        return crop_center(resize(image, self.short_side, self.interpolation), self.size)

    def read(self, path) -> np.ndarray:
        """The file of one JPEG, PNG, BMP, GIF or WebP image, cropped as `crop` does: float32
        (height, width, C).

        Values are 0..255; C is 3, RGB, or 1, luminance, by the length of `mean`. The image is
        upright, as its EXIF orientation says, unless `upright` is False; it may have
        `keras_senet.images.headers.MAX_PIXELS` at most.

        Raises:
            ValueError: if it is not an image that can be decoded, or for another number of
                channels.
            OSError: if it cannot be read.
            MissingExtraError: if neither TensorFlow nor Pillow, which decode it, is installed.
        """
        channels = len(self.mean)
        if channels not in (1, 3):
            raise ValueError(
                f"An image file has 1 or 3 channels, this network takes {channels}: "
                f"{printable(path)!r}"
            )
        content = read_bytes(path)
        # Both give the same pixels, but for halves that are rounded; to import TensorFlow takes
        # seconds.
        is_light = sys.modules.get("tensorflow") is None and find_spec("PIL") is not None
        try:
            return self._read_by_pillow(content) if is_light else self._read(content)
        except ValueError as error:
            raise ValueError(
                f"Not an image that can be decoded: {printable(path)!r} ({error})"
            ) from error

    def _read(self, content):
        tf = require("tensorflow", "tensorflow")

        from keras_senet.images.decoding import decode, describe_error, read_orientation

        try:
            orientation = read_orientation(content) if self.upright else 1
            return self.crop(decode(content, len(self.mean), orientation)).numpy()
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(describe_error(error)) from error

    def _read_by_pillow(self, content):
        from keras_senet.images import pillow

        image = pillow.decode(content, len(self.mean), self.upright)
        covered, size = sides(self.short_side), sides(self.size)
        return pillow.crop(image, covered, size, self.interpolation, MAX_ASPECT)


def _are_numbers(values):
    """Whether it is a tuple of finite numbers, at least one."""
    return (
        isinstance(values, tuple)
        and bool(values)
        and all(isinstance(n, Real) and math.isfinite(n) for n in values)
    )


def sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a size: the side of a square, or a pair."""
    return size if isinstance(size, tuple) else (size, size)


def is_size(value) -> bool:
    """Whether it is an integer of 1..MAX_SIZE, or a pair of them."""
    pair = value if isinstance(value, tuple) else (value, value)
    return len(pair) == 2 and all(is_integer(n) and 1 <= n <= MAX_SIZE for n in pair)


def resize(image, short: int | tuple[int, int], interpolation: str):
    """One image (H, W, C) of 0..255 -> float32 of 0..255 whose short side has `short` pixels:
    antialiased, rounded.

    The long side is in proportion, rounded down. With a pair the image covers this height and
    width: one side equals the pair's, the other one is at least as long. Works on TensorFlow's
    tensors, also inside `tf.data`. Of an image that is more than `MAX_ASPECT` times as long as
    that, only the centre is computed, with the values of the whole: the rest would take gigabytes.
    """
    tf = require("tensorflow", "tensorflow")
    image = tf.convert_to_tensor(image)
    size, covered = tf.cast(tf.shape(image)[:2], tf.int64), tf.constant(sides(short), tf.int64)
    # The side that is just covered.
    fixed = tf.where(size[0] * covered[1] <= size[1] * covered[0], 0, 1)
    whole = size * covered[fixed] // size[fixed]
    # What is omitted before and after is even, so that the centre stays where it is.
    kept = tf.minimum(whole, MAX_ASPECT * covered + (whole - MAX_ASPECT * covered) % 4)
    omitted = tf.cast((whole - kept) // 2, tf.float64)  # before what is kept
    # A pixel of the result, in pixels of the image.
    pixel = tf.cast(size, tf.float64) / tf.cast(whole, tf.float64)
    margin = RADIUS * tf.maximum(pixel, 1) + 1
    first = tf.cast(tf.maximum(tf.floor(omitted * pixel - margin), 0), tf.int64)
    end = (omitted + tf.cast(kept, tf.float64)) * pixel + margin
    last = tf.cast(tf.math.ceil(end), tf.int64)
    translation = tf.cast(first, tf.float64) / pixel - omitted
    resized = tf.raw_ops.ScaleAndTranslate(
        images=image[None, first[0] : last[0], first[1] : last[1]],
        size=tf.cast(kept, tf.int32),
        scale=tf.cast(whole, tf.float32) / tf.cast(size, tf.float32),
        translation=tf.cast(translation, tf.float32),
        kernel_type=INTERPOLATIONS[interpolation],
        antialias=True,
    )
    resized = tf.ensure_shape(resized[0], (None, None, image.shape[-1]))
    return tf.clip_by_value(tf.round(resized), 0, 255)


def crop_center(image, size: int | tuple[int, int]):
    """The centre (height, width, C) of an image at least as large; `size` as in `Preprocessing`."""
    tf = require("tensorflow", "tensorflow")
    (top, left), (height, width) = locate_center(image, size), sides(size)
    return tf.ensure_shape(image[top : top + height, left : left + width], (height, width, None))


def locate_center(image, size: int | tuple[int, int]) -> list:
    """The first row and column of the centre (height, width, C) of an image (H, W, C)."""
    tf = require("tensorflow", "tensorflow")
    whole = tf.unstack(tf.shape(image)[:2])
    return [
        tf.cast(tf.round((side - part) / 2), tf.int32)
        for side, part in zip(whole, sides(size), strict=True)
    ]


# timm's legacy_se* checkpoints (0.485, 0.456, 0.406 and 0.229, 0.224, 0.225 of 0..1)
IMAGENET = Preprocessing(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
# the authors' own: mean values 104, 117, 123 of BGR in their prototxts
CAFFE = Preprocessing(mean=(123.0, 117.0, 104.0), std=(1.0, 1.0, 1.0))
MODES = {"torch": IMAGENET, "caffe": CAFFE}


def preprocess_input(x, data_format: str | None = None, mode: str = "torch"):
    """Images of 0..255 RGB -> the input of ImageNet networks, float32.

    `model.preprocessing.normalize` does the same with the numbers of each network.

    Args:
        x: an array or tensor (..., H, W, 3), or (..., 3, H, W) with "channels_first".
        data_format: None is `keras.config.image_data_format()`.
        mode: "torch" subtracts the mean and divides by the standard deviation; "caffe", for weights
            read from `.caffemodel` files, subtracts (123, 117, 104). Both keep the order RGB.

    Raises:
        ValueError: for another mode or data format.
    """
    check_choice("mode", mode, MODES)
    check_choice("data_format", data_format, (None, "channels_last", "channels_first"))
    from keras import ops

    result = MODES[mode].normalize(x, data_format)
    return ops.convert_to_numpy(result) if isinstance(x, np.ndarray) else result
