"""He initialisation, and how to leave it out where its numbers are not used: for SENet-154 it is
half the time of loading weights, and most of the time of building."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

_blank = contextvars.ContextVar("blank", default=False)


@contextlib.contextmanager
def blank() -> Iterator[None]:
    """In the block, `HeNormal` returns zeros: every variable gets its value from a file."""
    token = _blank.set(True)
    try:
        yield
    finally:
        _blank.reset(token)


def shapes_only() -> keras.StatelessScope:
    """In the block, built models have weights with shapes and no values: enough to count them."""
    return keras.StatelessScope(initialize_variables=False)


@keras.utils.register_keras_serializable("keras_senet")
class HeNormal(keras.initializers.HeNormal):
    """He et al., 1502.01852, as `keras.initializers.HeNormal` has it (the paper's Section 6.1 and
    Caffe's "msra").
    """

    def __call__(self, shape, dtype=None):
        return ops.zeros(shape, dtype) if _blank.get() else super().__call__(shape, dtype)


def he_normal() -> Any:
    """A new `HeNormal`; Keras' layers declare their initializers as names."""
    return HeNormal()
