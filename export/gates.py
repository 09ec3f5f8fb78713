"""SE blocks in a form that integer arithmetic can hold."""

import keras
import numpy as np
from keras import ops

from keras_senet.analysis.taps import tap
from keras_senet.copying import rebuild
from keras_senet.graphs import flat_layers, functional_of
from keras_senet.layers import SqueezeExcite

from .model import predict, prediction_function

# XNNPACK refuses an int8 convolution whose input scale times kernel scale is over 2^8 of its output
# scale. With 2^8 steps to the input's range and 2^7 to the kernel's, that is an output range below
# input x kernel / 2^15.
NARROWEST = 2.0**-14


class FixedGate(SqueezeExcite):
    """An SE block with dead hidden units: its gate is constant, that of the expansion's biases."""

    def excitation(self, x):
        dead = ops.zeros((1, 1, 1, self.reduce.filters), self.reduce.compute_dtype)
        return ops.cast(self.expand(dead), self.compute_dtype)


def fix_constant_gates(model: keras.Model, preprocessing, images: np.ndarray) -> keras.Model:
    """The model, with a constant in place of each gate whose hidden units stay at zero for all
    `images`.

    That happens to blocks of one or two hidden units. Calibration computes the range 0..0 for such
    units, for which there is no integer scale: LiteRT refuses the file. A unit held in that range
    is a constant in any case.
    """
    fixed = {
        block: (FixedGate.from_config(block.get_config()), block.get_weights())
        for block in _find_constant(model, preprocessing, images)
    }
    return rebuild(model, fixed) if fixed else model


def gate_layers(model: keras.Model) -> list[str]:
    """The names of the layers that compute the gates."""
    blocks = [layer for layer in flat_layers(model) if isinstance(layer, SqueezeExcite)]
    return [layer.name for block in blocks for layer in (block.reduce, block.expand)]


def _find_constant(model, preprocessing, images):
    """The SE blocks whose hidden units' range is too narrow for integers."""
    taps = tap(model, _magnitudes)
    if not taps:
        return set()
    inner = keras.Model(functional_of(model).input, [each.value for each in taps])
    found = predict(prediction_function(inner, preprocessing, range(len(taps))), images)
    largest = {each.layer: np.zeros(2) for each in taps}
    for each, magnitudes in zip(taps, found.values(), strict=True):
        largest[each.layer] = np.maximum(largest[each.layer], magnitudes.max(axis=0))
    return {
        block
        for block, (squeezed, hidden) in largest.items()
        if hidden <= squeezed * _largest_weight(block) * NARROWEST
    }


def _magnitudes(layer, *inputs):
    """The largest magnitudes (N, 2) of an SE block's squeeze and hidden units; None for others."""
    if not isinstance(layer, SqueezeExcite):
        return None
    squeezed = layer.pool(*inputs)
    both = squeezed, layer.reduce(squeezed)
    return ops.stack([ops.max(ops.absolute(each), axis=(1, 2, 3)) for each in both], axis=-1)


def _largest_weight(block):
    return np.abs(np.asarray(ops.convert_to_numpy(block.reduce.kernel))).max()
