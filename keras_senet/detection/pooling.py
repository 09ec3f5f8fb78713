"""RoIAlign (He et al., arXiv 1703.06870) from the maps of a pyramid."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from keras_senet.detection import boxes as box

BOXES = 256  # whose gradient is computed at once
# From a place to the 3 x 3 around it, in the order of a kernel
DOWN = (-1, -1, -1, 0, 0, 0, 1, 1, 1)
RIGHT = (-1, 0, 1) * 3


def map_sides(maps) -> tuple:
    """The height and width of images or maps (N, H, W, C): numbers where they are known."""
    height, width = maps.shape[1:3]
    known = tf.unstack(tf.shape(maps)[1:3])
    return (known[0] if height is None else height, known[1] if width is None else width)


def levels_of(rois, canonical: float) -> tf.Tensor:
    """The level 2..5, int32 (N,), that each box (N, 4) is pooled from: a box with this side from
    P4, one of twice the side from P5 (Lin et al., arXiv 1612.03144, equation 1).
    """
    side = tf.sqrt(box.area(rois))
    level = tf.floor(4 + tf.math.log(side / canonical) / math.log(2) + 1e-6)
    return tf.cast(tf.clip_by_value(level, 2, 5), tf.int32)


class MapTable(NamedTuple):
    """All maps of a pyramid as the rows of one table: every box is pooled once, in a static shape.

    rows    (rows, C): map by map, image by image, row by row
    sizes   int32 (maps, 2), the height and width of each
    starts  int32 (maps,), the first row of each
    """

    rows: Any
    sizes: Any
    starts: Any


def tabulate(maps: Sequence) -> MapTable:
    """The `MapTable` of the maps of P2, P3, ..., each (images, H, W, C)."""
    counts = tf.stack([tf.size(each[..., 0]) for each in maps])
    return MapTable(
        tf.concat([tf.reshape(each, (-1, each.shape[-1])) for each in maps], axis=0),
        tf.stack([tf.stack(map_sides(each)) for each in maps]),
        tf.cumsum(counts, exclusive=True),
    )


def take_around(table: MapTable, images, places) -> tuple[MapTable, tf.Tensor]:
    """The table, and for each of N places of its maps the features (N, 9 * C) of the 3 x 3 places
    around it, zeros outside of the map: what a convolution of this size sees.

    What they add to the gradient of the table is added to that of the returned one, in place.

    Args:
        images: int32 (N,), the image of each.
        places: int32 (N,), the numbers of the places in an image: map by map, row by row.
    """
    areas = table.sizes[:, 0] * table.sizes[:, 1]
    firsts = tf.cumsum(areas, exclusive=True)
    level = tf.reduce_sum(tf.cast(places[:, None] >= firsts, tf.int32), axis=1) - 1
    height, width = (tf.gather(table.sizes[:, i], level)[:, None] for i in range(2))
    place = (places - tf.gather(firsts, level))[:, None]
    y, x = place // width + DOWN, place % width + RIGHT
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    start = tf.gather(table.starts, level) + images * tf.gather(areas, level)
    taken = tf.where(inside, start[:, None] + y * width + x, 0)
    rows, found = _take_rows(table.rows, taken, tf.cast(inside, table.rows.dtype))
    return table._replace(rows=rows), tf.reshape(found, (-1, 9 * rows.shape[-1]))


@tf.custom_gradient
def _take_rows(table, taken, weights) -> Any:
    """The table (rows, C), and of it the rows `taken` (N, n) times `weights`: (N, n, C)."""
    weights = weights[..., None]

    def gradient(of_table, of_rows):
        return tf.tensor_scatter_nd_add(of_table, taken[..., None], of_rows * weights), None, None

    return (tf.identity(table), tf.gather(table, taken) * weights), gradient


def pool(table: MapTable, images, rois, levels, *, side: int, points: int) -> tf.Tensor:
    """The features (N, side, side, C) of boxes, each from its own level.

    Each bin is the mean over `points` x `points` bilinear samples; samples more than a pixel
    outside of the map are 0. Boxes are not shifted by half a pixel (`aligned=False` of torchvision)
    and have at least one pixel of the map.

    Args:
        table: of the maps.
        images: int32 (N,), the image of each box.
        rois: float32 (N, 4), in pixels of the images.
        levels: int32 (N,), as `levels_of` gives them.
    """
    index = levels - 2
    size = tf.gather(table.sizes, index)
    start = tf.gather(table.starts, index) + images * size[:, 0] * size[:, 1]
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
    return _sum_weighted(table.rows, tf.stack(places), tf.stack(weights) / points**2)


@tf.custom_gradient
def _sum_weighted(table, places, weights) -> Any:
    """The sum of as many rows of a table (rows, C) as `places` and `weights`, (samples, N, side,
    side), say: (N, side, side, C).

    One sample after the other, forwards and backwards, and backwards also some boxes after the
    others: all at once, and so without control dependencies too, those of 1,024 boxes with 256
    channels take 1 GB and more. The gradient is the same in every run on a CPU; that of
    `crop_and_resize` is not.
    """
    count, shape = places.shape[0], tf.shape(table)  # zeros_like would keep the table for its shape
    weights = tf.cast(weights, table.dtype)[..., None]
    total = tf.gather(table, places[0]) * weights[0]
    for sample in range(1, count):
        with tf.control_dependencies([total]):
            total += tf.gather(table, tf.identity(places[sample])) * weights[sample]

    def gradient(upstream):
        spread = tf.zeros(shape, upstream.dtype)
        for first in range(0, places.shape[1], BOXES):
            some = slice(first, first + BOXES)
            for sample in range(count):
                with tf.control_dependencies([spread]):
                    each = upstream[some] * tf.identity(weights[sample, some])
                rows = tf.expand_dims(places[sample, some], -1)
                spread = tf.tensor_scatter_nd_add(spread, rows, each)
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
