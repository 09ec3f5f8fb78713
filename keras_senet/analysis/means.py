"""Means over images of what goes through layers of a network, channel by channel."""

import contextlib

import keras
import numpy as np
from keras import ops

from keras_senet.layers import SqueezeExcite

BATCH = 64  # images a step


class Part:
    """Images of a dataset, by their indices, as a dataset."""

    def __init__(self, dataset, indices):
        self.dataset, self.indices = dataset, np.asarray(indices)

    def __getattr__(self, name):
        return getattr(self.dataset, name)

    def __len__(self):
        return len(self.indices)

    def fetch(self, indices):
        """As the dataset's own, of indices within the part."""
        return self.dataset.fetch(self.indices[indices])

    def name_of(self, index):
        """What the dataset calls the image."""
        return self.dataset.name_of(int(self.indices[index]))


def spread(dataset, most):
    """The dataset, or a part of it: `most` images, evenly spread over it."""
    if most is None or len(dataset) <= most:
        return dataset
    return Part(dataset, np.linspace(0, len(dataset) - 1, most).astype("int64"))


def mean_gates(model, blocks, images, *, progress=False):
    """The mean gate of each SE block over images, and over places where it has no squeeze: float64
    (C,).

    Args:
        model: a functional Keras model.
        blocks: its SE blocks that are asked for.
        images: a dataset of `keras_senet.data`, shown as for evaluation, or images (N, H, W, C) as
        the network takes
            them.
        progress: as `evaluate` has it.

    Raises:
        ValueError: if there are no images, or they are not what the network takes.
        CorruptImageError: for an image that cannot be decoded.
    """
    return _means(model, blocks, images, lambda gate: gate, progress)


def mean_magnitudes(model, watched, images, *, progress=False):
    """The mean magnitude, over images and places, of each SE block's gate and each convolution's
    input: float64 (C,).

    Arguments and errors as for `mean_gates`.
    """
    return _means(model, watched, images, ops.absolute, progress)


def _means(model, watched, images, function, progress):
    watched = list(watched)
    step = _step(model, watched, function)
    total, sums = 0, [0.0] * len(watched)
    for batch in _batches(model, images, progress):
        total += len(batch)
        for i, mean in enumerate(step(batch)):
            sums[i] += len(batch) * ops.convert_to_numpy(mean).astype("float64")
    if not total:
        raise ValueError("There must be images to take means over. Received: none")
    return {layer: each / total for layer, each in zip(watched, sums, strict=True)}


def _step(model, watched, function):
    """A function from a batch, as the network takes it, to a mean (C,) for each layer."""

    def means(images):
        with contextlib.ExitStack() as stack:
            seen = [stack.enter_context(_observed(layer)) for layer in watched]
            model(images, training=False)
        return [
            sum(_channel_mean(function(value), layer) for value in values) / max(1, len(values))
            for layer, values in zip(watched, seen, strict=True)
        ]

    if keras.backend.backend() != "tensorflow":
        return means
    import tensorflow as tf

    return tf.function(means, autograph=False, reduce_retracing=True)


def _channel_mean(value, layer):
    channels = 3 if layer.data_format == "channels_last" else 1
    return ops.mean(
        ops.cast(value, "float32"), axis=[axis for axis in range(4) if axis != channels]
    )


@contextlib.contextmanager
def _observed(layer):
    """What a layer meets in calls within, one value a call: an SE block's gate, another layer's
    input.
    """
    name = "excitation" if isinstance(layer, SqueezeExcite) else "call"
    own, values = getattr(layer, name), []

    def observing(x, *arguments, **keywords):
        result = own(x, *arguments, **keywords)
        values.append(result if name == "excitation" else x)
        return result

    setattr(layer, name, observing)
    try:
        yield values
    finally:
        delattr(layer, name)


def _batches(model, images, progress):
    """Batches as the network takes them."""
    if hasattr(images, "fetch"):
        yield from _prepared(model, images, progress)
        return
    images, shape = np.asarray(images), tuple(model.inputs[0].shape)
    if images.ndim != 4 or any(
        n not in (None, m) for n, m in zip(shape[1:], images.shape[1:], strict=True)
    ):
        raise ValueError(
            f"`images` must be of shape {shape}. Received: images of shape {images.shape}"
        )
    for first in range(0, len(images), BATCH):
        yield ops.convert_to_tensor(images[first : first + BATCH], "float32")


def _prepared(model, dataset, progress):
    """The images of a dataset, each shown as for evaluation."""
    if not len(dataset):
        return
    from keras_senet.data import evaluation_batches
    from keras_senet.evaluation import networks
    from keras_senet.evaluation.accuracy import track

    networks.check_images(model, dataset)
    (view,) = networks.views_of(model, dataset, None)
    batches = evaluation_batches(dataset, BATCH, lambda image: view(image)[0])
    channels_first = keras.config.image_data_format() == "channels_first"
    for images, _ in track(batches, progress, "looking"):
        yield model.preprocessing.normalize(
            ops.transpose(images, (0, 3, 1, 2)) if channels_first else images
        )
