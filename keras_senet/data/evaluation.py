"""All images of a dataset in their order, for evaluation."""

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_senet.data.corrupt import Corrupt, CorruptImageError
from keras_senet.data.decoding import check_labels, find_corrupt
from keras_senet.data.pipelines import fetch_in_graph, map_decoding, map_reading, set_options
from keras_senet.data.sources import Dataset, Encoded
from keras_senet.fields import check_argument


class EvaluationBatches:
    """All images in their order: batches (images, labels int64), the last one smaller, which can be
    iterated over several times.

    Args:
        dataset: what `load` returns.
        batch_size: images per batch.
        transform: applied to each image, uint8 (H, W, C) -> a tensor, in TensorFlow's graph;
            without one the images are uint8 as they are, and must have one size.
        skip_corrupt: whether to leave out images that cannot be decoded, and list them in the
            attribute `skipped`: `Corrupt` of each so far.

    Raises:
        ValueError: if there are no images, or they differ in size and there is no transform; while
            iterating, if all of them were left out.
        CorruptImageError: while iterating, for an image that cannot be decoded or whose label is
            not a class.
    """

    def __init__(
        self,
        dataset: Dataset | Encoded,
        batch_size: int,
        transform: Callable[[tf.Tensor], Any] | None = None,
        *,
        skip_corrupt: bool = False,
    ):
        if not len(dataset):
            raise ValueError("The dataset has no images")
        if transform is None and None in dataset.image_shape:
            raise ValueError(
                "Images of different sizes need a `transform`. "
                f"Received: images of shape {dataset.image_shape}"
            )
        check_argument("batch_size", batch_size, batch_size >= 1, "at least 1")
        self.dataset, self.batch_size, self.skip_corrupt = dataset, batch_size, skip_corrupt
        self.transform = transform or (lambda image: image)
        self.skipped: list[Corrupt] = []

    def __len__(self) -> int:
        return math.ceil((len(self.dataset) - len(self.skipped)) / self.batch_size)

    def __iter__(self):
        done = 0  # good images
        while True:
            try:
                for indices, images, labels in self._from(done):
                    yield images, labels
                    done += len(indices)
            except tf.errors.OpError as error:
                self._skip_corrupt(done, error)
            else:
                break
        if self.skipped and not done:
            count = len(self.skipped)
            raise ValueError(f"No image of the dataset could be decoded: {count} were left out")

    def _good(self, done):
        """Indices of images that are not known to be corrupt, after the first `done` of them."""
        good = tf.data.Dataset.range(len(self.dataset))
        if self.skipped:
            bad = tf.constant([corrupt.index for corrupt in self.skipped], tf.int64)
            good = good.filter(lambda index: tf.reduce_all(index != bad))
        return good.skip(done)

    def _from(self, done):
        """(indices, images, labels) of batches after the first `done` good images."""
        classes = len(self.dataset.class_names)

        @tf.autograph.experimental.do_not_convert
        def example(index, raw, orientation, label):
            image = tf.ensure_shape(self.dataset.decode(raw, orientation), self.dataset.image_shape)
            return index, self.transform(image), label

        @tf.autograph.experimental.do_not_convert
        def fetch(indices):
            return indices, *fetch_in_graph(self.dataset, indices)

        @tf.autograph.experimental.do_not_convert
        def check(indices, images, labels):
            return indices, images, check_labels(labels, classes)

        raw = map_reading(self._good(done).batch(self.batch_size), fetch, 2)
        batches = map_decoding(raw.unbatch(), example).batch(self.batch_size)
        return set_options(batches.map(check).prefetch(2))

    def _skip_corrupt(self, done, error):
        """Adds the corrupt images of the batch after the first `done` to `skipped`, or raises."""
        indices = self._good(done).take(self.batch_size).as_numpy_iterator()
        corrupt = [found for index in indices if (found := find_corrupt(self.dataset, index))]
        if not corrupt:
            raise error
        if not self.skip_corrupt:
            raise CorruptImageError(str(corrupt[0])) from error
        self.skipped += corrupt


evaluation_batches = EvaluationBatches
