"""Weights by name or path: checked before a network is built, loaded with the architecture they were saved from."""

from keras_senet.weights.files import load_weights, save_weights
from keras_senet.weights.registry import check, is_published

__all__ = ["check", "is_published", "load_weights", "save_weights"]
