"""Datasets by name, and those in memory."""

import os
import re
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_senet.data.folders import SPLITS, find_split, load_folder
from keras_senet.data.prepared import find_prepared_splits, load_prepared
from keras_senet.data.sources import Dataset, Encoded
from keras_senet.extras import require
from keras_senet.fields import check_argument


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
    name: str | os.PathLike, split: str, data_dir=None, *, upright: bool = True
) -> Dataset | Encoded:
    """The "train", "val" or "test" split of a dataset.

    Args:
        name: "digits"; a dataset of tensorflow_datasets that is prepared on the disk ("cifar10",
            "name/config", "name:1.0.0"); or the path of a folder with train/<class>/, val/<class>/
            (or validation/, valid/) and test/<class>/, in any capitals. The classes are those of
            train/.
        split: "train", "val" (also "validation" or "valid"), or "test", which is "val" where there
            is no labelled "test": `resolve_split` says which one it is.
        data_dir: where tensorflow_datasets keeps its datasets; None is its default.
        upright: whether images are rotated as their EXIF orientation says, as viewers show them.

    Raises:
        ValueError: for an unknown dataset or split, or invalid files.
        OSError: for files that cannot be read.
        MissingExtraError: if the library that has the data is not installed.
    """
    wanted = resolve_split(name, split, data_dir)
    name = str(name)
    if name in DATASETS:
        return DATASETS[name](wanted)
    if _names_folder(name):
        return load_folder(Path(name), wanted, upright)
    _check_dataset_name(name)
    return load_prepared(name, wanted, data_dir, upright)


def resolve_split(name: str | os.PathLike, split: str, data_dir=None) -> str:
    """The split that `load` takes, as "train", "val" or "test": "val" for "test" where there is no
    labelled "test".
    """
    wanted = next((key for key, names in SPLITS.items() if split in (key, *names)), None)
    known = f"one of {', '.join(map(repr, SPLITS))}"
    check_argument("split", split, wanted is not None, known)
    if wanted == "train":
        return wanted
    there = splits(name, data_dir)
    known = f"{' or '.join(map(repr, there))} for {str(name)!r}"
    check_argument("split", split, wanted != "val" or "val" in there, known)
    return "val" if "test" not in there and "val" in there else wanted


def splits(name: str | os.PathLike, data_dir=None) -> tuple[str, ...]:
    """Which of "train", "val" and "test" a dataset has, with labels. Raises as `load` does."""
    name = str(name)
    if name in DATASETS:
        return EMBEDDED_SPLITS
    if _names_folder(name):
        return tuple(split for split in SPLITS if find_split(Path(name), split) is not None)
    _check_dataset_name(name)
    return find_prepared_splits(name, data_dir)


def _check_dataset_name(name):
    if not PREPARED.fullmatch(name):
        raise ValueError(
            f"There is no dataset and no folder {name!r}. Datasets: {', '.join(DATASETS)}, those "
            "of tensorflow_datasets, and folders of class folders"
        )


def _names_folder(name):
    """Whether it is a folder; a bare name must have splits: a run's folder often has the name of
    its dataset.
    """
    path = Path(name)
    return path.is_dir() and (path.name != name or any(find_split(path, each) for each in SPLITS))
