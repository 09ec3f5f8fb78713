"""Squeeze-and-Excitation networks (Hu et al., arXiv 1709.01507) for Keras 3."""

from importlib.metadata import version

from keras_senet import models
from keras_senet.hub import push_to_hub
from keras_senet.layers import SqueezeExcite
from keras_senet.models import *  # noqa: F403
from keras_senet.models.constructor import application
from keras_senet.models.surgery import add_se, features
from keras_senet.preprocessing import Preprocessing, decode_predictions, preprocess_input
from keras_senet.se import SE
from keras_senet.weights import list_weights, save_weights

__version__ = version("keras_senet")
__all__ = [
    *models.__all__,
    "SE",
    "Preprocessing",
    "SqueezeExcite",
    "add_se",
    "application",
    "decode_predictions",
    "features",
    "list_weights",
    "preprocess_input",
    "push_to_hub",
    "save_weights",
]
