"""He initialisation that is left out where weights are loaded at once: for SENet-154 it is half the time of loading."""

import contextlib
import contextvars

import keras
from keras import ops

_blank = contextvars.ContextVar("blank", default=False)


@contextlib.contextmanager
def blank():
    """In the block, `HeNormal` gives zeros: every variable gets its value from a file."""
    token = _blank.set(True)
    try:
        yield
    finally:
        _blank.reset(token)


@keras.utils.register_keras_serializable("keras_senet")
class HeNormal(keras.initializers.HeNormal):
    """He et al., 1502.01852, as `keras.initializers.HeNormal` has it (the paper's Section 6.1 and Caffe's "msra")."""

    def __call__(self, shape, dtype=None):
        return ops.zeros(shape, dtype) if _blank.get() else super().__call__(shape, dtype)
