"""From an image of any size to a detector's input."""

import math
import os
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_senet.fields import is_integer
from keras_senet.files import printable, read_bytes
from keras_senet.images import headers
from keras_senet.images.decoding import decode, describe_error
from keras_senet.preprocessing import Preprocessing

MULTIPLE = 32  # of the sides of a canvas: the largest stride of a backbone's maps
# How far outside of 0..255 the values of an image may be: cubic and Lanczos filters overshoot edges
MARGIN = 32
HUGE = 2**24  # pixels


class Canvas(NamedTuple):
    """Normalised images with black borders at the right and at the bottom.

    images  (N, H, W, C) float32
    sizes   (N, 2) int32, the height and width of each without its border
    """

    images: tf.Tensor
    sizes: tf.Tensor


def check_images(images) -> None:
    """Raises ValueError for what is no sequence of images, such as the path of one."""
    is_one = isinstance(images, str | os.PathLike) or len(getattr(images, "shape", ())) == 3
    if is_one or not isinstance(images, Iterable):
        given = f"one array of shape {tuple(images.shape)}" if hasattr(images, "shape") else images
        raise ValueError(
            "`images` must be several images, each a path or an array (H, W, C) of 0..255. "
            f"Received: {given!r}"
        )


def read_image(image, channels: int = 3) -> np.ndarray:
    """An image (H, W, C) of 0..255, upright: the path of a file is decoded, an array is returned,
    with what is up to `MARGIN` outside of 0..255 clipped.

    Raises:
        ValueError: for a file that cannot be decoded, an array of another shape or with other
            values, or a side of less than `MULTIPLE` pixels.
        OSError: if the file cannot be read.
    """
    if isinstance(image, str | os.PathLike):
        decoded = decode_image(read_bytes(image), channels, printable(image))
        check_size(decoded.shape, f": {printable(image)!r}")
        return decoded
    accepted = f"An image must be a file or an array (H, W, {channels}) of 0..255"
    if not hasattr(image, "shape"):
        raise ValueError(f"{accepted}. Received: {type(image)}")
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[-1] != channels:
        raise ValueError(f"{accepted}. Received: an array of shape {pixels.shape}")
    check_size(pixels.shape)
    if problem := _find_problem(pixels):
        raise ValueError(f"{accepted}. Received: an array {problem}")
    return pixels if pixels.dtype == "uint8" else pixels.clip(0, 255)


def _find_problem(pixels: np.ndarray) -> str:
    """Why an array does not hold 0..255, or "": what was scaled to 0..1 or normalised would be
    seen as black.
    """
    if pixels.dtype.kind not in "uif":
        return f"of dtype {pixels.dtype}"
    if pixels.dtype == "uint8":
        return ""
    least, largest = float(pixels.min()), float(pixels.max())  # NaN if any is
    if not math.isfinite(least) or not math.isfinite(largest):
        return "with values that are not finite"
    is_outside = least < -MARGIN or largest > 255 + MARGIN
    if is_outside or (least < 0 and largest <= MARGIN):  # normalised, or centred
        return f"of {least:g}..{largest:g}"
    if pixels.dtype.kind == "f" and largest <= 1 and (pixels % 1).any():
        return f"of {least:g}..{largest:g}, which look like 0..1"
    return ""


def decode_image(content: bytes, channels: int, name: str) -> np.ndarray:
    """The image of a file's content, uint8 (H, W, channels), upright.

    Raises:
        ValueError: if it cannot be decoded; names it.
    """
    try:
        with tf.device("CPU:0"):
            return decode(content, channels).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(
            f"Not an image that can be decoded: {name!r} ({describe_error(error)})"
        ) from error


def check_size(shape: Sequence[int], name: str = "") -> None:
    """Raises ValueError for an image (height, width, ...) that is too small; `name` is added."""
    height, width = shape[:2]
    if min(height, width) < MULTIPLE:
        raise ValueError(
            f"An image must have at least {MULTIPLE} pixels on each side. "
            f"Received: {width} x {height} pixels{name}"
        )


def find_size(beginning: bytes, read: Callable[[], bytes], name: str) -> tuple[int, int]:
    """The height and width, upright, of an image that begins so; `read` returns all of it, which is
    needed of some.

    Raises:
        ValueError: if it is too small, or its header is damaged; has its name.
    """
    header = headers.read_header(beginning)
    if header.format != headers.JPEG or not header.height:
        header = headers.read_header(read())
    if problem := headers.find_problem(header):
        raise ValueError(f"{name!r} cannot be used: {problem}")
    check_size(header.upright_size, f": {name!r}")
    return header.upright_size


def check_canvas(canvas) -> tuple[int, int]:
    """The height and width as integers. Raises ValueError unless they are multiples of 32."""
    is_pair = isinstance(canvas, list | tuple | np.ndarray) and len(canvas) == 2
    if not is_pair or not all(
        is_integer(side) and side > 0 and side % MULTIPLE == 0 for side in canvas
    ):
        raise ValueError(
            f"`canvas` must be a height and a width, multiples of {MULTIPLE}. Received: {canvas!r}"
        )
    return int(canvas[0]), int(canvas[1])


def resized_size(
    height: int, width: int, short: int, long: int, canvas: tuple[int, int] | None = None
) -> tuple[int, int]:
    """The height and width of an image whose shorter side gets `short` pixels, or less where the
    longer one would get more than `long`, or where it would not fit in a canvas; rounded down, at
    least 1.
    """
    factor = min(short / min(height, width), long / max(height, width))
    if canvas is not None:
        factor = min(factor, canvas[0] / height, canvas[1] / width)
    return max(1, math.floor(height * factor)), max(1, math.floor(width * factor))


def canvas_size(sizes, multiple: int = MULTIPLE) -> np.ndarray:
    """The height and width, int32 (2,), of a canvas for images of these sizes (N, 2)."""
    largest = np.max(sizes, axis=0)
    return (-(-largest // multiple) * multiple).astype("int32")


def place(image, preprocessing: Preprocessing, size, canvas, flip=False) -> tf.Tensor:
    """One image (H, W, C) of 0..255 -> float32 (*canvas, C): normalised, resized to `size`,
    mirrored if `flip`, with zeros at the right and at the bottom.

    The resizing is bilinear and not antialiased, and after the normalisation, as torchvision's and
    Detectron's: rounded otherwise, a unit near 0 changes gradients by 1e-3 of the largest.
    """
    normalised = preprocessing.normalize(image, "channels_last")
    resized = tf.image.resize(normalised, size, antialias=False)
    mirrored = tf.raw_ops.Reverse(tensor=resized, dims=tf.stack([False, flip, False]))
    border = tf.concat([canvas - size, [0]], axis=0)
    padded = tf.pad(mirrored, tf.stack([tf.zeros_like(border), border], axis=1))
    return tf.ensure_shape(padded, (None, None, image.shape[-1]))


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
    sizes = np.int32([resized_size(*image.shape[:2], short, long, canvas) for image in images])
    padded = canvas_size(sizes) if canvas is None else np.int32(canvas)
    placed = [
        place(_resize_huge(image, size), preprocessing, size, padded)
        for image, size in zip(images, sizes, strict=True)
    ]
    return Canvas(tf.stack(placed), tf.constant(sizes))


def _resize_huge(image, size):
    """An image of more than `HUGE` pixels resized, float32; any other as it is.

    Normalised at its own size, one of 88 megapixels takes 2.6 GB. Resizing is linear and the
    normalisation affine: the order changes rounding only.
    """
    is_huge = image.dtype == "uint8" and math.prod(image.shape[:2]) > HUGE
    return tf.image.resize(image, size, antialias=False) if is_huge else image
