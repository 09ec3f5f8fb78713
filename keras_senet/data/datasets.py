"""Datasets by name, and those in memory."""

import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_senet.data.division import Division
from keras_senet.data.folders import load_folder
from keras_senet.data.prepared import find_prepared_splits, has_prepared, load_prepared
from keras_senet.data.sources import Dataset, Encoded
from keras_senet.data.tables import ENDINGS as TABLES
from keras_senet.data.tables import Table
from keras_senet.extras import require
from keras_senet.images.layout import SPLITS, find_splits, has_classes, has_splits, is_of_runs


def load_digits(split: str) -> Dataset:
    """The 1,797 handwritten 8x8 digits that scikit-learn ships, enlarged to 32x32 RGB.

    "test" is a fixed stratified fifth of 360, "train" the other 1,437. Source: UCI, "Optical
    Recognition of Handwritten Digits", its test part.
    """
    data = require("sklearn.datasets", "train").load_digits()
    train, test = require("sklearn.model_selection", "train").train_test_split(
        np.arange(len(data.target)), test_size=360, random_state=0, stratify=data.target
    )
    chosen = {"train": train, "test": test}[split]
    return Dataset(
        _enlarge(data.images[chosen]), data.target[chosen].astype("int64"), tuple("0123456789")
    )


def _enlarge(images):
    """(N, 8, 8) of 0..16 -> (N, 32, 32, 3) uint8 of 0..255, bilinear."""
    enlarged = tf.image.resize(images[..., None] * (255 / 16), (32, 32))
    return np.repeat(np.round(enlarged.numpy()).astype("uint8"), 3, axis=-1)


DATASETS = {"digits": load_digits}  # those that need no files
EMBEDDED_SPLITS = ("train", "test")  # of these
# name, name/config, name:version
PREPARED = re.compile(r"[a-zA-Z_]\w*(/[\w.\-]+)?(:\d+\.\d+\.\d+)?")


def load(
    name: str | os.PathLike,
    split: str,
    data_dir=None,
    *,
    upright: bool = True,
    validation_fraction: float = 0.2,
    seed: int = 0,
    split_file: str | os.PathLike | None = None,
) -> Dataset | Encoded:
    """The "train", "val" or "test" split of a dataset; or "all" images of one that is divided.

    Of a dataset with training images only, or without any splits, a stratified part is kept for
    validation: it is divided into "train" and "val". The part follows from the images' names and
    classes.

    Args:
        name: "digits"; a dataset of tensorflow_datasets that is prepared on the disk ("cifar10",
            "name/config", "name:1.0.0"); the path of a folder with <class>/, or with
            train/<class>/, val/<class>/ (or validation/, valid/) and test/<class>/, in any
            capitals; or the path of a CSV file with the columns path, label and maybe split. The
            classes are those of the training images.
        split: "train", "val" (also "validation" or "valid"), "test", which is "val" where there
            is no labelled "test" (`resolve_split` says which one it is), or "all".
        data_dir: where tensorflow_datasets keeps its datasets; None is its default.
        upright: whether images are rotated as their EXIF orientation says, as viewers show them.
        validation_fraction: of each class, the part that is kept for validation.
        seed: of the choice of this part: a recipe's.
        split_file: the `split.csv` of a run, which says how its dataset was divided: images that
            are not listed, such as new ones, are in neither part. None divides by the fraction and
            the seed.

    Raises:
        ValueError: for an unknown dataset or split, or invalid files.
        OSError: for files that cannot be read.
        MissingExtraError: if the library that has the data is not installed.
    """
    there, load_split = _open(name, data_dir, upright)
    wanted = _resolve(name, split, there)
    if not _must_divide(there):
        return load_split(wanted)
    whole = load_split("train" if there else "all")
    if wanted == "all":
        return whole
    file = None if split_file is None else Path(split_file)
    parts = Division(validation_fraction, seed, file).divide(whole.names(), whole.labels)
    if not len(parts[wanted]):
        raise ValueError(f"{str(file)!r} lists no images of {str(name)!r} as {wanted!r}")
    return whole.select(parts[wanted])


def resolve_split(name: str | os.PathLike, split: str, data_dir=None) -> str:
    """The split that `load` takes, as "train", "val", "test" or "all": "val" for "test" where there
    is no labelled "test".
    """
    there, _ = _open(name, data_dir)
    return _resolve(name, split, there)


def splits(name: str | os.PathLike, data_dir=None) -> tuple[str, ...]:
    """Which of "train", "val" and "test" can be loaded, with labels. Raises as `load` does."""
    there, _ = _open(name, data_dir)
    return ("train", "val") if _must_divide(there) else there


def is_divided(name: str | os.PathLike, data_dir=None) -> bool:
    """Whether `load` keeps a part of the images for validation, as the dataset has no other ones.
    Raises as `load` does.
    """
    there, _ = _open(name, data_dir)
    return _must_divide(there)


def _must_divide(there):
    return there in ((), ("train",))


def _open(name, data_dir=None, upright=True) -> tuple[tuple[str, ...], Callable]:
    """(the splits of its own that a dataset has, with labels; what loads one of them)."""
    name, path = str(name), Path(name)
    if name in DATASETS:
        return EMBEDDED_SPLITS, DATASETS[name]
    if path.is_file() and not _is_bare(name):
        table = Table(path)
        return table.splits, lambda split: table.load(split, upright)
    if path.is_dir() and names_folder(name, data_dir):
        there = tuple(find_splits(path))
        return there, lambda split: load_folder(path, split, upright)
    _check_dataset_name(name)
    there = find_prepared_splits(name, data_dir)
    return there, lambda split: load_prepared(name, split, data_dir, upright)


def _resolve(name, split, there):
    wanted = next((key for key, names in SPLITS.items() if split in (key, *names)), split)
    if wanted not in (*SPLITS, "all"):
        raise ValueError(
            f"`split` must be one of {', '.join(map(repr, (*SPLITS, 'all')))}. "
            f"Received: split={split!r}"
        )
    possible = ("train", "val", "all") if _must_divide(there) else there
    if wanted == "test" and "test" not in possible and "val" in possible:
        return "val"
    if wanted not in possible and wanted in ("val", "all"):
        raise ValueError(
            f"`split` must be {' or '.join(map(repr, possible))} for {str(name)!r}. "
            f"Received: split={split!r}"
        )
    return wanted


def _check_dataset_name(name):
    kind = "file" if Path(name).suffix.lower() in TABLES else "folder"
    if kind == "file" or not PREPARED.fullmatch(name):
        raise ValueError(
            f"There is no dataset and no {kind} {name!r}. Datasets: {', '.join(DATASETS)}, those "
            "of tensorflow_datasets, folders of class folders, and CSV files of paths and labels"
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
