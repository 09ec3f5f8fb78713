"""All images of a dataset in their order, for evaluation."""

import math

import tensorflow as tf

from keras_senet.data.decoding import CorruptImageError, checked, why_corrupt
from keras_senet.data.sources import at_once, fetched, options, read


def evaluation_batches(dataset, batch_size, transform=None, *, skip_corrupt=False):
    """All images in their order: batches (images, labels int64) that can be gone through again, the
    last one smaller.

    Args:
        dataset: what `load` gives.
        batch_size: images a batch.
        transform: what is done to each image, uint8 (H, W, C) -> a tensor, in TensorFlow's graph;
        without one the
            images are uint8 as they are, and must have one size.
        skip_corrupt: whether to leave out images that cannot be decoded, and list them in the
        attribute `skipped`.

    Raises:
        ValueError: if the images differ in size and there is no transform.
        CorruptImageError: when going through it, for an image that cannot be decoded or has a label
        that is no class.
    """
    if transform is None and None in dataset.image_shape:
        raise ValueError(
            f"Images of different sizes need a `transform`. Received: images of shape {dataset.image_shape}"
        )
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1. Received: batch_size={batch_size}")
    return EvaluationBatches(dataset, batch_size, transform, skip_corrupt)


class EvaluationBatches:
    """See `evaluation_batches`. `skipped` lists the `Corrupt` images that were left out so far."""

    def __init__(self, dataset, batch_size, transform, skip_corrupt):
        self.dataset, self.batch_size, self.skip_corrupt = dataset, batch_size, skip_corrupt
        self.transform = transform or (lambda image: image)
        self.skipped = []

    def __len__(self):
        return math.ceil((len(self.dataset) - len(self.skipped)) / self.batch_size)

    def __iter__(self):
        done = 0  # good images
        while True:
            try:
                for indices, images, labels in self._from(done):
                    yield images, labels
                    done += len(indices)
                return
            except tf.errors.OpError as error:
                self._find_corrupt(done, error)

    def _good(self, done):
        """Indices of images that are not known to be corrupt, from the one behind `done` of them
        on.
        """
        good = tf.data.Dataset.range(len(self.dataset))
        if self.skipped:
            bad = tf.constant([corrupt.index for corrupt in self.skipped], tf.int64)
            good = good.filter(lambda index: tf.reduce_all(index != bad))
        return good.skip(done)

    def _from(self, done):
        """(indices, images, labels) of batches from the good image at place `done` on."""
        classes = len(self.dataset.class_names)

        @tf.autograph.experimental.do_not_convert
        def example(index, raw, orientation, label):
            image = tf.ensure_shape(self.dataset.decode(raw, orientation), self.dataset.image_shape)
            return index, self.transform(image), label

        def fetch(indices):
            return indices, *fetched(self.dataset, indices)

        raw = read(self._good(done).batch(self.batch_size), fetch, 2)
        examples = raw.unbatch().map(example, at_once(), deterministic=True)
        batches = examples.batch(self.batch_size).map(
            lambda at, x, labels: (at, x, checked(labels, classes))
        )
        return batches.prefetch(2).with_options(options())

    def _find_corrupt(self, done, error):
        """Adds the corrupt images of the batch behind `done` to `skipped`, or raises."""
        indices = self._good(done).take(self.batch_size).as_numpy_iterator()
        corrupt = [found for index in indices if (found := why_corrupt(self.dataset, index))]
        if not corrupt:
            raise error
        if not self.skip_corrupt:
            raise CorruptImageError(str(corrupt[0])) from error
        self.skipped += corrupt
