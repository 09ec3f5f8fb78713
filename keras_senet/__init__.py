"""Squeeze-and-Excitation networks (Hu et al., arXiv 1709.01507) for Keras 3.

Its names are loaded when they are first used, its layers and networks at once: Keras cannot load
saved models without them.
"""

import importlib
from typing import TYPE_CHECKING

import keras_senet_cli
from keras_senet.extras import load_names, needs_tensorflow
from keras_senet.networks import read_table

if TYPE_CHECKING:  # what editors and type checkers see of `HOMES` and of the constructors
    from keras_senet.hub import push_to_hub as push_to_hub
    from keras_senet.imagenet import decode_predictions as decode_predictions
    from keras_senet.layers import SqueezeExcite as SqueezeExcite
    from keras_senet.models import *  # noqa: F403
    from keras_senet.models.constructor import application as application
    from keras_senet.models.surgery import add_se as add_se
    from keras_senet.models.surgery import features as features
    from keras_senet.preprocessing import Preprocessing as Preprocessing
    from keras_senet.preprocessing import preprocess_input as preprocess_input
    from keras_senet.runs.load import load_run as load_run
    from keras_senet.se import SE as SE
    from keras_senet.weights import list_weights as list_weights
    from keras_senet.weights import load_weights as load_weights
    from keras_senet.weights import save_weights as save_weights

__version__ = keras_senet_cli.__version__

HOMES = {
    "SE": "se",
    "Preprocessing": "preprocessing",
    "SqueezeExcite": "layers",
    "add_se": "models.surgery",
    "application": "models.constructor",
    "decode_predictions": "imagenet",
    "features": "models.surgery",
    "list_weights": "weights",
    "load_run": "runs.load",
    "load_weights": "weights",
    "preprocess_input": "preprocessing",
    "push_to_hub": "hub",
    "save_weights": "weights",
}
__all__ = [*read_table(), *HOMES]

if not keras_senet_cli.parsing:  # of the command line, which needs no Keras
    with needs_tensorflow():
        importlib.import_module("keras_senet.models")  # and with them initializers and layers


__getattr__ = load_names(__name__, dict.fromkeys(read_table(), "models") | HOMES)


def __dir__():
    return sorted({*globals(), *__all__})
