"""Which files of a folder are images of which split and class, without looking into them."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from keras_senet.files import printable
from keras_senet.images.walk import search_images

# The names that the folder of a split may have, in any capitals, and what its images are called.
SPLITS = {"train": ("train",), "val": ("val", "validation", "valid"), "test": ("test",)}
KINDS = {"train": "training", "val": "validation", "test": "test"}


@dataclass
class Layout:
    """The image files of class folders as (path, split, class), and the other files: path -> why
    they are left out. Without the folders of splits the split is "".
    """

    images: list[tuple[str, str, str]] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def read_layout(path: Path) -> Layout:
    """The `Layout` of a folder of class folders, or of one with them in train/, val/ and test/.

    Raises:
        ValueError: if there are no class folders, or several folders of one split.
        OSError: if a folder cannot be read.
    """
    layout = Layout()
    splits = {split: found for split in SPLITS if (found := find_split(path, split))}
    for split, folder in (splits or {"": path}).items():
        _add_classes(layout, split, folder)
    if splits:
        used = {folder.name for folder in splits.values()}
        for name in _visible(path):
            if name not in used:
                layout.left_out[os.fspath(path / name)] = "outside the folders of the splits"
    if not layout.images and not layout.left_out:
        raise ValueError(f"{printable(path)!r} has no class folders with images")
    return layout


def _add_classes(layout, split, folder):
    for name in _visible(folder):
        place = folder / name
        if not place.is_dir():
            reason = "outside the class folders" if place.exists() else "a broken link"
            layout.left_out[os.fspath(place)] = reason
            continue
        found = search_images(place)
        layout.images += [(image, split, printable(name)) for image in found.images]
        layout.left_out |= found.left_out
        if not found.images:
            layout.left_out[os.fspath(place)] = "a class folder without images"


def _visible(folder):
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


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
