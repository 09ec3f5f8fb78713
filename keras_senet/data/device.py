"""Training batches that are made on the device, of images that fit into its memory, on every
backend.
"""

import functools
from collections.abc import Iterator, Set
from typing import Any

import numpy as np
from keras import ops

from keras_senet.data.batched import LARGEST_SIDE, SERVED, BatchAugmentation
from keras_senet.data.draws import INDEX, WORD
from keras_senet.data.micro_batches import check_batch_size, check_reflection, divide_batch
from keras_senet.recipes.augmentation import Augmentation

# What a random order is of, part of its key.
IMAGES, CLASSES, MEMBERS = range(3)


class DeviceImages:
    """The training batches of a dataset in memory, each a pure function of its step.

    As of `TrainingData`, each epoch has all images in another order, without the incomplete batch
    at its end; the order and the draws are others than there.

    Args:
        dataset: what `load` returns, with all images in memory and of the size that is trained on.
        batch_size: images per step, over all replicas.
        image_size: height and width in pixels.
        seed: of the order and of the augmentation.
        augmentation: an `Augmentation`.
        class_balanced: whether each class is equally frequent, and not each image.

    Attributes:
        images: all images, uint8 (N, H, W, C), on the device.
        labels: all labels, integers (N,), on the device.

    Raises:
        ValueError: for a batch size above the number of images, for what `find_obstacle` finds, or
            if the images do not fit into the memory of the device.
    """

    def __init__(
        self,
        dataset,
        *,
        batch_size: int,
        image_size: int,
        seed: int,
        augmentation: Augmentation = Augmentation(),
        class_balanced: bool = False,
    ):
        if obstacle := find_obstacle(dataset, image_size, augmentation):
            raise ValueError(f"`DeviceImages` cannot make these batches: {obstacle}")
        count = len(dataset)
        check_batch_size(batch_size, count)
        self.mixes = augmentation.mixes
        divide_batch(batch_size, 1, self.mixes)
        check_reflection(augmentation, image_size)
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        self.steps_per_epoch = count // batch_size
        self._augment = BatchAugmentation(augmentation, image_size, seed)
        self._order = (
            BalancedOrder(dataset.labels, dataset.class_names, seed)
            if class_balanced
            else EpochOrder(count, self.steps_per_epoch * batch_size, seed)
        )
        self.images = _place(dataset.fetch(np.arange(count))[0])
        self.labels = ops.convert_to_tensor(dataset.labels.astype(INDEX))

    def indices(self, step: int) -> np.ndarray:
        """The indices of a step's images in the dataset, (batch_size,)."""
        return self._order(self._positions(step)).astype(INDEX)

    def places(self, step: int) -> np.ndarray:
        """The places of a step's images in the training, from which all draws follow,
        (batch_size,): modulo 2**32.
        """
        return (self._positions(step) % 2**32).astype(WORD)

    def _positions(self, step):
        return np.arange(step * self.batch_size, (step + 1) * self.batch_size)

    def batches(
        self,
        first_step: int,
        last_step: int,
        *,
        replicas: int = 1,
        parts: range | None = None,
        skip: Set[int] = frozenset(),
    ) -> Iterator[tuple[Any, Any]]:
        """(images, targets) of each micro-batch, as of `TrainingData`, for whoever has no compiled
        step; `skip` is empty, as images in memory are not corrupt.
        """
        size = divide_batch(self.batch_size, replicas, self.mixes)
        for step in range(first_step, last_step):
            indices, places = self.indices(step), self.places(step)
            for part in range(replicas) if parts is None else parts:
                those = slice(part * size, (part + 1) * size)
                yield self.make_batch(self.images, self.labels, indices[those], places[those])

    def make_batch(self, images, labels, indices, places):
        """(images uint8 (b, size, size, C), targets float32 (b, classes)) of all images, all
        labels, and the indices and places (b,) of a step or of a part of it.

        A pure function, to be called in a compiled one. Where pairs are mixed, a part has an even
        number of images and begins at an even place.
        """
        targets = ops.one_hot(ops.take(labels, indices), len(self.dataset.class_names))
        return self._augment(ops.take(images, indices, axis=0), targets, places)


def _place(images):
    """Images on the device; raises ValueError if they do not fit into its memory."""
    try:
        return ops.convert_to_tensor(images)
    except Exception as error:  # each backend has its own
        raise ValueError(
            f"The images, {images.nbytes / 2**20:,.0f} MiB, do not fit into the memory of the "
            "device: `pipeline` must be 'tf.data'"
        ) from error


def find_obstacle(dataset, image_size: int, augmentation: Augmentation) -> str | None:
    """Why `DeviceImages` cannot make the batches of a dataset, or None if it can."""
    shape = dataset.image_shape
    if not dataset.is_in_memory:
        return "the images are not in memory, decoded and of one size"
    if shape[:2] != (image_size, image_size):
        return f"the images, of {shape[0]}x{shape[1]} pixels, are not of the size {image_size}"
    default = vars(Augmentation())
    values = vars(augmentation)
    unserved = [name for name in values if name not in SERVED and values[name] != default[name]]
    if unserved:
        return "the device does not do " + ", ".join(f"{n}={values[n]!r}" for n in unserved)
    if augmentation.color_jitter and image_size > LARGEST_SIDE:
        return f"the device does `color_jitter` up to {LARGEST_SIDE} pixels"
    outside = (dataset.labels < 0) | (dataset.labels >= len(dataset.class_names))
    if outside.any():
        return f"the label {dataset.labels[outside][0]} is not a class"
    return None


class EpochOrder:
    """The images at positions of the training: each epoch has its own order, cut to its length."""

    def __init__(self, count: int, epoch_length: int, seed: int):
        self.count, self.epoch_length = count, epoch_length
        self._order = functools.lru_cache(1)(functools.partial(make_order, seed, IMAGES))

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """The indices at positions (n,) of one epoch."""
        order = self._order(int(positions[0]) // self.epoch_length, self.count)
        return order[positions % self.epoch_length]


class BalancedOrder:
    """An order in which each run of as many positions as there are classes has each class once,
    and the images of a class follow each other, in another order each time: as `order.Balanced`.

    Raises:
        ValueError: if a class has no images.
    """

    def __init__(self, labels: np.ndarray, class_names: tuple[str, ...], seed: int):
        self.seed, self.classes = seed, len(class_names)
        self.members = [np.flatnonzero(labels == label) for label in range(self.classes)]
        missing = [n for n, found in zip(class_names, self.members, strict=True) if not len(found)]
        if missing:
            raise ValueError(
                "`class_balanced` needs images of every class. "
                f"There are classes without images: {', '.join(missing[:5])}"
            )
        # Of each class the order that it is in, and one that may begin in the same batch
        self._order = functools.lru_cache(2 * self.classes)(functools.partial(make_order, seed))

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """The indices at positions (n,) that follow each other."""
        first, last = (int(positions[end]) // self.classes for end in (0, -1))
        rounds = range(first, last + 1)
        drawn = [make_order(self.seed, CLASSES, each, self.classes) for each in rounds]
        labels = np.concatenate(drawn)[positions - first * self.classes]
        return np.array(
            [
                self._find_member(label, position // self.classes)
                for label, position in zip(labels.tolist(), positions.tolist(), strict=True)
            ]
        )

    def _find_member(self, label, number):
        members = self.members[label]
        time, place = divmod(number, len(members))
        return members[self._order(MEMBERS + label, time, len(members))[place]]


def make_order(seed: int, purpose: int, number: int, count: int) -> np.ndarray:
    """A random order of 0..count - 1, that of this number among those for this purpose.

    By Philox's bits, which stay the same in all versions of NumPy.
    """
    key = np.array([seed + (purpose << 32), number], "uint64")
    return np.argsort(np.random.Philox(key=key).random_raw(count), kind="stable")
