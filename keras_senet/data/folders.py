"""Datasets that are a folder of class folders, with or without splits: see
`keras_senet.images.layout`.
"""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

from keras_senet.data.image_files import ImageFiles
from keras_senet.files import printable
from keras_senet.images.layout import SPLITS, check_utf8, find_splits, list_classes
from keras_senet.images.walk import Found, describe_left_out, find_images


class FolderDataset(ImageFiles):
    """The image files of class folders: those of `classes`, or all, in the order of their names.

    `left_out` has the files that are not images: path -> reason.
    """

    def __init__(self, folder: Path, classes: Sequence[str] | None = None, upright: bool = True):
        own, self.left_out = list_classes(folder)
        names, there = own if classes is None else classes, set(own)
        files, labels = [], []
        for label, name in enumerate(names):
            found = find_images(folder / name) if name in there else Found()
            images = found.images
            if classes is None and not images:
                reasons = describe_left_out(found.left_out) or "It is empty"
                raise ValueError(
                    f"The class folder {printable(folder / name)!r} has no images. {reasons}"
                )
            files += images
            self.left_out |= found.left_out
            labels += [label] * len(images)
        if not files:
            raise ValueError(
                f"{printable(folder)!r} has no images in its class folders. "
                f"{describe_left_out(self.left_out)}"
            )
        self.folder = folder
        start = len(os.path.join(folder, ""))
        relative = [file[start:].replace(os.sep, "/") for file in files]
        super().__init__(files, relative, labels, names, upright)


def load_folder(path: Path, split: str, upright: bool = True) -> FolderDataset:
    """The split "train", "val" or "test" of `path`, with the classes of "train", if that is there;
    or "all" images of a folder that is not split.

    Warns of files that are not images and are left out.

    Raises:
        ValueError: if there is no such split, a class of "train" has no images, another split has a
            class that "train" has not, or a name is not UTF-8.
        OSError: if a folder cannot be read.
    """
    check_utf8(path)
    there = find_splits(path)
    train = there.get("train")
    folder = path if split == "all" else there.get(split)
    if folder is None:
        accepted = SPLITS[split] + (SPLITS["val"] if split == "test" else ())
        names = " or ".join(map(repr, accepted))
        beside = ", ".join(repr(each.name) for each in there.values())
        raise ValueError(
            f"{printable(path)!r} has no folder {names} with class folders, only {beside}"
        )
    classes = None
    if split != "train" and train is not None:
        classes, _ = list_classes(train)
        _check_known(folder, classes, train)
    dataset = FolderDataset(folder, classes, upright)
    if dataset.left_out:
        warnings.warn(describe_left_out(dataset.left_out), stacklevel=3)
    return dataset


def _check_known(folder, classes, train):
    unknown = sorted(set(list_classes(folder)[0]) - set(classes))
    if unknown:
        raise ValueError(
            f"{str(folder)!r} must not have class folders that {str(train)!r} has not: "
            f"{', '.join(unknown[:5])}"
        )
