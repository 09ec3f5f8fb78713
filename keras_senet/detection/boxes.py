"""Boxes (..., 4) of x1, y1, x2, y2 in pixels, float32, without "+ 1"."""

import math

import tensorflow as tf

LARGEST_CHANGE = math.log(1000 / 16)  # of a logarithm of a side (Detectron)


def area(boxes) -> tf.Tensor:
    """(..., 4) -> (...) square pixels."""
    x1, y1, x2, y2 = tf.unstack(boxes, axis=-1)
    return (x2 - x1) * (y2 - y1)


def short_side(boxes) -> tf.Tensor:
    """(..., 4) -> (...), the smaller of width and height."""
    x1, y1, x2, y2 = tf.unstack(boxes, axis=-1)
    return tf.minimum(x2 - x1, y2 - y1)


def iou(boxes, others) -> tf.Tensor:
    """(N, 4), (M, 4) -> (N, M), the intersection of each pair over its union."""
    a, b = boxes[:, None], others[None]
    sides = tf.minimum(a[..., 2:], b[..., 2:]) - tf.maximum(a[..., :2], b[..., :2])
    common = tf.reduce_prod(tf.maximum(sides, 0), axis=-1)
    return tf.math.divide_no_nan(common, area(a) + area(b) - common)


def clip(boxes, size) -> tf.Tensor:
    """Boxes within an image of (height, width)."""
    size = tf.cast(size, boxes.dtype)
    return tf.clip_by_value(boxes, 0.0, tf.stack([size[1], size[0], size[1], size[0]]))


def scale(boxes, factor) -> tf.Tensor:
    """Boxes in an image that is enlarged by `factor`, (vertically, horizontally)."""
    factor = tf.cast(factor, boxes.dtype)
    return boxes * tf.stack([factor[1], factor[0], factor[1], factor[0]])


def flip(boxes, width) -> tf.Tensor:
    """Boxes in the mirrored image of this width."""
    x1, y1, x2, y2 = tf.unstack(boxes, axis=-1)
    return tf.stack([width - x2, y1, width - x1, y2], axis=-1)


def encode(truth, boxes, weights) -> tf.Tensor:
    """How the truth (..., 4) differs from boxes (..., 4): shifts of the centre in sides, and the
    logarithms of the ratios of the sides, times `weights`.
    """
    (x, y, w, h), (tx, ty, tw, th) = _centers(boxes), _centers(truth)
    shifts = ((tx - x) / w, (ty - y) / h, tf.math.log(tw / w), tf.math.log(th / h))
    return tf.stack(shifts, axis=-1) * tf.constant(weights, truth.dtype)


def decode(deltas, boxes, weights) -> tf.Tensor:
    """The boxes that differ from boxes (..., 4) by deltas (..., 4): the inverse of `encode`; a side
    grows at most 1000 / 16 fold.
    """
    x, y, w, h = _centers(boxes)
    dx, dy, dw, dh = tf.unstack(deltas / tf.constant(weights, deltas.dtype), axis=-1)
    x, y = x + dx * w, y + dy * h
    w = w * tf.exp(tf.minimum(dw, LARGEST_CHANGE)) / 2
    h = h * tf.exp(tf.minimum(dh, LARGEST_CHANGE)) / 2
    return tf.stack([x - w, y - h, x + w, y + h], axis=-1)


def _centers(boxes):
    """Centres and sides: x, y, width, height."""
    x1, y1, x2, y2 = tf.unstack(boxes, axis=-1)
    return x1 + (x2 - x1) / 2, y1 + (y2 - y1) / 2, x2 - x1, y2 - y1
