"""Pictures inside the page, as data: URIs."""

import base64
import math

import numpy as np
import tensorflow as tf

from keras_senet.data import Dataset, Encoded
from keras_senet.evaluation.protocols import Crops, Whole

THUMBNAIL = 96  # pixels per side at most
SMALL = 64  # pixels per side: up to here PNG takes less than JPEG, and is exact
CELLS = 200  # per side of a confusion matrix's picture, at most

RIGHT, WRONG = (76, 132, 235), (226, 84, 48)  # visible on white and on black


def thumbnail(dataset: Dataset | Encoded, index: int, view: Crops | Whole) -> tuple[str, int, int]:
    """(data: URI, width, height) of the view of an image that the network predicted from."""
    raw, _ = dataset.fetch(np.asarray([index]))
    image = view(dataset.decode(tf.constant(raw)[0]))[0].numpy()
    height, width, channels = image.shape
    shrink = THUMBNAIL / max(height, width)
    if shrink < 1:
        height, width = (max(1, round(n * shrink)) for n in (height, width))
        image = tf.cast(tf.round(tf.image.resize(image, (height, width), "area")), tf.uint8)
    if max(height, width) <= SMALL or channels not in (1, 3):
        return _encode_uri("png", tf.io.encode_png(image)), width, height
    return _encode_uri("jpeg", tf.io.encode_jpeg(image, quality=85)), width, height


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
