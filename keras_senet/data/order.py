"""The image at each position of the training: a function of (seed, position), of constant cost."""

from collections.abc import Sequence, Set
from typing import Any

import numpy as np
import tensorflow as tf

# Odd; the first one is splitmix64's, from state to state.
STEP, SEED = 0x9E3779B97F4A7C15, 0xD1B54A32D192ED03
CLASSES, MEMBERS = 1, 2  # what is shuffled, part of the seed


def shuffle(positions: tf.Tensor, epoch_length: int, seed: int, count: int) -> tf.Tensor:
    """The images at `positions` (n,) of an epoch: its order of all, cut to `epoch_length`."""
    epoch_seed = tf.stack([tf.constant(seed, tf.int64), positions[0] // epoch_length])
    last = tf.constant(count - 1, tf.int64)
    return tf.random.experimental.index_shuffle(positions % epoch_length, epoch_seed, last)


class Balanced:
    """An order in which each run of as many positions as there are classes has each class once.

    The images of a class follow each other, in another order each time. Source: class-balanced
    sampling as in Relay Backpropagation (Shen et al. 2016), which v1 to v3 of the paper name for
    ImageNet.

    Raises:
        ValueError: if a class has no images.
    """

    def __init__(self, labels: np.ndarray, class_names: tuple[str, ...], seed: int):
        counts = np.bincount(labels[labels >= 0], minlength=len(class_names))
        self.counts = counts[: len(class_names)]
        if self.counts.sum() != len(labels) or not self.counts.all():
            pairs = zip(class_names, self.counts, strict=True)
            missing = [name for name, count in pairs if not count][:5]
            reason = (
                f"classes without images: {', '.join(missing)}" if missing else "invalid labels"
            )
            raise ValueError(f"`class_balanced` needs images of every class. There are {reason}")
        self.by_class = np.argsort(labels, kind="stable")
        self.firsts = np.cumsum(self.counts) - self.counts
        self.seed = seed

    def __call__(self, positions: tf.Tensor) -> tf.Tensor:
        """The images at int64 positions (n,), as a tensor (n,)."""
        classes = len(self.counts)
        rounds = positions // classes
        each = tf.fill(tf.shape(positions), np.int64(classes))
        drawn = self._shuffle(positions % classes, CLASSES, rounds, each)
        counts = tf.gather(self.counts, drawn)
        passes = rounds // counts * classes + drawn  # through all images of each class
        member = self._shuffle(rounds % counts, MEMBERS, passes, counts)
        ranks = tf.gather(self.firsts, drawn) + member
        images = tf.numpy_function(lambda at: self.by_class[at], [ranks], tf.int64)
        return tf.ensure_shape(images, (None,))

    def _shuffle(self, positions, purpose, orders, counts):
        """Each position in an order of its own of 0..count - 1; all int64 (n,)."""
        seeds = [tf.fill(tf.shape(positions), np.int64(number)) for number in (purpose, self.seed)]
        # tf.random.experimental.index_shuffle pads a matrix of seeds the wrong way.
        return tf.raw_ops.RandomIndexShuffle(
            index=positions, seed=tf.stack([*seeds, orders], 1), max_index=counts - 1, rounds=4
        )


def mix_bits(states: np.ndarray) -> np.ndarray:
    """The numbers that splitmix64 draws in these states: uint64 arrays, one number per state."""
    states = (states ^ states >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    states = (states ^ states >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return states ^ states >> np.uint64(31)


def find_replacement(
    images: Any, index: int, among: Sequence[int] | np.ndarray, seed: int, skip: Set[int]
) -> int:
    """The index of the image in place of one that is to be skipped: the first good one of a
    sequence of those `among` which depends only on it. When other bad ones are found does not
    matter.

    Raises:
        ValueError: if all of them are to be skipped.
    """
    if all(other in skip for other in among):
        raise ValueError(f"No image can replace {images.name_of(index)}: all are corrupt")
    state = index * STEP + seed * SEED + 1
    while True:
        state = (state + STEP) % 2**64
        (number,) = mix_bits(np.array([state], "uint64"))
        found = int(among[int(number) % len(among)])
        if found not in skip:
            return found
