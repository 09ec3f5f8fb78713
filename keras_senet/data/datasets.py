"""Datasets by name, and those in memory."""

import os
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_senet.data import arrays
from keras_senet.data.division import Division
from keras_senet.data.folders import load_folder
from keras_senet.data.image_files import TableDataset
from keras_senet.data.prepared import has_prepared, has_prepared_split, load_labelled
from keras_senet.data.sources import Dataset, Encoded
from keras_senet.extras import require
from keras_senet.fields import check_argument
from keras_senet.images.layout import SPLITS, find_splits, has_classes, has_splits, is_of_runs
from keras_senet.images.tables import ENDINGS as TABLES
from keras_senet.images.tables import Table


def load_digits(split: str) -> Dataset:
    """The 1,797 handwritten 8x8 digits that scikit-learn ships, enlarged to 32x32 RGB.

    "test" is a fixed stratified fifth of 360, "train" the other 1,437. Source: UCI, "Optical
    Recognition of Handwritten Digits", its test part.
    """
    images, labels = read_digits(split)
    return Dataset(_enlarge(images), labels, tuple("0123456789"))


def read_digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """(ink of 0..16 (N, 8, 8), labels int64 (N,)) of a split, as scikit-learn has them."""
    data = require("sklearn.datasets", "train").load_digits()
    train, test = require("sklearn.model_selection", "train").train_test_split(
        np.arange(len(data.target)), test_size=360, random_state=0, stratify=data.target
    )
    chosen = {"train": train, "test": test}[split]
    return data.images[chosen], data.target[chosen].astype("int64")


def _enlarge(images):
    """(N, 8, 8) of 0..16 -> (N, 32, 32, 3) uint8 of 0..255, bilinear."""
    at = np.clip((np.arange(32) + 0.5) / 4 - 0.5, 0, 7)  # in pixels of the small images
    weights = np.maximum(1 - abs(at[:, None] - np.arange(8)), 0)
    enlarged = weights @ images @ weights.T * (255 / 16)
    return np.repeat(np.round(enlarged).astype("uint8")[..., None], 3, axis=-1)


DATASETS = {"digits": load_digits}  # those that need no files
EMBEDDED_SPLITS = ("train", "test")  # of these
# name, name/config, name:version
PREPARED = re.compile(r"[a-zA-Z_]\w*(/[\w.\-]+)?(:\d+\.\d+\.\d+)?")


@dataclass(frozen=True)
class DatasetSource:
    """A dataset whose images are not loaded yet.

    name  of the dataset
    has   whether it has a split of its own, with labels
    load  one of them, or "all" images of a dataset that has none
    """

    name: str
    has: Callable[[str], bool]
    load: Callable[[str], Dataset | Encoded]

    def lacks_evaluation(self) -> bool:
        """Whether it has training images only, or no splits."""
        return not (self.has("val") or self.has("test"))

    def load_all(self) -> Dataset | Encoded:
        """All images of a dataset that `lacks_evaluation`."""
        return self.load("train" if self.has("train") else "all")


def load(
    name: str | os.PathLike,
    split: str,
    data_dir=None,
    *,
    upright: bool = True,
    validation_fraction: float | None = None,
    seed: int = 0,
    split_file: str | os.PathLike | None = None,
) -> Dataset | Encoded:
    """The "train", "val" or "test" split of a dataset, or "all" images of one that has training
    images only, or no splits.

    With a `validation_fraction`, as runs have it, such a dataset is divided into "train" and "val":
    a stratified part, which follows from the names of the images, is kept for validation.

    Args:
        name: "digits"; a dataset of tensorflow_datasets that is prepared on the disk ("cifar10",
            "name/config", "name:1.0.0"); the path of a folder with <class>/, or with
            train/<class>/, val/<class>/ and test/<class>/ (or training/, validation/, valid/,
            testing/), in any capitals; the path of a CSV file with the columns path, label and
            maybe split; or that of a `.npz` file of arrays, as `arrays.ArrayFile` describes it. The
            classes are those of the training images.
        split: "train", "val" (also "validation" or "valid"), "test" or "all". Where there is no
            labelled "test" it is "val"; `resolve_split` says which one is loaded.
        data_dir: where tensorflow_datasets keeps its datasets; None is its default.
        upright: whether images are rotated as their EXIF orientation says, as viewers show them.
        validation_fraction: the part of each class that is kept for validation, above 0 and below
            1; None divides nothing.
        seed: of the choice of this part.
        split_file: the `split.csv` of a run, in place of the choice: images that it does not list,
            such as new ones, are in neither part.

    Raises:
        ValueError: for an unknown dataset or split, or invalid files.
        OSError: for files that cannot be read.
        MissingExtraError: if the library that has the data is not installed.
    """
    source = _open(name, data_dir, upright)
    wanted = _resolve(source, split, validation_fraction is not None)
    if wanted == "all":
        return source.load_all()
    if validation_fraction is None or not source.lacks_evaluation():
        return source.load(wanted)
    file = None if split_file is None else Path(split_file)
    whole = source.load_all()
    parts = Division(validation_fraction, seed, file).divide(whole.names(), whole.labels)
    if not len(parts[wanted]):
        raise ValueError(f"{str(file)!r} lists no images of {source.name!r} as {wanted!r}")
    return whole.select(parts[wanted])


def resolve_split(
    name: str | os.PathLike, split: str, data_dir=None, *, divides: bool = False
) -> str:
    """The split that `load` takes, as "train", "val", "test" or "all"; `divides` is whether it has
    a `validation_fraction`.

    For "test" it is "val" where there is no labelled "test", and for "train" and "test" it is "all"
    of a dataset without splits that is not divided.
    """
    return _resolve(_open(name, data_dir), split, divides)


def splits(name: str | os.PathLike, data_dir=None) -> tuple[str, ...]:
    """Which of "train", "val" and "test" a dataset has, with labels. Raises as `load` does."""
    return tuple(filter(_open(name, data_dir).has, SPLITS))


def lacks_evaluation(name: str | os.PathLike, data_dir=None) -> bool:
    """Whether a dataset has training images only, or no splits. Raises as `load` does."""
    return _open(name, data_dir).lacks_evaluation()


def spell(name: str | os.PathLike) -> str:
    """The name or path of a dataset as text: a `Path` is no name, also without a folder."""
    text = os.fspath(name)
    is_bare = isinstance(name, os.PathLike) and not os.path.dirname(text)
    return os.path.join(os.curdir, text) if is_bare else text


def _open(name, data_dir=None, upright=True) -> DatasetSource:
    name, path = spell(name), Path(name)
    check_argument("name", name, name, "a dataset's name or a path")
    if name in DATASETS:
        return DatasetSource(name, EMBEDDED_SPLITS.__contains__, DATASETS[name])
    if path.suffix.lower() == arrays.ENDING and path.is_file():
        file = arrays.ArrayFile(path)
        return DatasetSource(name, file.splits.__contains__, file.load)
    if path.is_file() and not _is_bare(name):
        table = Table(path)
        return DatasetSource(
            name, table.splits.__contains__, lambda split: TableDataset(table, split, upright)
        )
    if path.is_dir() and names_folder(name, data_dir):
        there = find_splits(path)
        return DatasetSource(
            name, there.__contains__, lambda split: load_folder(path, split, upright)
        )
    _check_dataset_name(name)
    if path.is_dir() and not has_prepared(name, data_dir):
        raise ValueError(
            f"There is no dataset {name!r} of tensorflow_datasets, and the folder {name!r} has no "
            "class folders with images in them (CLASS/*.jpg)"
        )
    return DatasetSource(
        name,
        lambda split: has_prepared_split(name, split, data_dir),
        lambda split: load_labelled(name, split, data_dir, upright),
    )


def _resolve(source, split, divides):
    wanted = next((key for key, names in SPLITS.items() if split in (key, *names)), split)
    known = (*SPLITS, "all")
    check_argument("split", split, wanted in known, f"one of {', '.join(map(repr, known))}")
    if wanted == "train" and source.has("train"):
        return wanted
    if wanted == "test" and not source.has("test") and source.has("val"):
        return "val"
    is_whole = source.lacks_evaluation()
    if is_whole and divides and wanted != "all":
        return "train" if wanted == "train" else "val"
    if is_whole and wanted != "val" and not source.has("train"):
        return "all"
    is_there = is_whole if wanted == "all" else wanted != "val" or source.has("val")
    there = [*filter(source.has, SPLITS), *(["all"] if is_whole else [])]
    accepted = f"{' or '.join(map(repr, there))} for {source.name!r}"
    check_argument("split", split, is_there, accepted)
    return wanted


def _check_dataset_name(name):
    kind = "file" if Path(name).suffix.lower() in (*TABLES, arrays.ENDING) else "folder"
    if kind == "file" or not PREPARED.fullmatch(name):
        raise ValueError(
            f"There is no dataset and no {kind} {name!r}. Datasets: {', '.join(DATASETS)}, those "
            "of tensorflow_datasets, folders of class folders, CSV files of paths and labels, and "
            "`.npz` files of arrays"
        )


def _is_bare(name):
    """Whether it could be the name of a dataset as well as that of a file or folder."""
    return Path(name).name == name and PREPARED.fullmatch(name)


def names_folder(name, data_dir):
    """Whether a folder is meant, and not a dataset of its name, as a run's folder often has it.

    A bare name is a folder if that is split, or if there is no such dataset and it has classes.
    """
    path = Path(name)
    if not _is_bare(name) or has_splits(path):
        return True
    if is_of_runs(path) or not has_classes(path):
        return False
    is_prepared = has_prepared(name, data_dir)
    if is_prepared:
        warnings.warn(
            f"{name!r} is both a dataset of tensorflow_datasets, which is taken, and a folder: "
            f"{os.path.join('.', name)!r}",
            stacklevel=4,
        )
    return not is_prepared
