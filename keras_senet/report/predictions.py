"""The predictions of a trained network on a dataset, in one pass: accuracy, the most confident
mistakes and hits, likely wrong labels, the gates.
"""

import contextlib
import itertools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_senet.analysis.excitations import gates_step
from keras_senet.data import Dataset, Encoded
from keras_senet.evaluation import Evaluation, evaluate, prediction_step
from keras_senet.graphs import stage_of
from keras_senet.layers.data_format import from_channels_last

GATE_IMAGES = 1000
PAIRS = 12
SHOWN = 3  # images per pair
SUREST = 8  # images, each of another pair of classes


@dataclass(frozen=True)
class Prediction:
    """An image by its index: its class, the predicted one, and the probabilities (0..1) of both."""

    index: int
    true: int
    predicted: int
    true_probability: float
    probability: float


@dataclass(frozen=True)
class Pair:
    """A class mistaken for another one: how often, and the mistakes of the highest probability."""

    true: int
    predicted: int
    count: int
    mistakes: tuple[Prediction, ...]


class Gate(NamedTuple):
    """One SE block's gates, averaged over images: mean, 10th and 90th percentile of channels."""

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

    mistakes, hits  the images with the highest probability of a wrong and of a right prediction,
                    one for each pair of classes, at most `SUREST`
    suspects        the images that are likely to have a wrong label: see `find_suspects`
    gates           empty for a network without SE blocks, and if they were not asked for
    gate_images     the number of images that they are averaged over
    """

    evaluation: Evaluation
    pairs: tuple[Pair, ...]
    mistakes: tuple[Prediction, ...]
    hits: tuple[Prediction, ...]
    suspects: tuple[Prediction, ...]
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
    """The `Predictions` of a network on all images of a dataset but corrupt ones.

    Raises:
        ValueError: if network and dataset do not fit together, or no image can be decoded.
    """
    means = GateMeans(model, math.ceil(len(dataset) / GATE_IMAGES), with_gates)
    step, batches = prediction_step(model), []

    def watched_step(images):
        means.add(images)
        return step(images)

    result = evaluate(
        model,
        dataset,
        step=watched_step,
        batch_size=batch_size,
        skip_corrupt=True,
        observe=lambda *found: batches.append(judge(*found)),
        progress=progress,
    )
    used = np.delete(np.arange(len(dataset)), [corrupt.index for corrupt in result.skipped])
    columns = Columns(*map(np.concatenate, zip(*batches, strict=True)))
    return Predictions(
        result,
        find_pairs(result.confusion, used, columns),
        find_surest(used, columns, columns.predicted != columns.true),
        find_surest(used, columns, columns.predicted == columns.true),
        find_suspects(used, columns, len(result.images)),
        means.gates(),
        means.images,
    )


class Columns(NamedTuple):
    """Arrays (N,): class, prediction or -1 if it is not finite, and the probabilities of both."""

    true: np.ndarray
    predicted: np.ndarray
    true_probability: np.ndarray
    probability: np.ndarray


def judge(probabilities: np.ndarray, labels: np.ndarray) -> Columns:
    """The `Columns` of a batch: probabilities (N, classes), labels (N,)."""
    finite = np.isfinite(probabilities).all(axis=1)
    predicted = np.where(finite, probabilities.argmax(axis=1), -1).astype("int32")
    true = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    return Columns(labels.astype("int32"), predicted, true, probabilities.max(axis=1))


def find_suspects(used: np.ndarray, columns: Columns, classes: int) -> tuple[Prediction, ...]:
    """The images that are likely to have a wrong label, the most suspicious first.

    An image is one if another class is predicted with at least the probability that the images
    labelled with that class have for it on average. They are sorted by the probability of their own
    label, the lowest first. Source: Northcutt et al. 2021, arXiv 1911.00068: the thresholds of the
    confident joint (Section 3.1), and ranking by self-confidence.

    Args:
        used: (N,): the indices of the images in the dataset.
        columns: their `Columns`.
        classes: how many there are.
    """
    finite = columns.predicted >= 0
    sums, counts = (
        np.bincount(columns.true[finite], weights, minlength=classes)
        for weights in (columns.true_probability[finite].astype("float64"), None)
    )
    # Of a class without images nothing is known: no prediction of it is confident.
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    confident = columns.probability >= thresholds[columns.predicted]
    (places,) = np.nonzero(finite & (columns.predicted != columns.true) & confident)
    order = np.lexsort((-columns.probability[places], columns.true_probability[places]))
    return tuple(_prediction(used, columns, place) for place in places[order])


def find_surest(used: np.ndarray, columns: Columns, wanted: np.ndarray) -> tuple[Prediction, ...]:
    """The `SUREST` of `wanted` (N,) by probability, one per pair of true and predicted class."""
    (places,) = np.nonzero(wanted & (columns.predicted >= 0))
    order = places[np.argsort(-columns.probability[places], kind="stable")]
    pairs = {}
    for place in order:
        pairs.setdefault((columns.true[place], columns.predicted[place]), place)
    return tuple(_prediction(used, columns, place) for place in list(pairs.values())[:SUREST])


def _prediction(used, columns, place):
    return Prediction(int(used[place]), *(column[place].item() for column in columns))


def find_pairs(confusion: np.ndarray, used: np.ndarray, columns: Columns) -> tuple[Pair, ...]:
    """The `Pair`s that occur most often; of equally frequent ones those that are a larger fraction
    of their class.

    Args:
        confusion: counts [true class, predicted class].
        used: (N,): the indices of the images in the dataset.
        columns: their `Columns`.
    """
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    fractions = wrong / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    true, other = np.nonzero(wrong)
    order = np.lexsort((other, true, -fractions[true, other], -wrong[true, other]))[:PAIRS]
    pairs = []
    for i, j in zip(true[order], other[order], strict=True):
        places = np.flatnonzero((columns.true == i) & (columns.predicted == j))
        surest = places[np.argsort(-columns.probability[places], kind="stable")[:SHOWN]]
        mistakes = tuple(_prediction(used, columns, k) for k in surest)
        pairs.append(Pair(int(i), int(j), int(wrong[i, j]), mistakes))
    return tuple(pairs)


def as_input(model: keras.Model, images: Any) -> Any:
    """Images uint8 (N, H, W, C) of 0..255 as the network takes them."""
    return model.preprocessing.normalize(from_channels_last(images))


class GateMeans:
    """The mean gates of each SE block over every `stride`th image, so that all classes of a sorted
    dataset are represented.

    A network without SE blocks has none, and one of which none are `wanted`.
    """

    def __init__(self, model: keras.Model, stride: int, wanted: bool = True):
        self.stride, self.seen, self.images, self.total = stride, 0, 0, np.zeros(())
        self.step, self.blocks = None, []
        with contextlib.suppress(ValueError):
            if wanted:
                self.step, self.blocks = gates_step(model)

    def add(self, images: Any) -> None:
        """Adds the gates of the images (N, H, W, C) that come next in the dataset."""
        chosen = images[-self.seen % self.stride :: self.stride]
        self.seen += len(images)
        if self.step is None or not len(chosen):
            return
        self.images += len(chosen)
        self.total = self.total + self.step(chosen).numpy().sum(axis=0, dtype="float64")

    def gates(self) -> tuple[Gate, ...]:
        """A `Gate` per block, in the order of the graph."""
        ends = list(itertools.accumulate(channels for _, _, channels in self.blocks))
        found = []
        for (block, _, channels), end in zip(self.blocks, ends, strict=True):
            means = self.total[end - channels : end] / self.images
            low, high = np.percentile(means, (10, 90))
            found.append(Gate(block, channels, float(means.mean()), float(low), float(high)))
        return tuple(found)
