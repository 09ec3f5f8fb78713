"""Datasets that are a folder of class folders."""

import itertools
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from keras_senet.data.sources import Encoded
from keras_senet.files import printable, read_bytes
from keras_senet.images.walk import Found, describe_left_out, find_images

# The names that the folder of a split may have, in any capitals, and what its images are called.
SPLITS = {"train": ("train",), "val": ("val", "validation", "valid"), "test": ("test",)}
KINDS = {"train": "training", "val": "validation", "test": "test"}
CHUNK, THREADS = 1000, 16  # files whose sizes a thread reads; threads, which wait for the disk


class FolderDataset(Encoded):
    """The image files of class folders: those of `classes`, or all, in the order of their names.

    `left_out` has the files that are not images: path -> reason.
    """

    def __init__(self, folder: Path, classes: Sequence[str] | None = None, upright: bool = True):
        own, self.left_out = _list_classes(folder)
        super().__init__(own if classes is None else classes, (None, None, 3))
        self.folder, self.upright = folder, upright
        self._files, labels = [], []
        for label, name in enumerate(self.class_names):
            found = find_images(folder / name) if name in own else Found()
            images = found.images
            if classes is None and not images:
                reasons = describe_left_out(found.left_out) or "It is empty"
                raise ValueError(
                    f"The class folder {printable(folder / name)!r} has no images. {reasons}"
                )
            self._files += images
            self.left_out |= found.left_out
            labels += [label] * len(images)
        if not self._files:
            raise ValueError(
                f"{printable(folder)!r} has no images in its class folders. "
                f"{describe_left_out(self.left_out)}"
            )
        self.labels = np.array(labels, "int64")

    def __len__(self) -> int:
        return len(self._files)

    def name_of(self, index: int) -> str:
        """The file."""
        return printable(self._files[index])

    def listing(self) -> dict[str, int]:
        """The names of the files in the folder and their sizes: {name: bytes}."""
        start = len(os.path.join(self.folder, ""))
        with ThreadPoolExecutor(THREADS) as pool:
            chunks = [self._files[i : i + CHUNK] for i in range(0, len(self), CHUNK)]
            sizes = pool.map(lambda files: list(map(os.path.getsize, files)), chunks)
            names = (file[start:] for file in self._files)
            return dict(zip(names, itertools.chain.from_iterable(sizes), strict=True))

    def fetch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(encoded images, object (n,) of bytes; labels int64 (n,)) of int64 indices (n,)."""
        images = np.empty(len(indices), object)
        for place, index in enumerate(indices):
            images[place] = read_bytes(self._files[index])
        return images, self.labels[indices]


def load_folder(path: Path, split: str, upright: bool = True) -> FolderDataset:
    """The split "train", "val" or "test" of `path`, with the classes of "train", if that is there.

    Warns of files that are not images and are left out.

    Raises:
        ValueError: if there is no such split, a class of "train" has no images, another split has a
            class that "train" has not, or a name is not UTF-8.
        OSError: if a folder cannot be read.
    """
    _check_utf8(path)
    folder, train = find_split(path, split), find_split(path, "train")
    if folder is None:
        accepted = SPLITS[split] + (SPLITS["val"] if split == "test" else ())
        names = " or ".join(map(repr, accepted))
        raise ValueError(f"{str(path)!r} has no folder {names} with class folders")
    classes = None
    if split != "train" and train is not None:
        classes, _ = _list_classes(train)
        _check_known(folder, classes, train)
    dataset = FolderDataset(folder, classes, upright)
    if dataset.left_out:
        warnings.warn(describe_left_out(dataset.left_out), stacklevel=3)
    return dataset


def find_split(path: Path, split: str) -> Path | None:
    """The folder of a split, by one of the names that it may have; None if there is none.

    Raises:
        ValueError: if there are several, of which one would be ignored.
        OSError: if `path` cannot be read.
    """
    names = os.listdir(path) if path.is_dir() else []
    named = [path / name for name in names if name.lower() in SPLITS[split]]
    named.sort(key=Path.is_symlink, reverse=True)  # a folder is preferred to links to it
    folders = {folder.resolve(): folder for folder in named if folder.is_dir()}
    if len(folders) > 1:
        received = " and ".join(sorted(repr(folder.name) for folder in folders.values()))
        raise ValueError(
            f"{str(path)!r} must have one folder of {KINDS[split]} images. Received: {received}"
        )
    return next(iter(folders.values()), None)


def _list_classes(folder):
    """(the names of the class folders, sorted; the other files, path -> why they are left out)."""
    names, beside = [], {}
    for name in sorted(name for name in os.listdir(folder) if not name.startswith(".")):
        path = folder / name
        if path.is_dir():
            _check_utf8(path)
            names.append(name)
        else:
            reason = "outside the class folders" if path.exists() else "a broken link"
            beside[os.fspath(path)] = reason
    if not names:
        raise ValueError(f"{printable(folder)!r} has no class folders")
    return names, beside


def _check_utf8(path):
    """Class names are written to JSON, CSV, HTML and exported files."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"The name of a folder must be UTF-8. Received: {printable(path)!r}"
        ) from error


def _check_known(folder, classes, train):
    unknown = sorted(set(_list_classes(folder)[0]) - set(classes))
    if unknown:
        raise ValueError(
            f"{str(folder)!r} must not have class folders that {str(train)!r} has not: "
            f"{', '.join(unknown[:5])}"
        )
