"""Which files of a folder are images of which split and class, without looking into them.

A folder is split if it has train/, val/ or test/ (in any capitals; training/ is train/, validation/
and valid/ are val/, and testing/ is test/) with class folders in it. Then other folders beside
these are no part of the dataset. Without one it is not split: its folders are the classes, also one
that is called "train" and has images directly in it. These cases are ambiguous, and refused: class
folders beside train/, where there is neither val/ nor test/; and nothing but folders with the names
of splits, or like test_set/, with images directly in them all, or with class folders in those.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from keras_senet.fields import list_some
from keras_senet.files import RECIPE_FILE, printable
from keras_senet.images.walk import find_images, holds_images, is_folder, is_hidden, search_images

# The names that a split may have, in any capitals, and what its images are called.
SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "validation", "valid"),
    "test": ("test", "testing"),
}
KINDS = {"train": "training", "val": "validation", "test": "test"}
# Names of splits, also with what is often added to them, such as "test1", and as "training_set"
LIKE_A_SPLIT = re.compile(rf"({'|'.join(sum(SPLITS.values(), ()))})[\W\d_]*", re.I)
SET = re.compile(rf"({LIKE_A_SPLIT.pattern})((set|data|images|imgs)[\W\d_]*)?", re.I)
LAYOUTS = "class folders (CLASS/*.jpg), or train/ and val/ or test/ with class folders in them"


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
        ValueError: as `find_splits` and `list_classes` do.
        OSError: if a folder cannot be read.
    """
    layout = Layout()
    splits = find_splits(path)
    for split, folder in (splits or {"": path}).items():
        names, others = list_classes(folder)
        layout.left_out |= others
        for name in names:
            found = search_images(folder / name)
            layout.images += [(image, split, name) for image in found.images]
            layout.left_out |= found.left_out
            if not found.images:
                layout.left_out[os.fspath(folder / name)] = "a class folder without images"
    if splits:
        used = {folder.name for folder in splits.values()}
        for name in sorted(os.listdir(path)):
            if name not in used and not is_hidden(name):
                layout.left_out[os.fspath(path / name)] = "outside the folders of the splits"
    return layout


def find_splits(path: Path) -> dict[str, Path]:
    """The folders of the splits that a folder has; none if it is not split.

    Raises:
        ValueError: if a split has several folders, of which one would be ignored, or the folder is
            neither split nor has classes, or could be both.
        OSError: if `path` cannot be read.
    """
    folders = _list_folders(path)
    if not any(map(_may_be_class, folders)):
        _check_not_flat(path, folders)
    found = {split: _find_split(path, split, folders) for split in SPLITS}
    there = {split: folder for split, folder in found.items() if folder is not None}
    if any(_list_folders(folder) or not holds_images(folder) for folder in there.values()):
        _check_not_both(path, there, folders)
        return there
    _check_not_alike(path, folders)
    return {}


def has_splits(path: Path) -> bool:
    """Whether a folder in `path` has the name of a split."""
    names = set(sum(SPLITS.values(), ()))
    return any(each.name.lower() in names for each in _list_folders(path))


def has_classes(path: Path) -> bool:
    """Whether a folder in `path` has images in it."""
    return any(
        holds_images(folder) for each in _list_folders(path) for folder, _, _ in os.walk(each)
    )


def is_of_runs(path: Path) -> bool:
    """Whether it is a work directory, or has some in it, as that of an ablation."""
    return any(any(path.glob(f"{'*/' * depth}{RECIPE_FILE}")) for depth in range(3))


def _list_folders(path):
    """The folders in a folder, sorted, without those of training runs."""
    with os.scandir(path) as entries:
        names = [each.name for each in entries if not is_hidden(each.name) and is_folder(each)]
    return [path / name for name in sorted(names) if not (path / name / RECIPE_FILE).is_file()]


def _may_be_class(folder):
    return not LIKE_A_SPLIT.fullmatch(folder.name)


def _check_not_flat(path, folders):
    """Raises ValueError if no folder is a class, or has classes in it."""
    if any(map(_list_folders, folders)):
        return
    flat = next((each for each in (path, *folders) if holds_images(each)), None)
    if flat is not None:
        raise ValueError(
            f"{printable(flat)!r} has images, but no class folders: the images of each class must "
            f"be in a folder of its own. {printable(path)!r} must have {LAYOUTS}"
        )
    if not folders:
        state = "has no class folders" if any(path.iterdir()) else "is empty"
        raise ValueError(f"{printable(path)!r} {state}: it must have {LAYOUTS}")


def _check_not_alike(path, folders):
    """Raises ValueError if all folders would be splits by another name, and have classes in them"""
    are_sets = folders and all(SET.fullmatch(each.name) for each in folders)
    if not are_sets or not any(map(_list_folders, folders)):
        return
    raise ValueError(
        f"{printable(path)!r} must have train/ and val/ or test/ with class folders in them. "
        f"Received: {list_some([repr(each.name) for each in folders], 5)}; rename these"
    )


def _check_not_both(path, there, folders):
    """Raises ValueError if a folder has training images, and beside them more class folders."""
    others = [each for each in folders if _may_be_class(each)]
    if set(there) != {"train"} or not others:
        return
    images = [each for each in others if find_images(each).images]
    if images:
        names = ", ".join(repr(each.name) for each in images[:5])
        raise ValueError(
            f"{printable(path)!r} is ambiguous: it has {there['train'].name!r} with class folders, "
            f"and beside it {names} with images. Name {printable(there['train'])!r} as the "
            "dataset, or put validation or test images into val/ or test/"
        )


def _find_split(path, split, folders):
    """The folder of a split, by one of the names that it may have; None if there is none."""
    named = [each for each in folders if each.name.lower() in SPLITS[split]]
    named.sort(key=Path.is_symlink, reverse=True)  # a folder is preferred to links to it
    different = {folder.resolve(): folder for folder in named}
    if len(different) > 1:
        received = " and ".join(sorted(repr(folder.name) for folder in different.values()))
        raise ValueError(
            f"{str(path)!r} must have one folder of {KINDS[split]} images. Received: {received}"
        )
    return next(iter(different.values()), None)


def list_classes(folder):
    """(the names of the class folders, sorted; the other files, path -> why they are left out)."""
    names, beside = [], {}
    for name in sorted(name for name in os.listdir(folder) if not is_hidden(name)):
        path = folder / name
        if (path / RECIPE_FILE).is_file():
            beside[os.fspath(path)] = "a training run"
        elif path.is_dir():
            check_utf8(path)
            names.append(name)
        else:
            reason = "outside the class folders" if path.exists() else "a broken link"
            beside[os.fspath(path)] = reason
    if not names:
        raise ValueError(f"{printable(folder)!r} has no class folders")
    return names, beside


def check_utf8(path):
    """Class names are written to JSON, CSV, HTML and exported files."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"The name of a folder must be UTF-8. Received: {printable(path)!r}"
        ) from error
