"""RoIAlign (He et al., arXiv 1703.06870) from the maps of a pyramid."""

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_senet.detection import boxes as box


def sides(maps) -> tuple:
    """The height and width of images or maps (N, H, W, C): numbers where they are known."""
    height, width = maps.shape[1:3]
    known = tf.unstack(tf.shape(maps)[1:3])
    return (known[0] if height is None else height, known[1] if width is None else width)


def levels_of(rois, canonical: float, first: int = 2, last: int = 5) -> tf.Tensor:
    """The level, int32 (N,), that each box (N, 4) is pooled from: a box with this side from P4, one
    of twice the side from P5 (Lin et al., arXiv 1612.03144, equation 1).
    """
    side = tf.sqrt(box.area(rois))
    level = tf.floor(4 + tf.math.log(side / canonical) / math.log(2) + 1e-6)
    return tf.cast(tf.clip_by_value(level, first, last), tf.int32)


def pool(maps: Sequence, images, rois, levels, *, side: int, points: int) -> tf.Tensor:
    """The features (N, side, side, C) of boxes, each from its own level.

    Each bin is the mean over `points` x `points` bilinear samples; samples more than a pixel
    outside of the map are 0. Boxes are not shifted by half a pixel (`aligned=False` of torchvision)
    and have at least one pixel of the map.

    Args:
        maps: of P2, P3, ..., each (images, H, W, C).
        images: int32 (N,), the image of each box.
        rois: float32 (N, 4), in pixels of the images.
        levels: int32 (N,), as `levels_of` gives them.
    """
    # One table of all maps: every box is pooled once, in a static shape. The gradient is the same
    # in every run on a CPU; that of `crop_and_resize` is not.
    table = tf.concat([tf.reshape(each, (-1, each.shape[-1])) for each in maps], axis=0)
    sizes = tf.stack([tf.stack(sides(each)) for each in maps])
    counts = tf.stack([tf.size(each[..., 0]) for each in maps])
    starts = tf.cumsum(counts, exclusive=True)
    index = levels - 2
    size = tf.gather(sizes, index)
    start = tf.gather(starts, index) + images * size[:, 0] * size[:, 1]
    scale = tf.pow(0.5, tf.cast(levels, tf.float32))[:, None]
    upper_left, lower_right = rois[:, :2] * scale, rois[:, 2:] * scale
    bins = tf.maximum(lower_right - upper_left, 1.0) / side
    places, weights = [], []
    for i in range(points):
        y, y_weights = _sample(upper_left[:, 1], bins[:, 1], (i + 0.5) / points, side, size[:, 0])
        for j in range(points):
            x, x_weights = _sample(
                upper_left[:, 0], bins[:, 0], (j + 0.5) / points, side, size[:, 1]
            )
            for row, row_weight in zip(y, y_weights, strict=True):
                rows = (start[:, None] + row * size[:, 1:])[:, :, None]
                for column, column_weight in zip(x, x_weights, strict=True):
                    places.append(rows + column[:, None, :])
                    weights.append(row_weight[:, :, None] * column_weight[:, None, :])
    return _sum_weighted(table, tf.stack(places), tf.stack(weights) / points**2)


@tf.custom_gradient
def _sum_weighted(table, places, weights) -> Any:
    """The sum of as many rows of a table (rows, C) as `places` and `weights`, (samples, N, side,
    side), say: (N, side, side, C).

    One sample after the other, forwards and backwards: all at once, and so without control
    dependencies too, those of 1,024 boxes with 256 channels take 1 GB and more.
    """
    count, shape = places.shape[0], tf.shape(table)  # zeros_like would keep the table for its shape
    weights = tf.cast(weights, table.dtype)[..., None]
    total = tf.gather(table, places[0]) * weights[0]
    for sample in range(1, count):
        with tf.control_dependencies([total]):
            total += tf.gather(table, tf.identity(places[sample])) * weights[sample]

    def gradient(upstream):
        spread = tf.zeros(shape, upstream.dtype)
        for sample in range(count):
            with tf.control_dependencies([spread]):
                each = upstream * tf.identity(weights[sample])
            spread = tf.tensor_scatter_nd_add(spread, places[sample][..., None], each)
        return spread, None, None

    return total, gradient


def _sample(start, bins, offset, side, length):
    """Along one axis, for each bin: the two places (N, side) that a sample lies between, and their
    weights.
    """
    position = start[:, None] + (tf.range(side, dtype=tf.float32) + offset) * bins[:, None]
    length = length[:, None]
    extent = tf.cast(length, tf.float32)
    inside = tf.cast((position >= -1) & (position <= extent), tf.float32)
    position = tf.clip_by_value(position, 0.0, extent - 1)
    before = tf.cast(position, tf.int32)
    after = tf.minimum(before + 1, length - 1)
    part = position - tf.cast(before, tf.float32)
    return (before, after), ((1 - part) * inside, part * inside)
