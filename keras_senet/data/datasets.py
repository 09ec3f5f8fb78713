"""Datasets by name, and those in memory."""

import re
from pathlib import Path

import numpy as np

from keras_senet.data.folders import SPLITS as FOLDERS
from keras_senet.data.folders import load_folder, split_folder
from keras_senet.data.prepared import load_prepared, prepared_splits
from keras_senet.data.sources import Dataset
from keras_senet.extras import require

SPLITS = ("train", "test")  # of those that need no files


def digits(split):
    """The 1,797 handwritten 8x8 digits that scikit-learn ships, enlarged to 32x32 RGB.

    "test" is a fixed stratified fifth of 360, "train" the other 1,437. Source: UCI, "Optical
    Recognition of Handwritten Digits", its test part.
    """
    datasets = require("sklearn.datasets", "train")
    split_data = require("sklearn.model_selection", "train").train_test_split
    data = datasets.load_digits()
    train, test = split_data(
        np.arange(len(data.target)), test_size=360, random_state=0, stratify=data.target
    )
    chosen = {"train": train, "test": test}[split]
    return Dataset(
        _enlarge(data.images[chosen]), data.target[chosen].astype("int64"), tuple("0123456789")
    )


def _enlarge(images):
    """(N, 8, 8) of 0..16 -> (N, 32, 32, 3) uint8 of 0..255, bilinear."""
    import tensorflow as tf

    enlarged = tf.image.resize(images[..., None] * (255 / 16), (32, 32))
    return np.repeat(np.round(enlarged.numpy()).astype("uint8"), 3, axis=-1)


DATASETS = {"digits": digits}  # those that need no files
PREPARED = re.compile(
    r"[a-zA-Z_]\w*(/[\w.\-]+)?(:\d+\.\d+\.\d+)?"
)  # name, name/config, name:version


def load(name, split, data_dir=None, *, upright=True):
    """The "train", "val" or "test" split of a dataset.

    Args:
        name: "digits"; a dataset of tensorflow_datasets that is prepared on the disk ("cifar10",
        "name/config",
            "name:1.0.0"); or the path of a folder with train/<class>/, val/<class>/ (or
            validation/, valid/) and test/<class>/. The classes are those of train/.
        split: "train", "val" (also "validation" or "valid"), or "test", which is "val" where there
        is no labelled
            "test": `resolve_split` says which one it is.
        data_dir: where tensorflow_datasets keeps its datasets; None is its default.
        upright: whether images are turned as their EXIF orientation says, as viewers show them.

    Raises:
        ValueError: for an unknown dataset or split, or files that are not as they should be.
        OSError: for files that cannot be read.
        MissingExtraError: if the library that has the data is not installed.
    """
    wanted = resolve_split(name, split, data_dir)
    name = str(name)
    if name in DATASETS:
        return DATASETS[name](wanted)
    if _is_folder(name):
        return load_folder(Path(name), wanted, upright)
    _check_name(name)
    return load_prepared(name, wanted, data_dir, upright)


def resolve_split(name, split, data_dir=None):
    """The split that `load` takes, as "train", "val" or "test": "val" for "test" where there is no
    labelled "test".
    """
    wanted = next((key for key, names in FOLDERS.items() if split in (key, *names)), None)
    if wanted is None:
        raise ValueError(
            f"`split` must be one of {', '.join(map(repr, FOLDERS))}. Received: split={split!r}"
        )
    if wanted == "train":
        return wanted
    there = splits(name, data_dir)
    if wanted == "val" and "val" not in there:
        raise ValueError(
            f"`split` must be {' or '.join(map(repr, there))} for {str(name)!r}. Received: split={split!r}"
        )
    return "val" if "test" not in there and "val" in there else wanted


def splits(name, data_dir=None):
    """Which of "train", "val" and "test" a dataset has, with labels. Raises as `load` does."""
    name = str(name)
    if name in DATASETS:
        return SPLITS
    if _is_folder(name):
        return tuple(split for split in FOLDERS if split_folder(Path(name), split) is not None)
    _check_name(name)
    return prepared_splits(name, data_dir)


def _check_name(name):
    if not PREPARED.fullmatch(name):
        known = f"Datasets: {', '.join(DATASETS)}, those of tensorflow_datasets, and folders of class folders"
        raise ValueError(f"There is no dataset and no folder {name!r}. {known}")


def _is_folder(name):
    """A directory; a bare name is one only if it has splits: a run's directory is often called as
    its dataset.
    """
    path = Path(name)
    return path.is_dir() and (
        path.name != name or any(split_folder(path, split) for split in FOLDERS)
    )
