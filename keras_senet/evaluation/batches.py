"""A dataset's images in batches, each shown as for evaluation."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_senet import data
from keras_senet.data.corrupt import find_wrong_label
from keras_senet.evaluation.networks import Images, View, check_images, views_of
from keras_senet.evaluation.protocols import Whole


def batches_of(model: keras.Model, dataset: Images, size: int, skip_corrupt: bool = False) -> Any:
    """`make_batches` of the views that a network has by default.

    Raises:
        ValueError: unless the model takes such images.
    """
    check_images(model, dataset)
    return make_batches(dataset, size, views_of(model, dataset, None), skip_corrupt)


def make_batches(
    dataset: Images, size: int, views: Sequence[View], skip_corrupt: bool = False
) -> Any:
    """The views of all images, and their labels, in batches of `size` images: ((uint8 (N, crops, H,
    W, C) for each view), labels int64 (N,)); `skipped` lists the `Corrupt` images that were left
    out.

    Images in memory that are taken whole need no pipeline of TensorFlow, which may not be there,
    and takes longer to begin than a few of them.
    """
    if dataset.is_in_memory and all(isinstance(view, Whole) for view in views):
        return ArrayBatches(dataset, size, skip_corrupt)

    def show(image):
        return tuple(view(image) for view in views)

    return data.evaluation_batches(dataset, size, show, skip_corrupt=skip_corrupt)


class ArrayBatches:
    """Batches of images in memory: ((images uint8 (N, 1, H, W, C),), labels int64 (N,)). `skipped`
    lists the `Corrupt` images that are left out, those whose label is not a class.

    Raises:
        ValueError: if there are no images.
        CorruptImageError: for a label that is not a class, without `skip_corrupt`.
    """

    def __init__(self, dataset, batch_size, skip_corrupt):
        self.dataset, self.batch_size = dataset, batch_size
        labels = np.asarray(dataset.labels)
        found = (find_wrong_label(dataset, at, label) for at, label in enumerate(labels))
        self.skipped = [each for each in found if each]
        if self.skipped and not skip_corrupt:
            raise data.CorruptImageError(str(self.skipped[0]))
        self.good = np.delete(np.arange(len(labels)), [each.index for each in self.skipped])
        if not len(self.good):
            raise ValueError("The dataset has no images with valid labels")

    def __len__(self) -> int:
        return math.ceil(len(self.good) / self.batch_size)

    def __iter__(self):
        for first in range(0, len(self.good), self.batch_size):
            images, labels = self.dataset.fetch(self.good[first : first + self.batch_size])
            yield (images[:, None],), labels
