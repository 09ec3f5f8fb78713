"""Datasets that are the arrays of a `.npz` file, named as in the files of `keras.datasets`."""

import io
import lzma
import os
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib import format as npy

from keras_senet.data.sources import Dataset
from keras_senet.images.layout import SPLITS

ENDING = ".npz"
MOST_CHANNELS = 4
MOST_CLASSES = 2**16  # without names: a label beyond is no number of a class
MOST_HEADER = 2**16  # bytes of an array's header, which may be compressed a thousandfold
# What zipfile raises for damaged archives, and for encrypted ones
DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, KeyError),
    RuntimeError,
)


class ArrayHeader(NamedTuple):
    """Shape and type of an array in a file."""

    shape: tuple[int, ...]
    dtype: np.dtype


class ArrayFile:
    """The datasets of a `.npz` file: images x_train, x_val and x_test, uint8 (N, H, W, C) or (N, H,
    W) of 0..255, and labels y_train, y_val and y_test, integers (N,) or (N, 1), of the splits that
    there are; class_names may be an array of texts, and are else the labels as texts.

    Only the headers are read here.

    Raises:
        ValueError: if the file is damaged, or has other arrays.
        OSError: if it cannot be read.
    """

    def __init__(self, path: Path):
        self.path, self.size = path, path.stat().st_size
        self.headers = self._read_headers()
        self.splits = tuple(split for split in SPLITS if f"x_{split}" in self.headers)
        if not self.splits:
            raise self._refuse("must have x_train and y_train", list(self.headers))
        for split in self.splits:
            self._check_images(f"x_{split}")
            self._check_labels(f"y_{split}", self.headers[f"x_{split}"].shape[0])
        shapes = {self.headers[f"x_{split}"].shape[1:] for split in self.splits}
        if len(shapes) > 1:
            raise self._refuse("must have images of one shape in all splits", sorted(shapes))

    def _read_headers(self):
        headers = {}
        try:
            with zipfile.ZipFile(self.path) as file:
                for member in file.namelist():
                    with file.open(member) as stream:
                        content = io.BytesIO(stream.read(MOST_HEADER))
                    version = npy.read_magic(content)
                    read = npy.read_array_header_1_0
                    read = read if version == (1, 0) else npy.read_array_header_2_0
                    shape, _, dtype = read(content)
                    headers[member.removesuffix(".npy")] = ArrayHeader(shape, dtype)
        except (*DAMAGED, ValueError) as error:
            if not self.path.is_file():
                raise
            raise self._damaged(error) from error
        return headers

    def _check_images(self, name):
        shape, dtype = self.headers[name]
        is_shape = len(shape) == 3 or (len(shape) == 4 and 1 <= shape[3] <= MOST_CHANNELS)
        if dtype != np.uint8 or not is_shape or 0 in shape:
            raise self._refuse(
                f"must have {name} as uint8 (N, H, W, C) with up to {MOST_CHANNELS} channels",
                f"{dtype} {shape}",
            )

    def _check_labels(self, name, count):
        if name not in self.headers:
            raise self._refuse(f"must have {name}", list(self.headers))
        shape, dtype = self.headers[name]
        if dtype.kind not in "iu" or shape not in ((count,), (count, 1)):
            raise self._refuse(
                f"must have {name} as integers ({count},), one for each image", f"{dtype} {shape}"
            )

    def load(self, split: str) -> Dataset:
        """The images of a split.

        Raises:
            ValueError: if there are none, they do not fit into memory, or the file is damaged.
        """
        if split not in self.splits:
            raise self._refuse(f"must have x_{split} and y_{split}", list(self.headers))
        images = self._read(f"x_{split}")
        labels = {each: self._read(f"y_{each}").ravel() for each in self.splits}
        everywhere = np.concatenate(list(labels.values()))
        least, most = int(everywhere.min()), int(everywhere.max())
        names = self._read_names(most)
        if least < 0 or most >= len(names):
            accepted = f"must have labels of 0 to {len(names) - 1}"
            raise self._refuse(accepted, least if least < 0 else most)
        files = {self.path.name: self.size, "labels": zlib.crc32(labels[split].astype("<i8"))}
        images = images if images.ndim == 4 else images[..., None]
        return Dataset(images, labels[split], names, files)

    def _read_names(self, most):
        """The names of the classes, as many as the largest label needs."""
        if "class_names" not in self.headers:
            if most >= MOST_CLASSES:
                raise self._refuse(f"must have labels below {MOST_CLASSES} or class_names", most)
            return tuple(str(label) for label in range(most + 1))
        shape, dtype = self.headers["class_names"]
        if dtype.kind != "U" or len(shape) != 1:
            raise self._refuse("must have class_names as texts (K,)", f"{dtype} {shape}")
        names = tuple(map(str, self._read("class_names")))
        if repeated := [name for name, n in Counter(names).items() if n > 1]:
            raise self._refuse("must have each of class_names once", repeated[:5])
        return names

    def _read(self, name):
        shape, dtype = self.headers[name]
        needed = int(np.prod(shape, dtype="float64")) * dtype.itemsize
        if needed > (there := count_memory()):
            raise ValueError(
                f"{str(self.path)!r} does not fit into memory: {name} has "
                f"{needed / 2**30:,.1f} GiB, this machine {there / 2**30:,.1f} GiB"
            )
        try:
            with np.load(self.path, allow_pickle=False) as file:
                return file[name]
        except MemoryError as error:
            raise ValueError(f"{str(self.path)!r} does not fit into memory: {error}") from error
        except (*DAMAGED, ValueError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error):
        reason = str(error).partition("\n")[0][:200] or type(error).__name__
        return ValueError(f"{str(self.path)!r} is damaged or no {ENDING} file ({reason})")

    def _refuse(self, accepted, received):
        return ValueError(f"{str(self.path)!r} {accepted}. Received: {received}")


def count_memory() -> float:
    """The bytes of memory of this machine; infinity where it does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return float("inf")
