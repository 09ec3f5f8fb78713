"""The boxes that proposals begin from."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_senet.fields import check_field, require_types


@dataclass(frozen=True)
class Anchors:
    """Boxes around each place of the feature maps P2, P3, ..., all of one size per map.

    sizes   the side of a square box, in pixels, one per map
    ratios  of height to width, at equal area

    Corners are rounded, half to even, and stand around the upper left corner of a place's pixels,
    as torchvision's.

    Raises:
        ValueError: for any other value, naming the field, the value and what is accepted.
    """

    sizes: tuple[float, ...] = (32, 64, 128, 256, 512)
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)

    def __post_init__(self):
        require_types(self)
        fits = len(self.sizes) == 5 and all(0 < each < math.inf for each in self.sizes)
        check_field(self, "sizes", fits, "five numbers above 0, of P2 to P6")
        fits = bool(self.ratios) and all(0 < each < math.inf for each in self.ratios)
        check_field(self, "ratios", fits, "numbers above 0")

    def shapes(self, level: int) -> np.ndarray:
        """The boxes of one place at 0, 0 of a level (0 is P2), float32 (ratios, 4)."""
        roots = np.sqrt(np.float32(self.ratios))
        size = np.float32(self.sizes[level])
        sides = np.stack([size / roots, size * roots], axis=-1)
        return np.round(np.concatenate([-sides, sides], axis=-1) / 2).astype("float32")

    def boxes(self, level: int, indices, grid, size) -> Any:
        """The anchors (..., 4) of a level with these indices (...): row by row of the grid (rows,
        columns), and ratio by ratio within a place. `size` is the padded image's (height, width).

        They are computed, not looked up: a large table of them would be quantised in a file with
        integer weights.
        """
        import tensorflow as tf  # which the command line is read without

        count = len(self.ratios)
        place = indices // count
        y = tf.cast(place // grid[1] * (size[0] // grid[0]), tf.float32)
        x = tf.cast(place % grid[1] * (size[1] // grid[1]), tf.float32)
        return tf.gather(self.shapes(level), indices % count) + tf.stack([x, y, x, y], axis=-1)
