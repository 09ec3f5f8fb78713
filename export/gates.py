"""SE blocks in a form that integer arithmetic can hold."""

import contextlib

import numpy as np
from keras import ops

from keras_senet.graphs import flat_layers, with_config
from keras_senet.layers import SqueezeExcite

from .graph import copy_with, predict, prediction_function

# XNNPACK refuses an int8 convolution whose input scale times kernel scale is over 2^8 of its output
# scale. With 2^8 steps to the input's range and 2^7 to the kernel's, that is an output range below
# input x kernel / 2^15.
NARROWEST = 2.0**-14


class FixedGate(SqueezeExcite):
    """An SE block whose hidden units are idle: its gate is constant, that of the expansion's
    biases.
    """

    def excitation(self, x):
        idle = ops.zeros((1, 1, 1, self.reduce.filters), self.reduce.compute_dtype)
        return ops.cast(self.expand(idle), self.compute_dtype)


def fix_idle_gates(model, preprocessing, images):
    """The model, with a constant in place of each gate whose hidden units stay at zero for all
    `images`.

    That happens to blocks of one or two hidden units. Calibration gives such units the range 0..0,
    for which there is no integer scale: LiteRT refuses the file. A unit held in that range is a
    constant in any case.
    """
    idle = _idle_blocks(model, preprocessing, images)
    if not idle:
        return model

    def clone(layer):
        return FixedGate.from_config(layer.get_config()) if layer in idle else with_config(layer)

    return copy_with(model, clone)


def gate_layers(model):
    """The names of the layers that compute the gates."""
    return [layer.name for block in _blocks(model) for layer in (block.reduce, block.expand)]


def _blocks(model):
    return [layer for layer in flat_layers(model) if isinstance(layer, SqueezeExcite)]


def _idle_blocks(model, preprocessing, images):
    """The SE blocks whose hidden units' range is too narrow for integers."""
    blocks = _blocks(model)
    if not blocks:
        return set()
    with contextlib.ExitStack() as stack:
        ranges = {block: stack.enter_context(_observed(block)) for block in blocks}
        predict(prediction_function(model, preprocessing), images)
    kernels = {block: np.abs(ops.convert_to_numpy(block.reduce.kernel)).max() for block in blocks}
    return {
        block
        for block, (given, made) in ranges.items()
        if made <= given * kernels[block] * NARROWEST
    }


@contextlib.contextmanager
def _observed(block):
    """The largest magnitudes [squeezed, hidden] that a block meets in eager calls within, in nested
    models too.
    """
    largest = [0.0, 0.0]

    def excitation(x):
        squeezed = block.pool(x)
        hidden = block.reduce(squeezed)
        for i, value in enumerate((squeezed, hidden)):
            largest[i] = max(largest[i], float(np.abs(ops.convert_to_numpy(value)).max()))
        return ops.cast(block.expand(hidden), block.compute_dtype)

    block.excitation = excitation
    try:
        yield largest
    finally:
        del block.excitation
