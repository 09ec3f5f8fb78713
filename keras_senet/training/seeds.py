"""Randomness of the layers in training, as a function of the step: dropout, Shake-Shake."""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_senet.graphs import flat_layers


class StepSeeds(contextlib.AbstractContextManager):
    """Within, each random draw of a model's layers follows from a seed that `seeded` sets.

    Keras' generators count in variables, which neither weight files nor resumed runs have, and
    which are equal on all replicas. A replica is traced in a thread of its own, and has its own
    seed.

    Args:
        model: whose layers draw.
        fold_in: the backend's function from (a seed, an integer) to another seed.
    """

    def __init__(self, model: keras.Model, fold_in: Callable[[Any, Any], Any]):
        self.fold_in = fold_in
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
    def seeded(self, seed: Any) -> Iterator[None]:
        """Within, this replica's draws follow from `seed` (2,)."""
        self.replica.seed, self.replica.count = seed, 0
        try:
            yield
        finally:
            del self.replica.seed

    def _next(self, generator, ordered=True):
        """Stands for `SeedGenerator.next`."""
        self.replica.count += 1
        return self.fold_in(self.fold_in(self.replica.seed, generator), self.replica.count)
