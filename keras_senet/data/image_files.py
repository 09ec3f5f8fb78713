"""Datasets that are image files."""

import copy
import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from keras_senet.data.sources import Encoded
from keras_senet.files import printable, read_bytes

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
