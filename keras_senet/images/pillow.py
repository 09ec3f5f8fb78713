"""Images without TensorFlow, whose import takes longer than a prediction: decoded by Pillow and
resized by NumPy, with the pixels that `decoding` and `Preprocessing.crop` compute.
"""

import io
import warnings

import numpy as np

from keras_senet.images import headers


def decode(content: bytes, channels: int, upright: bool = True) -> np.ndarray:
    """An encoded image -> uint8 (H, W, channels) of 0..255, as `decoding.decode` does it.

    Raises:
        ValueError: if it cannot be decoded; the message is the reason.
    """
    from PIL import Image

    header = headers.read_header(content)
    if problem := headers.find_problem(header):
        raise ValueError(problem)
    try:
        with (
            warnings.catch_warnings(action="ignore"),  # of odd metadata
            Image.open(io.BytesIO(content)) as picture,
        ):
            # The first picture of a GIF may be larger than its header says
            opened = header._replace(width=picture.width, height=picture.height)
            problem = headers.find_problem(opened)
            image = np.empty(0) if problem else _to_array(picture, channels)
    except Exception as error:  # Pillow's readers raise many kinds
        raise ValueError("it is damaged or not complete") from error
    if problem:
        raise ValueError(problem)
    return turn(image, header.orientation) if upright else image


def _to_array(picture, channels):
    """The pixels, uint8 (H, W, channels)."""
    from PIL import Image

    picture.load()
    if picture.mode.startswith("I"):  # 16 bits: the upper eight
        picture = Image.fromarray((np.asarray(picture) // 256).astype("uint8"))
    picture = picture.convert("RGB")  # of a palette, before its luminance is taken
    pixels = np.asarray(picture.convert("L") if channels == 1 else picture)
    return pixels.reshape(*pixels.shape[:2], channels)


def turn(image: np.ndarray, orientation: int) -> np.ndarray:
    """An image (H, W, C) as stored -> upright, by its EXIF orientation 1..8."""
    image = image.transpose(1, 0, 2) if orientation > 4 else image
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return image[::rows, ::columns]


def crop(
    image: np.ndarray,
    covered: tuple[int, int],
    size: tuple[int, int],
    interpolation: str,
    max_aspect: int,
) -> np.ndarray:
    """The centre, float32 of `size`, of an image (H, W, C) that is resized so that it just covers
    `covered`: antialiased, rounded, with the values of `Preprocessing.crop`.
    """
    fixed = 0 if image.shape[0] * covered[1] <= image.shape[1] * covered[0] else 1
    result = image
    # First the axis of which less is left: a row of a long image may have millions of pixels.
    for axis in sorted((0, 1), key=lambda axis: size[axis] / image.shape[axis]):
        length, side = image.shape[axis], covered[axis]
        whole = length * covered[fixed] // image.shape[fixed]
        kept = min(whole, max_aspect * side + (whole - max_aspect * side) % 4)
        first = (whole - kept) // 2 + round((kept - size[axis]) / 2)
        along = result.swapaxes(0, axis)
        along = _resample(along, first, size[axis], length / whole, interpolation)
        result = along.swapaxes(0, axis)
    return np.clip(np.rint(result), 0, 255)


def _resample(image, first, count, pixel, interpolation):
    """Rows `first` to `first + count` of an image (H, W, C), resized; `pixel` is a row's height."""
    kernel, radius = KERNELS[interpolation]
    width = max(pixel, 1.0)
    rows = np.empty((count, *image.shape[1:]), "float32")
    for i in range(count):
        centre = (first + i + 0.5) * pixel
        start = max(int(np.ceil(centre - radius * width - 0.5)), 0)
        end = min(int(np.floor(centre + radius * width - 0.5)), len(image) - 1) + 1
        weights = kernel(np.abs(np.arange(start, end) + 0.5 - centre) / width)
        weights = (weights / weights.sum()).astype("float32")
        rows[i] = np.tensordot(weights, image[start:end].astype("float32", copy=False), 1)
    return rows


def _triangle(x):
    return np.maximum(1 - x, 0)


def _keys_cubic(x):
    """Keys, IEEE ASSP 29, 1981, with a = -0.5."""
    inner = (1.5 * x - 2.5) * x * x + 1
    outer = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, inner, np.where(x < 2, outer, 0))


KERNELS = {"bilinear": (_triangle, 1), "bicubic": (_keys_cubic, 2)}
