"""Pictures inside the page, as data: URIs."""

import base64
import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_senet.data import Dataset, Encoded
from keras_senet.evaluation.protocols import Crops, Whole
from keras_senet.images.decoding import shrink

THUMBNAIL = 96  # pixels per side at most
SMALL = 64  # pixels per side: up to here PNG takes less than JPEG, and is exact
CELLS = 200  # per side of a confusion matrix's picture, at most
# Heat 0, 0.25 .. 1 as colours that rise in brightness (matplotlib's inferno), and their opacity
HEAT = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
OPACITY = 0.65

RIGHT, WRONG = (76, 132, 235), (226, 84, 48)  # visible on white and on black


class Picture(NamedTuple):
    """A picture in the page: its data: URI, width and height."""

    uri: str
    width: int
    height: int


def render_view(dataset: Dataset | Encoded, index: int, view: Crops | Whole) -> np.ndarray:
    """The view of an image that the network predicted from: uint8 (H, W, C)."""
    raw, _ = dataset.fetch(np.asarray([index]))
    return view(dataset.decode(tf.constant(raw)[0]))[0].numpy()


def thumbnail(image: np.ndarray, most: int = THUMBNAIL) -> Picture:
    """An image uint8 (H, W, C) as a small `Picture`, of at most so many pixels per side."""
    return _encode(shrink(image, most))


def heat_thumbnail(image: np.ndarray, heat: np.ndarray) -> Picture:
    """The thumbnail of an image under a heat map (h, w) of 0..1: 0 is dark, 1 is yellow."""
    image = shrink(image, THUMBNAIL)
    heat = tf.image.resize(heat[..., None], image.shape[:2]).numpy()[..., 0]
    at = np.linspace(0, 1, len(HEAT))
    colours = np.stack([np.interp(heat, at, channel) for channel in zip(*HEAT, strict=True)], -1)
    mixed = (1 - OPACITY) * image.mean(axis=-1, keepdims=True) + OPACITY * colours
    return _encode(mixed.round().astype("uint8"))


def _encode(image):
    height, width, channels = image.shape
    if max(height, width) <= SMALL or channels not in (1, 3):
        uri = _encode_uri("png", tf.io.encode_png(image))
    else:
        uri = _encode_uri("jpeg", tf.io.encode_jpeg(image, quality=85))
    return Picture(uri, width, height)


def confusion_picture(confusion: np.ndarray) -> tuple[str, int]:
    """(data: URI, classes per pixel) of a PNG: blue where predictions are correct, red where wrong,
    denser for a larger fraction.

    Args:
        confusion: counts [true class, predicted class]; of more than 200 classes neighbours share a
            pixel.
    """
    classes = len(confusion)
    together = math.ceil(classes / CELLS)
    right = np.diag(confusion.diagonal())
    right, wrong, all_ = (
        _add_blocks(counts, together) for counts in (right, confusion - right, confusion)
    )
    fractions = np.maximum(right, wrong) / np.maximum(all_.sum(axis=1, keepdims=True), 1)
    pixels = np.where((right >= wrong)[..., None], RIGHT, WRONG)
    opacity = np.where(fractions > 0, 255 * (0.15 + 0.85 * np.sqrt(fractions)), 0)
    image = np.concatenate([pixels, opacity[..., None]], axis=-1).round().astype("uint8")
    return _encode_uri("png", tf.io.encode_png(image)), together


def _add_blocks(counts, together):
    """The sums over blocks of `together` rows and columns."""
    starts = np.arange(0, len(counts), together)
    return np.add.reduceat(np.add.reduceat(counts, starts, axis=0), starts, axis=1)


def _encode_uri(kind, encoded):
    return f"data:image/{kind};base64,{base64.b64encode(encoded.numpy()).decode()}"
