"""The gates of `keras_senet.se.GATES` in NumPy, written independently of Keras."""

import numpy as np

GATE_FORMULAS = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
}
