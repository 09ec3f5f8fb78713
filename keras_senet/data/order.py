"""Which image is at which place of the training: a function of (seed, place) in constant memory."""

import itertools

import numpy as np
import tensorflow as tf


def shuffled(places, epoch_length, seed, count):
    """The images at int64 `places` (n,) of one epoch: each epoch is another order of all, cut to
    `epoch_length`.
    """
    epoch_seed = tf.stack([tf.constant(seed, tf.int64), places[0] // epoch_length])
    last = tf.constant(count - 1, tf.int64)
    return tf.random.experimental.index_shuffle(places % epoch_length, epoch_seed, last)


CLASSES, MEMBERS = 1, 2  # what an order is of, part of its seed


class Balanced:
    """An order in which every run of as many places as there are classes has each class once.

    The images of a class come in turn, in another order each time. Source: class-balanced sampling
    as in Relay Backpropagation (Shen et al. 2016), which v1 to v3 of the paper name for ImageNet.

    Raises:
        ValueError: if a class has no images.
    """

    def __init__(self, labels, class_names, seed):
        self.counts = np.bincount(labels, minlength=len(class_names))[: len(class_names)]
        if self.counts.sum() != len(labels) or not self.counts.all():
            missing = [
                name for name, count in zip(class_names, self.counts, strict=True) if not count
            ]
            reason = (
                f"classes without images: {', '.join(missing[:5])}"
                if missing
                else "labels that are no class"
            )
            raise ValueError(f"`class_balanced` needs images of every class. There are {reason}")
        self.by_class = np.argsort(labels, kind="stable")
        self.firsts = np.cumsum(self.counts) - self.counts
        self.seed = seed

    def __call__(self, places):
        """The images at int64 places (n,), as a tensor (n,)."""
        classes = len(self.counts)
        rounds = places // classes
        drawn = self._shuffled(
            places % classes, CLASSES, rounds, tf.fill(tf.shape(places), np.int64(classes))
        )
        counts = tf.gather(self.counts, drawn)
        passes = rounds // counts * classes + drawn  # through all images of each class
        member = self._shuffled(rounds % counts, MEMBERS, passes, counts)
        return self._images(tf.gather(self.firsts, drawn) + member)

    def _shuffled(self, places, purpose, orders, counts):
        """Each place in an order of its own of 0..count - 1; all int64 (n,)."""
        seeds = [tf.fill(tf.shape(places), np.int64(number)) for number in (purpose, self.seed)]
        # tf.random.experimental.index_shuffle pads a matrix of seeds the wrong way.
        return tf.raw_ops.RandomIndexShuffle(
            index=places, seed=tf.stack([*seeds, orders], 1), max_index=counts - 1, rounds=4
        )

    def _images(self, ranks):
        return tf.ensure_shape(
            tf.numpy_function(lambda at: self.by_class[at], [ranks], tf.int64), (None,)
        )


STEP, SEED = (
    0x9E3779B97F4A7C15,
    0xD1B54A32D192ED03,
)  # odd; the first is splitmix64's, from state to state


def mixed(states):
    """The numbers that splitmix64 draws in its states: uint64 arrays of both, one number for each
    state.
    """
    states = (states ^ states >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    states = (states ^ states >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return states ^ states >> np.uint64(31)


def replacements(index, seed, candidates):
    """An endless row of places among so many candidates, to try instead of an image that is
    corrupt.
    """
    first = index * STEP + seed * SEED + 1
    for n in itertools.count(1):
        (number,) = mixed(np.array([(first + n * STEP) % 2**64], "uint64"))
        yield int(number) % candidates
