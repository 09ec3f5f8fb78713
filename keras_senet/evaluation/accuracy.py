"""evaluate(): counts correct predictions, batch by batch."""

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import ops

from keras_senet.evaluation import networks
from keras_senet.evaluation.batches import make_batches
from keras_senet.evaluation.protocols import Crops, Protocol, Whole
from keras_senet.fields import check_argument, check_integer
from keras_senet.imagenet import imagenet_classes
from keras_senet.progress import track

if TYPE_CHECKING:
    from rich.console import Console

    from keras_senet.data import Corrupt, Dataset, Encoded


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The accuracy of predictions on a dataset.

    top1, top5    the fraction of images whose class is the top-1 prediction, or among the top 5
    loss          the mean cross-entropy, in nats
    confusion     counts [true class, predicted class]; without the images of `not_finite`
    images        (classes,): how many images of each class there are
    top5_correct  (classes,): for how many of them the class is among the top 5
    not_finite    images whose probabilities are not finite numbers: they count as wrong
    skipped       the images that could not be decoded and were left out: `Corrupt` of
                  `keras_senet.data`
    views         for each network the views of an image that it predicts from
    """

    top1: float
    top5: float
    loss: float
    confusion: np.ndarray
    images: np.ndarray
    top5_correct: np.ndarray
    not_finite: int
    skipped: "tuple[Corrupt, ...]"
    views: tuple[tuple[Crops | Whole, ...], ...]

    @property
    def balanced_accuracy(self) -> float:
        """The mean of the top-1 accuracies of the classes that have images."""
        there = self.images > 0
        return float((self.confusion.diagonal()[there] / self.images[there]).mean())


def evaluate(
    model: keras.Model | Sequence[keras.Model],
    dataset: "Dataset | Encoded",
    *,
    batch_size: int = 128,
    protocol: Protocol | Sequence[Protocol | None] | None = None,
    step: Callable | None = None,
    skip_corrupt: bool = False,
    observe: Callable[[np.ndarray, np.ndarray], None] | None = None,
    progress: "bool | Console" = False,
) -> Evaluation:
    """The `Evaluation` of a network, or of the average of several, on a dataset.

    An image is decoded once; each network sees the crops that its own `preprocessing` and the
    protocol say. Probabilities are averaged.

    Args:
        model: a classifier with the attribute `preprocessing`, or a list of them.
        dataset: a dataset of `keras_senet.data`.
        batch_size: crops per step of a network; at least those of one image.
        protocol: a `Protocol`, or a list with one for each network. None is each network's own
            size, crop fraction and interpolation; images of its size are taken whole.
        step: `prediction_step(model)` of a single network that is evaluated several times.
        skip_corrupt: whether to leave out images that cannot be decoded rather than raise.
        observe: called for each batch with its probabilities (N, classes) and labels (N,).
        progress: whether to show a progress bar on a terminal; or the `rich` console for it.

    Raises:
        ValueError: if networks, protocol and dataset do not fit together, or there are no images.
        CorruptImageError: for an image that cannot be decoded, without `skip_corrupt`.
    """
    ensemble = _make_ensemble(model, dataset, protocol, step)
    check_integer("batch_size", batch_size, 1)
    views = tuple(dict.fromkeys(view for network in ensemble for view in network.views))
    images = max(1, batch_size // max(view.count for view in views))
    batches = make_batches(dataset, images, views, skip_corrupt)
    counts = Counts(len(dataset.class_names))
    for shown, labels in track(batches, progress, "evaluating"):
        found = _predict(ensemble, dict(zip(views, shown, strict=True))), np.asarray(labels)
        counts.add(*found)
        if observe:
            observe(*found)
    return counts.evaluation(tuple(batches.skipped), tuple(network.views for network in ensemble))


def _predict(ensemble, shown):
    outputs = [network(shown) for network in ensemble]
    return ops.convert_to_numpy(functools.reduce(operator.add, outputs) / len(ensemble))


def _make_ensemble(model, dataset, protocol, step):
    models = list(model) if isinstance(model, (list, tuple)) else [model]
    protocols = list(protocol) if isinstance(protocol, (list, tuple)) else [protocol] * len(models)
    if not models or len(protocols) != len(models):
        raise ValueError(
            "There must be a network, and a protocol for each. "
            f"Received: {len(models)} and {len(protocols)}"
        )
    if step is not None and len(models) > 1:
        raise ValueError("`step` must be None for several networks")
    _check_dataset(dataset)
    for each, how in zip(models, protocols, strict=True):
        is_known = how is None or isinstance(how, Protocol)
        check_argument("protocol", how, is_known, "a `Protocol` or None")
        networks.check_classifier(each, dataset)
    return [
        networks.Predictor(each, networks.views_of(each, dataset, how), step)
        for each, how in zip(models, protocols, strict=True)
    ]


def _check_dataset(dataset):
    """Raises ValueError for a dataset whose classes are ImageNet's in another order."""
    names, standard = list(dataset.class_names), [c.wordnet_id for c in imagenet_classes()]
    if names != standard and sorted(names) == standard:
        place = next(i for i, name in enumerate(names) if name != standard[i])
        raise ValueError(
            "The dataset's classes are ImageNet's in another order than the networks', that of the "
            f"WordNet ids: class {place} is {names[place]}, not {standard[place]}"
        )


class Counts:
    """Sums over the batches so far."""

    def __init__(self, classes):
        self.loss, self.not_finite = 0.0, 0
        self.confusion = np.zeros((classes, classes), "int64")
        self.images, self.top5_correct = np.zeros((2, classes), "int64")

    def add(self, probabilities: np.ndarray, labels: np.ndarray) -> None:
        """Counts a batch: probabilities (N, classes), labels (N,)."""
        classes = len(self.images)
        finite = np.isfinite(probabilities).all(axis=1)
        true = np.take_along_axis(probabilities, labels[:, None], axis=1)
        # Of equally probable classes the first is ahead, as in a stable sort and in `argmax`.
        ahead = (probabilities > true) | (
            (probabilities == true) & (np.arange(classes) < labels[:, None])
        )
        in_top5 = finite & (ahead.sum(axis=1) < 5)
        np.add.at(self.confusion, (labels[finite], probabilities[finite].argmax(axis=1)), 1)
        self.images += np.bincount(labels, minlength=classes)
        self.top5_correct += np.bincount(labels[in_top5], minlength=classes)
        self.not_finite += int((~finite).sum())
        self.loss -= float(np.log(np.maximum(true, keras.config.epsilon()), dtype="float64").sum())

    def evaluation(self, skipped: "tuple[Corrupt, ...]", views: tuple) -> Evaluation:
        """The `Evaluation` of all batches."""
        total = int(self.images.sum())
        return Evaluation(
            top1=float(self.confusion.trace() / total),
            top5=float(self.top5_correct.sum() / total),
            loss=self.loss / total,
            confusion=self.confusion,
            images=self.images,
            top5_correct=self.top5_correct,
            not_finite=self.not_finite,
            skipped=skipped,
            views=views,
        )
