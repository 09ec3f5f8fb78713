"""The gates of a network's SE blocks for images."""

import difflib
import itertools
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from keras_senet.analysis.moments import Moments
from keras_senet.analysis.taps import gates, mean_over_places, tap_gates
from keras_senet.fields import check_argument, check_integer
from keras_senet.graphs import functional_of, stage_of
from keras_senet.imagenet import readable
from keras_senet.layers.data_format import from_channels_last, image_shape

if TYPE_CHECKING:
    from keras_senet.data import Corrupt

CLOSED, OPEN = 0.1, 0.9  # magnitudes of gates


def gates_by_stage(model: keras.Model, images) -> dict[str, float]:
    """The mean gate of each stage's SE blocks over images: {"stage2": 0.48, ...}."""
    found = {}
    outputs: Any = gates(model)(images, training=False)
    for name, gate in outputs.items():
        mean = ops.convert_to_numpy(ops.mean(ops.cast(gate, "float32")))
        found.setdefault(stage_of(name), []).append(float(mean))
    return {stage: sum(means) / len(means) for stage, means in found.items()}


@dataclass(frozen=True, eq=False)
class BlockExcitations:
    """The gates of one SE block over a dataset's images; all figures are float64.

    gate           the gate's name, such as "sigmoid"
    class_means    (classes, C): the mean over the images of each class; NaN for a class without
                   images
    class_stds     (classes, C): the standard deviation within each class, as `np.std`; NaN for one
                   without images
    mean           (C,): the mean over all images
    std            (C,): the standard deviation over all images
    closed         (C,): the fraction 0..1 of the images for which the gate's magnitude is below 0.1
    opened         (C,): the fraction for which it is above 0.9
    from_identity  (C,): the mean of |gate - 1|; a block whose gates are all 1 changes nothing
    """

    gate: str
    class_means: np.ndarray
    class_stds: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    closed: np.ndarray
    opened: np.ndarray
    from_identity: np.ndarray


@dataclass(frozen=True, eq=False)
class Excitations:
    """The gates of every SE block over a dataset.

    class_names   those of the rows of `class_means` and `class_stds`
    class_images  (classes,): how many images of each of them there are
    images        how many images there are in all
    blocks        the `BlockExcitations` by the layers' names, in the order of the graph
    skipped       the images that could not be decoded and were left out: `Corrupt` of
                  `keras_senet.data`
    """

    class_names: tuple[str, ...]
    class_images: np.ndarray
    images: int
    blocks: dict[str, BlockExcitations]
    skipped: "tuple[Corrupt, ...]"


def excitations(
    model: keras.Model,
    dataset: Any,
    *,
    classes: Collection[str] | None = None,
    batch_size: int = 128,
    skip_corrupt: bool = False,
    progress: Any = False,
) -> Excitations:
    """The `Excitations` of a network over a dataset's images, each shown once, as for evaluation.

    The gates of blocks without a squeeze, which differ from place to place, are averaged over an
    image's places first. Memory, beside a batch, is 16 bytes per class and channel.

    Args:
        model: a functional Keras model with SE blocks and the attribute `preprocessing`; what
            follows its last block does not matter.
        dataset: a dataset of `keras_senet.data`.
        classes: names of the dataset's classes that are kept one by one; None is all.
        batch_size, skip_corrupt, progress: as `evaluate` has them.

    Raises:
        ValueError: if the model has no SE blocks or does not take the dataset's images, there are
            no images or no such class, or gates are not finite.
        CorruptImageError: for an image that cannot be decoded, without `skip_corrupt`.
    """
    from keras_senet.evaluation.batches import batches_of
    from keras_senet.progress import track

    _check(dataset, batch_size)
    names = dataset.class_names
    kept = range(len(names)) if classes is None else find_classes(classes, names)
    rows = np.full(len(names), -1)
    rows[list(kept)] = range(len(kept))
    batches = batches_of(model, dataset, batch_size, skip_corrupt)
    step, blocks = gates_step(model)
    counts = GateCounts(blocks, len(kept))
    for (images,), labels in track(batches, progress, "measuring gates"):
        counts.add(step(images[:, 0]).numpy(), rows[np.asarray(labels)])
    return counts.excitations(tuple(names[i] for i in kept), tuple(batches.skipped))


def _check(dataset, batch_size):
    check_integer("batch_size", batch_size, 1)
    if not hasattr(dataset, "fetch"):
        kind = type(dataset).__name__
        raise ValueError(
            f"`dataset` must be a dataset of `keras_senet.data`. Received: dataset of type {kind}"
        )


def find_classes(names: Collection[str], class_names) -> list[int]:
    """The indices of classes that are given by their names; ImageNet's also by a word, "goldfish"
    for "n01443537".

    Raises:
        ValueError: for a name of no class or of several, with those that are like it; or without
            any name.
    """
    given = list(names) if isinstance(names, Collection) and not isinstance(names, str) else []
    are_names = given and all(isinstance(name, str) for name in given)
    check_argument("classes", names, are_names, "the names of one class or more")
    indices = {}
    for i, (name, text) in enumerate(zip(class_names, readable(class_names), strict=True)):
        for alias in {name, text, text.removeprefix(f"{name} ")}:
            indices.setdefault(alias, []).append(i)
    return list(dict.fromkeys(_index(name, indices, class_names) for name in given))


def _index(name, indices, class_names):
    found = indices.get(name, ())
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"{len(found)} classes are called {name!r}: {', '.join(class_names[i] for i in found)}"
        )
    like = difflib.get_close_matches(str(name), indices, n=5)
    listed = f"like it: {', '.join(like)}" if like else f"the first: {', '.join(class_names[:5])}"
    raise ValueError(
        f"The dataset has no class {name!r}; of its {len(class_names)} classes {listed}"
    )


def gates_step(model: keras.Model) -> tuple[Callable, list[tuple[str, str, int]]]:
    """What computes all gates: a tf.function, and (name, kind of gate, channels) of each block.

    The function maps images uint8 (N, H, W, C) of 0..255 RGB to the gates of all blocks, joined
    along channels and averaged over places: float32 (N, channels of all blocks).

    Raises:
        ValueError: for a model that is not functional, or has no SE blocks.
    """
    import tensorflow as tf

    from keras_senet.evaluation import networks

    found, preprocessing = tap_gates(model), networks.require_preprocessing(model)
    means = [mean_over_places(each.value, each.layer) for each in found]
    network = keras.Model(functional_of(model).input, means)

    def excite(images):
        excited = network(preprocessing.normalize(from_channels_last(images)), training=False)
        return tf.concat(keras.tree.flatten(excited), axis=-1)

    images = tf.TensorSpec((None, *image_shape(model.inputs[0])), tf.uint8)
    step = tf.function(excite, input_signature=[images], autograph=False)
    return step, [
        (each.name, each.layer.gate, mean.shape[-1])
        for each, mean in zip(found, means, strict=True)
    ]


class GateCounts:
    """What is kept of the gates, those of all `blocks` (name, kind, channels) joined."""

    def __init__(self, blocks, classes):
        self.kinds = {name: kind for name, kind, _ in blocks}
        ends = itertools.accumulate(channels for _, _, channels in blocks)
        self.columns = {
            name: slice(end - n, end) for (name, _, n), end in zip(blocks, ends, strict=True)
        }
        channels = sum(channels for _, _, channels in blocks)
        self.moments = Moments(classes, channels)
        self.closed, self.opened, self.from_identity = np.zeros((3, channels))

    def add(self, gates, classes):
        """Counts a batch: gates float32 (N, channels), classes (N,), -1 where not kept."""
        if not np.isfinite(gates).all():
            name = next(
                name
                for name, columns in self.columns.items()
                if not np.isfinite(gates[:, columns]).all()
            )
            raise ValueError(f"The gates of {name!r} are not finite for an image of the dataset")
        self.moments.add(gates, classes)
        self.closed += (np.abs(gates) < CLOSED).sum(axis=0)
        self.opened += (np.abs(gates) > OPEN).sum(axis=0)
        self.from_identity += np.abs(gates - 1).sum(axis=0, dtype="float64")

    def excitations(self, class_names, skipped):
        """The `Excitations` of all batches."""
        *class_images, images = self.moments.counts.tolist()
        means, stds = self.moments.finish()
        by_class = means[:-1], stds[:-1]
        overall = (
            means[-1],
            stds[-1],
            self.closed / images,
            self.opened / images,
            self.from_identity / images,
        )
        blocks = {
            name: BlockExcitations(
                self.kinds[name],
                *(rows[:, columns] for rows in by_class),
                *(row[columns] for row in overall),
            )
            for name, columns in self.columns.items()
        }
        return Excitations(class_names, np.array(class_images), images, blocks, skipped)
