"""Small networks whose batch normalisation has statistics of its own, as after training:
activations then have usual magnitudes, and a wrong fold is noticed."""

import functools

import keras
import numpy as np

import keras_senet
from keras_senet.models.resnet import SmallResNet

SMALL = SmallResNet((1, 1))


def network(spec=SMALL, **options):
    """A network for images (32, 32, 3) of ten classes, built once per specification and precision.

    Tests must not change it; `build` makes one that may be changed.
    """
    return _network(spec, tuple(options.items()), keras.config.dtype_policy().name)


@functools.cache
def _network(spec, options, _):
    return build(spec, **dict(options))


def build(spec=SMALL, **options):
    """The same, for its test only."""
    keras.utils.set_random_seed(0)
    model = keras_senet.application(spec, name="tiny", input_size=32, classes=10)(
        weights=None, **options
    )
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momentum = {norm: norm.momentum for norm in norms}
    for norm in norms:
        norm.momentum = 0.0  # takes the statistics of the images as they are, in a single step
    model(np.random.default_rng(1).normal(size=(64, 32, 32, 3)).astype("float32"), training=True)
    for norm in norms:
        norm.momentum = momentum[norm]
    return model
