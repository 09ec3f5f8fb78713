"""The moving average of weights that is evaluated and saved."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops


class Average:
    """The exponential moving average of a model's weights and of its batch normalisation's
    statistics.

    In the first steps the decay is (1 + step) / (10 + step), so that the initial weights do not
    stay in it.
    """

    def __init__(self, model: keras.Model, decay: float):
        self.decay = decay
        self.current = [v for v in model.weights if keras.backend.is_float_dtype(v.dtype)]
        # copy: Keras would take the very variable that it is given for its own
        self.averages = [
            keras.Variable(ops.copy(v.value), trainable=False, name=f"average_{i}")
            for i, v in enumerate(self.current)
        ]

    def update(self, step: Any) -> None:
        """Moves towards the current weights."""
        step = ops.cast(step, "float32")
        rate = 1.0 - ops.minimum(self.decay, (1.0 + step) / (10.0 + step))
        for average, value in zip(self.averages, self.current, strict=True):
            average.assign(average + rate * (value - average))

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Within, the averages are the model's weights."""
        kept = [ops.convert_to_numpy(value) for value in self.current]
        self.apply()
        try:
            yield
        finally:
            for value, before in zip(self.current, kept, strict=True):
                value.assign(before)

    def apply(self) -> None:
        """Makes the averages the model's weights."""
        for value, average in zip(self.current, self.averages, strict=True):
            value.assign(ops.copy(average.value))  # JAX gives a step's variables away
