"""Datasets that are image files."""

import copy
import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from keras_senet.data.sources import Encoded
from keras_senet.files import printable, read_bytes
from keras_senet.images.tables import Table

CHUNK, THREADS = 1000, 16  # files whose sizes a thread reads; threads, which wait for the disk


class ImageFiles(Encoded):
    """Labelled image files, in this order.

    Args:
        files: their paths.
        names: what tells them apart wherever they are, such as paths relative to a folder.
        labels: indices of their classes.
        class_names: of all classes.
        upright: whether images are rotated as their EXIF orientation says.
    """

    def __init__(
        self,
        files: Sequence[str],
        names: Sequence[str],
        labels: Sequence[int],
        class_names: Sequence[str],
        upright: bool = True,
    ):
        super().__init__(class_names, (None, None, 3))
        self._files, self._names, self.upright = list(files), list(names), upright
        self.labels = np.array(labels, "int64")

    def __len__(self) -> int:
        return len(self._files)

    def name_of(self, index: int) -> str:
        return printable(self._files[index])

    def names(self) -> list[str]:
        return self._names

    def select(self, indices: np.ndarray) -> "ImageFiles":
        selected = copy.copy(self)
        selected._files, selected._names = (
            [each[i] for i in indices] for each in (self._files, self._names)
        )
        selected.labels = self.labels[indices]
        return selected

    def listing(self) -> dict[str, int]:
        with ThreadPoolExecutor(THREADS) as pool:
            chunks = [self._files[i : i + CHUNK] for i in range(0, len(self), CHUNK)]
            sizes = pool.map(lambda files: list(map(os.path.getsize, files)), chunks)
            return dict(zip(self._names, itertools.chain.from_iterable(sizes), strict=True))

    def fetch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        images = np.empty(len(indices), object)
        for place, index in enumerate(indices):
            images[place] = read_bytes(self._files[index])
        return images, self.labels[indices]


class TableDataset(ImageFiles):
    """The image files of the rows of a split of a table. Raises as `Table.rows_of` does."""

    def __init__(self, table: Table, split: str, upright: bool = True):
        rows = table.rows_of(split)
        files, names = [row.file for row in rows], [row.path for row in rows]
        indices = {name: index for index, name in enumerate(table.class_names)}
        labels = [indices[row.label] for row in rows]
        super().__init__(files, names, labels, table.class_names, upright)

    def listing(self) -> dict[str, int]:
        """The names and classes of the files, and their sizes: {"name (class)": bytes}."""
        classes = [self.class_names[label] for label in self.labels]
        sizes = super().listing().values()
        names = (f"{name} ({label})" for name, label in zip(self._names, classes, strict=True))
        return dict(zip(names, sizes, strict=True))
