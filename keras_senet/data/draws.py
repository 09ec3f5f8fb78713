"""Random numbers that are a function of (seed, place, which draw), equal on every backend.

A draw is 32 bits: the place goes twice through a mixing function, each time with a key of the draw.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

IS_JAX = keras.backend.backend() == "jax"
# JAX has no int64 by default, TensorFlow and torch lack operations on uint32.
WORD, INDEX = ("uint32", "int32") if IS_JAX else ("int64", "int64")
MASK = 0xFFFFFFFF  # the products of 32 and 31 bits fit into int64, and uint32 wraps by itself
# (shift, odd factor below 2**31): of the mixing functions of 32 bits whose bits change almost
# independently of each other. Source: github.com/skeeto/hash-prospector, issue 19.
ROUNDS = ((16, 0x21F0AAAD), (15, 0x735A2D97))


def make_keys(seed: int, count: int) -> np.ndarray:
    """The two keys of each draw, uint32 (2, count)."""
    return np.random.SeedSequence(seed).generate_state(2 * count).reshape(2, count)


def draw(places, keys: np.ndarray):
    """Draws of 0..2**32 - 1 as integers (count, n), of `WORD` places (n,) below 2**32."""
    first, second = (as_words(key)[:, None] for key in keys)
    return _mix(ops.bitwise_xor(_mix(ops.bitwise_xor(places[None], first)), second))


def below(draws, bound: int):
    """Draws as integers of 0..bound - 1 by their upper 16 bits; `bound` is at most 2**16."""
    upper = ops.right_shift(draws, as_words(16))
    return ops.cast(ops.right_shift(upper * as_words(bound), as_words(16)), INDEX)


def as_words(numbers) -> Any:
    """NumPy's integers as a tensor of `WORD`."""
    return ops.convert_to_tensor(np.asarray(numbers).astype(WORD))


def _mix(words):
    """A bijection of words of 32 bits, each bit of which depends on all."""
    for shift, factor in ROUNDS:
        words = ops.bitwise_xor(words, ops.right_shift(words, as_words(shift)))
        words = ops.bitwise_and(words * as_words(factor), as_words(MASK))
    return ops.bitwise_xor(words, ops.right_shift(words, as_words(15)))
