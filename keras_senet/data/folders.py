"""Datasets that are a folder of class folders."""

import itertools
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from keras_senet.data.sources import Encoded

SPLITS = {"train": ("train",), "test": ("test", "validation", "val")}
DECODED = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
AT_ONCE, THREADS = 1000, 16  # files whose sizes a thread asks for, threads that wait for the disk
NOT_DECODED = (".tif", ".tiff", ".avif", ".heic", ".jp2", ".jxl", ".ppm", ".pgm")


class FolderDataset(Encoded):
    """The image files of class folders; the classes are the folders in the order of their names."""

    def __init__(self, folder):
        classes = class_folders(folder)
        files = [_images(folder / name) for name in classes]
        super().__init__(classes, (None, None, 3))
        self.folder = folder
        self._files = [name for names in files for name in names]
        self.labels = np.repeat(np.arange(len(classes)), [len(names) for names in files])

    def __len__(self):
        return len(self._files)

    def name_of(self, index):
        """The file."""
        return self._files[index]

    def listing(self):
        """The names of the files in the folder and their sizes: {name: bytes}."""
        count = range(0, len(self), AT_ONCE)
        with ThreadPoolExecutor(THREADS) as pool:
            sizes = pool.map(lambda first: list(map(os.path.getsize, self._files[first : first + AT_ONCE])), count)
            start = len(os.path.join(self.folder, ""))
            return dict(zip((file[start:] for file in self._files), itertools.chain.from_iterable(sizes), strict=True))

    def fetch(self, indices):
        """(encoded images, object (n,) of bytes; labels int64 (n,)) of int64 indices (n,)."""
        images = np.empty(len(indices), object)
        for place, index in enumerate(indices):
            with open(self._files[index], "rb") as file:
                images[place] = file.read()
        return images, self.labels[indices]


def load_folder(path, split):
    """The split "train" or "test" of `path`.

    Raises:
        ValueError: if there is no such split, a class has no images, or the splits have different classes.
    """
    folders = {name: _split_folder(path, name) for name in SPLITS}
    folder = folders[split]
    if folder is None:
        raise ValueError(f"{str(path)!r} has no folder {' or '.join(map(repr, SPLITS[split]))} with class folders")
    if all(folders.values()):
        _check_same_classes(*folders.values())
    return FolderDataset(folder)


def _split_folder(path, split):
    return next((path / name for name in SPLITS[split] if (path / name).is_dir()), None)


def class_folders(folder):
    """The names of the class folders, sorted. Raises ValueError if there is none."""
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise ValueError(f"{str(folder)!r} has no class folders")
    return names


def _check_same_classes(train, test):
    differing = sorted(set(class_folders(train)) ^ set(class_folders(test)))
    if differing:
        raise ValueError(
            f"{str(train)!r} and {str(test)!r} must have the same class folders. "
            f"In one alone: {', '.join(differing[:5])}"
        )


def _images(folder):
    """The paths of a class' images, sorted, with those in folders below."""
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = [os.path.join(place, name) for name in sorted(names) if not name.startswith(".")]
        for path in paths:
            if path.lower().endswith(NOT_DECODED):
                raise ValueError(f"{path!r} is not decoded; convert it to one of {', '.join(DECODED)}")
        found += [path for path in paths if path.lower().endswith(DECODED)]
    if not found:
        raise ValueError(f"The class folder {str(folder)!r} has no images ({', '.join(DECODED)})")
    return found
