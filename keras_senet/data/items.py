"""The images of a dataset, one by one, as `keras_senet.images.inspection` takes them."""

import os

import numpy as np
import tensorflow as tf

from keras_senet.data.datasets import load, splits
from keras_senet.data.sources import Dataset, Encoded
from keras_senet.images.facts import Item


def list_dataset(name: str | os.PathLike, data_dir: str | None = None) -> list[Item]:
    """The images of all splits; images in memory are read as PNG files. Raises as `load` does."""
    wanted = splits(name, data_dir) or ("all",)
    return [item for split in wanted for item in _list_split(load(name, split, data_dir), split)]


def _list_split(dataset: Dataset | Encoded, split: str):
    names = dict(enumerate(dataset.class_names))
    own = "" if split == "all" else split
    for index, label in enumerate(dataset.labels.tolist()):

        def read(most: int, index: int = index) -> bytes:
            (raw,), _ = dataset.fetch(np.array([index]))
            content = tf.io.encode_png(raw).numpy() if isinstance(dataset, Dataset) else raw
            return content if most < 0 else content[:most]

        label = names.get(label, f"{label} (not a class)")
        yield Item(dataset.name_of(index), own, label, read)
