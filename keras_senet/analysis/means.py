"""Means over images of what goes through layers of a network, channel by channel."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_senet.analysis.taps import gate_of, mean_over_places, tap
from keras_senet.data.sources import select_evenly
from keras_senet.graphs import functional_of
from keras_senet.layers.data_format import as_images, from_channels_last

BATCH = 64  # images per step


def subsample(dataset: Any, most: int | None) -> Any:
    """The dataset, or `most` of its images, evenly spread over it, as a dataset."""
    if most is None or len(dataset) <= most:
        return dataset
    return dataset.select(select_evenly(len(dataset), most))


def mean_gates(
    model: keras.Model, blocks, images, *, progress: Any = False
) -> dict[keras.Layer, np.ndarray]:
    """The mean gate of each SE block over images, and over places where it has no squeeze: float64
    (C,).

    Args:
        model: a functional Keras model.
        blocks: those of its SE blocks whose means are wanted.
        images: a dataset of `keras_senet.data`, shown as for evaluation, or images (N, H, W, C) as
            the network takes them.
        progress: as `evaluate` has it.

    Raises:
        ValueError: if there are no images, or they are not what the network takes.
        CorruptImageError: for an image that cannot be decoded.
    """
    return _means(model, blocks, images, lambda gate: gate, progress)


def mean_magnitudes(
    model: keras.Model, watched, images, *, progress: Any = False
) -> dict[keras.Layer, np.ndarray]:
    """The mean magnitude, over images and places, of each SE block's gate and each convolution's
    input: float64 (C,).

    Arguments and errors as for `mean_gates`.
    """
    return _means(model, watched, images, ops.absolute, progress)


def _means(model, watched, images, function, progress) -> dict[Any, np.ndarray]:
    watched = list(watched)
    step = _make_step(model, watched, function)
    total, sums = 0, [np.zeros(())] * len(watched)
    for batch in _batches(model, images, progress):
        total += len(batch)
        for i, mean in enumerate(step(batch)):
            sums[i] = sums[i] + len(batch) * np.asarray(ops.convert_to_numpy(mean), "float64")
    if not total:
        raise ValueError("There must be images to take means over. Received: none")
    return {layer: each / total for layer, each in zip(watched, sums, strict=True)}


def _make_step(model, watched, function) -> Callable[[Any], Any]:
    """A function from a batch, as the network takes it, to each layer's mean (C,) over calls."""

    def mean_of(layer, *inputs):
        if layer not in watched:
            return None
        gate = gate_of(layer, *inputs)
        return mean_over_places(function(inputs[0] if gate is None else gate), layer)

    taps = tap(model, mean_of)
    network = keras.Model(functional_of(model).input, [each.value for each in taps])

    def compute(images):
        found = keras.tree.flatten(network(images, training=False))
        means = [
            [mean for each, mean in zip(taps, found, strict=True) if each.layer is layer]
            for layer in watched
        ]
        return [sum(ops.mean(mean, axis=0) for mean in each) / len(each) for each in means]

    if keras.backend.backend() != "tensorflow":
        return compute
    import tensorflow as tf

    return tf.function(compute, autograph=False, reduce_retracing=True)


def _batches(model, images, progress) -> Iterator[Any]:
    """Of an array, or of a dataset, whose images are shown as for evaluation."""
    if not hasattr(images, "fetch"):
        images = as_images(model, images)
        for first in range(0, len(images), BATCH):
            yield ops.convert_to_tensor(images[first : first + BATCH])
    elif len(images):
        from keras_senet.evaluation.batches import batches_of
        from keras_senet.progress import track

        batches = batches_of(model, images, BATCH)
        for (shown,), _ in track(batches, progress, "measuring channels"):
            yield model.preprocessing.normalize(from_channels_last(shown[:, 0]))
