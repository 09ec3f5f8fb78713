"""Randomness of the layers in training, as a function of the step: dropout, Shake-Shake."""

import contextlib
import functools
import threading
from collections.abc import Iterator

import keras
import tensorflow as tf

from keras_senet.graphs import flat_layers


class StepSeeds(contextlib.AbstractContextManager):
    """Within, each random draw of a model's layers follows from a seed that `seeded` sets.

    Keras' generators count in variables, which neither weight files nor resumed runs have, and
    which are equal on all replicas. A replica is traced in a thread of its own, and has its own
    seed.
    """

    def __init__(self, model: keras.Model):
        values = [value for layer in flat_layers(model) for value in vars(layer).values()]
        self.generators = [v for v in values if isinstance(v, keras.random.SeedGenerator)]
        self.replica = threading.local()

    def __enter__(self):
        for i, generator in enumerate(self.generators):
            generator.next = functools.partial(self._next, i)
        return self

    def __exit__(self, *exception):
        for generator in self.generators:
            del generator.next

    @contextlib.contextmanager
    def seeded(self, seed: tf.Tensor) -> Iterator[None]:
        """Within, this replica's draws follow from `seed` (2,)."""
        self.replica.seed, self.replica.count = seed, 0
        try:
            yield
        finally:
            del self.replica.seed

    def _next(self, generator, ordered=True):
        """Stands for `SeedGenerator.next`."""
        self.replica.count += 1
        seed = tf.random.experimental.stateless_fold_in(self.replica.seed, generator)
        return tf.random.experimental.stateless_fold_in(seed, self.replica.count)
