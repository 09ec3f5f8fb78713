"""Squeeze-and-Excitation networks (Hu et al., arXiv 1709.01507) for Keras 3."""

import importlib

import keras_senet_cli
from keras_senet.networks import read_table
from keras_senet_cli import __version__ as __version__

# Where the public names besides the constructors are: each is imported when it is first used.
HOMES = {
    "SE": "se",
    "Preprocessing": "preprocessing",
    "SqueezeExcite": "layers",
    "add_se": "models.surgery",
    "application": "models.constructor",
    "decode_predictions": "imagenet",
    "features": "models.surgery",
    "list_weights": "weights",
    "preprocess_input": "preprocessing",
    "push_to_hub": "hub",
    "save_weights": "weights",
}
__all__ = [*read_table(), *HOMES]


def __getattr__(name):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{HOMES.get(name, 'models')}"), name)
    globals()[name] = value
    return value


if not keras_senet_cli.parsing:
    import keras_senet.layers
    import keras_senet.models  # noqa: F401
