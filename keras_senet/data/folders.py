"""Datasets that are a folder of class folders."""

import itertools
import os
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from keras_senet.data.sources import Encoded
from keras_senet.files import printable, read_bytes
from keras_senet.images.walk import find_images, summary

SPLITS = {
    "train": ("train",),
    "val": ("val", "validation", "valid"),
    "test": ("test",),
}  # and their folders' names
AT_ONCE, THREADS = 1000, 16  # files whose sizes a thread asks for, threads that wait for the disk


class FolderDataset(Encoded):
    """The image files of class folders: those of `classes`, or all, in the order of their names.

    `left_out` says which files are no images: path -> reason.
    """

    def __init__(self, folder, classes=None, upright=True):
        own, self.left_out = _class_folders(folder)
        super().__init__(own if classes is None else classes, (None, None, 3))
        self.folder, self.upright = folder, upright
        self._files, labels = [], []
        for label, name in enumerate(self.class_names):
            found = find_images(folder / name) if name in own else None
            images = found.images if found else []
            if classes is None and not images:
                raise ValueError(
                    f"The class folder {printable(folder / name)!r} has no images. {_reasons(found)}"
                )
            self._files += images
            self.left_out |= found.left_out if found else {}
            labels += [label] * len(images)
        if not self._files:
            raise ValueError(
                f"{printable(folder)!r} has no images in its class folders. {summary(self.left_out)}"
            )
        self.labels = np.array(labels, "int64")

    def __len__(self):
        return len(self._files)

    def name_of(self, index):
        """The file."""
        return printable(self._files[index])

    def listing(self):
        """The names of the files in the folder and their sizes: {name: bytes}."""
        count = range(0, len(self), AT_ONCE)
        with ThreadPoolExecutor(THREADS) as pool:
            sizes = pool.map(
                lambda first: list(map(os.path.getsize, self._files[first : first + AT_ONCE])),
                count,
            )
            start = len(os.path.join(self.folder, ""))
            return dict(
                zip(
                    (file[start:] for file in self._files),
                    itertools.chain.from_iterable(sizes),
                    strict=True,
                )
            )

    def fetch(self, indices):
        """(encoded images, object (n,) of bytes; labels int64 (n,)) of int64 indices (n,)."""
        images = np.empty(len(indices), object)
        for place, index in enumerate(indices):
            images[place] = read_bytes(self._files[index])
        return images, self.labels[indices]


def load_folder(path, split, upright=True):
    """The split "train", "val" or "test" of `path`, with the classes of "train", if that is there.

    Warns of files that are no images and are left out.

    Raises:
        ValueError: if there is no such split, a class of "train" has no images, another split has a
        class that "train"
            has not, or a name is not UTF-8.
        OSError: if a folder cannot be read.
    """
    _check_name(path)
    folder, train = split_folder(path, split), split_folder(path, "train")
    if folder is None:
        accepted = SPLITS[split] + (SPLITS["val"] if split == "test" else ())
        names = " or ".join(map(repr, accepted))
        raise ValueError(f"{str(path)!r} has no folder {names} with class folders")
    classes = None
    if split != "train" and train is not None:
        classes, _ = _class_folders(train)
        _check_known(folder, classes, train)
    dataset = FolderDataset(folder, classes, upright)
    if dataset.left_out:
        warnings.warn(summary(dataset.left_out), stacklevel=3)
    return dataset


def split_folder(path, split):
    """The folder of a split, by one of the names that it may have; None if there is none.

    Raises:
        ValueError: if there are several, of which one would be ignored.
    """
    folders = {
        (path / name).resolve(): path / name
        for name in SPLITS[split][::-1]
        if (path / name).is_dir()
    }
    if len(folders) > 1:
        names = " and ".join(sorted(repr(folder.name) for folder in folders.values()))
        raise ValueError(
            f"{str(path)!r} must have one folder of validation images. Received: {names}"
        )
    return next(iter(folders.values()), None)


def class_folders(folder):
    """The names of the class folders, sorted. Raises ValueError if there is none, or one that is
    not UTF-8.
    """
    return _class_folders(folder)[0]


def _class_folders(folder):
    """(the names of the class folders, what is beside them)."""
    names, beside = [], {}
    for name in sorted(name for name in os.listdir(folder) if not name.startswith(".")):
        path = folder / name
        if path.is_dir():
            _check_name(path)
            names.append(name)
        else:
            beside[os.fspath(path)] = (
                "beside the class folders" if path.exists() else "a link to nothing"
            )
    if not names:
        raise ValueError(f"{printable(folder)!r} has no class folders")
    return names, beside


def _check_name(path):
    """Class names are written to JSON, CSV, HTML and exported files."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"The name of a folder must be UTF-8. Received: {printable(path)!r}"
        ) from error


def _check_known(folder, classes, train):
    unknown = sorted(set(class_folders(folder)) - set(classes))
    if unknown:
        raise ValueError(
            f"{str(folder)!r} must not have class folders that {str(train)!r} has not: {', '.join(unknown[:5])}"
        )


def _reasons(found):
    return summary(found.left_out) or "It is empty"
