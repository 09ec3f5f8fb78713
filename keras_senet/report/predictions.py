"""The predictions of a trained network on a dataset, in one pass: accuracy, the most confident
mistakes, the gates.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_senet.analysis import gates
from keras_senet.data import Dataset, Encoded
from keras_senet.evaluation import Evaluation, evaluate, prediction_step
from keras_senet.graphs import stage_of

GATE_IMAGES = 1000
PAIRS = 12
SHOWN = 3  # images per pair


@dataclass(frozen=True)
class Mistake:
    """A wrongly classified image, by its index in the dataset, and the probability (0..1) of the
    prediction.
    """

    index: int
    probability: float


@dataclass(frozen=True)
class Pair:
    """A class that was mistaken for another one: how often, and the mistakes of the highest
    probability.
    """

    true: int
    predicted: int
    count: int
    mistakes: tuple[Mistake, ...]


class Gate(NamedTuple):
    """The gates of one SE block, averaged over images: their mean, and the 10th and 90th percentile
    of its channels.
    """

    block: str
    channels: int
    mean: float
    low: float
    high: float

    @property
    def stage(self) -> str:
        """The stage of the block."""
        return stage_of(self.block)


@dataclass(frozen=True)
class Predictions:
    """The `Evaluation` of a network, its most confused pairs, and its gates in the order of depth.

    `gates` is empty for a network without SE blocks, and if they were not asked for; `gate_images`
    is the number of images that they are averaged over.
    """

    evaluation: Evaluation
    pairs: tuple[Pair, ...]
    gates: tuple[Gate, ...]
    gate_images: int


def predict_dataset(
    model: keras.Model,
    dataset: Dataset | Encoded,
    *,
    with_gates: bool = True,
    batch_size: int = 128,
    progress: Any = False,
) -> Predictions:
    """The `Predictions` of a network on all images of a dataset, each decoded once; corrupt ones
    are left out.

    Memory is that of a batch, and twelve bytes per image.

    Raises:
        ValueError: if network and dataset do not fit together, or no image can be decoded.
    """
    stride = math.ceil(len(dataset) / GATE_IMAGES)
    means = GateMeans(model, stride) if with_gates else None
    step = RecordingStep(prediction_step(model), means)
    result = evaluate(
        model, dataset, step=step, batch_size=batch_size, skip_corrupt=True, progress=progress
    )
    used = np.delete(np.arange(len(dataset)), [corrupt.index for corrupt in result.skipped])
    predicted, probability = map(np.concatenate, (step.predicted, step.probability))
    pairs = find_pairs(result.confusion, used, dataset.labels[used], predicted, probability)
    return Predictions(result, pairs, means.gates() if means else (), means.images if means else 0)


class RecordingStep:
    """A prediction step that records its outputs: `predicted`, -1 where the probabilities are not
    finite, and `probability`.
    """

    def __init__(self, step: Callable, gates: "GateMeans | None"):
        self.step, self.gates = step, gates
        self.predicted, self.probability = [], []

    def __call__(self, images):
        probabilities = self.step(images)
        values = probabilities.numpy()
        finite = np.isfinite(values).all(axis=1)
        self.predicted.append(np.where(finite, values.argmax(axis=1), -1))
        self.probability.append(values.max(axis=1))
        if self.gates:
            self.gates.add(images)
        return probabilities


def find_pairs(
    confusion: np.ndarray,
    indices: np.ndarray,
    labels: np.ndarray,
    predicted: np.ndarray,
    probability: np.ndarray,
) -> tuple[Pair, ...]:
    """The `Pair`s that occur most often; of equally frequent ones those that are a larger fraction
    of their class.

    Args:
        confusion: counts [true class, predicted class].
        indices, labels, predicted, probability: (N,) of the images.
    """
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    fractions = wrong / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    true, other = np.nonzero(wrong)
    order = np.lexsort((other, true, -fractions[true, other], -wrong[true, other]))[:PAIRS]
    pairs = []
    for i, j in zip(true[order], other[order], strict=True):
        places = np.flatnonzero((labels == i) & (predicted == j))
        surest = places[np.argsort(-probability[places], kind="stable")[:SHOWN]]
        mistakes = tuple(Mistake(int(indices[k]), float(probability[k])) for k in surest)
        pairs.append(Pair(int(i), int(j), int(wrong[i, j]), mistakes))
    return tuple(pairs)


class GateMeans:
    """The mean gates of each SE block over every `stride`th image, so that all classes of a sorted
    dataset are represented.

    A network without SE blocks has none.
    """

    def __init__(self, model: keras.Model, stride: int):
        self.stride, self.seen, self.images = stride, 0, 0
        self.model, self.sums = model, {}
        try:
            self.step = self._make_step(gates(model))
        except ValueError:
            self.step = None

    def _make_step(self, network):
        """A tf.function: images uint8 (N, H, W, C) -> {block: sum over images of the mean gate of
        each channel (C,)}.
        """
        channels_first = keras.config.image_data_format() == "channels_first"
        places = (2, 3) if channels_first else (1, 2)

        def sums(images):
            images = tf.transpose(images, (0, 3, 1, 2)) if channels_first else images
            found = network(self.model.preprocessing.normalize(images), training=False)
            return {
                block: tf.reduce_sum(tf.reduce_mean(tf.cast(gate, tf.float32), places), 0)
                for block, gate in found.items()
            }

        return tf.function(sums, reduce_retracing=True, autograph=False)

    def add(self, images: tf.Tensor) -> None:
        """Adds the gates of the images (N, H, W, C) that come next in the dataset."""
        chosen = images[-self.seen % self.stride :: self.stride]
        self.seen += len(images)
        if self.step is None or not len(chosen):
            return
        self.images += len(chosen)
        for block, total in self.step(chosen).items():
            self.sums[block] = self.sums.get(block, 0) + total.numpy().astype("float64")

    def gates(self) -> tuple[Gate, ...]:
        """A `Gate` per block, in the order of the graph."""
        means = {block: total / self.images for block, total in self.sums.items()}
        return tuple(self._summarize(block, values) for block, values in means.items())

    def _summarize(self, block, means):
        low, high = np.percentile(means, (10, 90))
        return Gate(block, len(means), float(means.mean()), float(low), float(high))
