"""He initialisation, and how to leave it out where its numbers are not used: for SENet-154 it is
half the time of loading weights, and most of the time of building."""

import contextlib
import contextvars
import math
import zlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_senet.graphs import flat_layers, leaving_uninitialized

_blank = contextvars.ContextVar("blank", default=False)


@contextlib.contextmanager
def blank() -> Iterator[None]:
    """In the block, `HeNormal` returns zeros: every variable gets its value from a file."""
    token = _blank.set(True)
    try:
        yield
    finally:
        _blank.reset(token)


@contextlib.contextmanager
def shapes_only() -> Iterator[list[keras.Variable]]:
    """In the block, built models have weights with shapes and no values: enough to count them.
    After it, the list has all of them.
    """
    stateless = keras.StatelessScope(initialize_variables=False)
    with stateless, leaving_uninitialized() as created:
        yield created


@keras.utils.register_keras_serializable("keras_senet")
class HeNormal(keras.initializers.HeNormal):
    """He et al., 1502.01852, as `keras.initializers.HeNormal` (Section 6.1; Caffe's "msra")."""

    def __call__(self, shape, dtype=None):
        return ops.zeros(shape, dtype) if _blank.get() else super().__call__(shape, dtype)


def he_normal() -> Any:
    """A new `HeNormal`; Keras' layers declare their initializers as names."""
    return HeNormal()


NARROWED = 0.87962566103423978  # the standard deviation of a normal truncated at 2 of its own


def draw_weights(model: keras.Model, seed: int) -> None:
    """Gives a network the initial kernels of its layers' initializers, drawn by NumPy from the seed
    and the variables' paths: equal ones on every backend.
    """
    for layer in flat_layers(model):
        own = vars(layer)
        initializer = own.get("kernel_initializer", own.get("depthwise_initializer"))
        if isinstance(initializer, keras.initializers.VarianceScaling):
            kernel: Any = layer.kernel
            key = np.array([seed, zlib.crc32(kernel.path.encode())], "uint64")
            random = np.random.Generator(np.random.Philox(key=key))
            kernel.assign(_draw(initializer, kernel.shape, random))


def _draw(initializer, shape, random):
    """As `keras.initializers.VarianceScaling`."""
    *inner, last = shape
    fan_in, fan_out = math.prod(inner), math.prod(inner[:-1]) * last
    fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
    variance = initializer.scale / max(1.0, fan[initializer.mode])
    if initializer.distribution == "uniform":
        limit = math.sqrt(3 * variance)
        return random.uniform(-limit, limit, shape)
    drawn = random.standard_normal(shape)
    if initializer.distribution == "truncated_normal":
        while (outside := np.abs(drawn) > 2).any():
            drawn[outside] = random.standard_normal(int(outside.sum()))
        drawn /= NARROWED
    return drawn * math.sqrt(variance)
