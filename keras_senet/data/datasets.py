"""Datasets by name."""

from dataclasses import dataclass

import numpy as np

from keras_senet.extras import require


@dataclass(frozen=True)
class Dataset:
    """Labelled images in memory: `images` uint8 (N, H, W, 3) of 0..255 RGB, `labels` int64 (N,), class names."""

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    def __len__(self):
        return len(self.labels)


def digits(split):
    """The 1,797 handwritten 8x8 digits that scikit-learn ships, enlarged to 32x32 RGB.

    "test" is a fixed stratified fifth of 360, "train" the other 1,437. Source: UCI, "Optical Recognition of
    Handwritten Digits", its test part.
    """
    datasets = require("sklearn.datasets", "train")
    split_data = require("sklearn.model_selection", "train").train_test_split
    data = datasets.load_digits()
    train, test = split_data(np.arange(len(data.target)), test_size=360, random_state=0, stratify=data.target)
    chosen = {"train": train, "test": test}[split]
    return Dataset(_enlarge(data.images[chosen]), data.target[chosen].astype("int64"), tuple("0123456789"))


def _enlarge(images):
    """(N, 8, 8) of 0..16 -> (N, 32, 32, 3) uint8 of 0..255, bilinear."""
    import tensorflow as tf

    enlarged = tf.image.resize(images[..., None] * (255 / 16), (32, 32))
    return np.repeat(np.round(enlarged.numpy()).astype("uint8"), 3, axis=-1)


DATASETS = {"digits": digits}


def load(name, split):
    """The "train" or "test" split of a dataset.

    Raises:
        ValueError: for an unknown dataset or split.
        MissingExtraError: if the library that has the data is not installed.
    """
    if name not in DATASETS:
        raise ValueError(f"There is no dataset {name!r}. Datasets: {', '.join(DATASETS)}")
    if split not in ("train", "test"):
        raise ValueError(f"`split` must be 'train' or 'test'. Received: split={split!r}")
    return DATASETS[name](split)
