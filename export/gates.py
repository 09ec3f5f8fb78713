"""SE blocks in a form that integer arithmetic can hold."""

import keras
import numpy as np
from keras import ops

from keras_senet.layers import SqueezeExcite

# XNNPACK refuses an int8 convolution whose input scale times kernel scale is over 2^8 of its output scale. With
# 2^8 steps to the input's range and 2^7 to the kernel's, that is an output range below input x kernel / 2^15.
NARROWEST = 2.0**-14


class FixedGate(SqueezeExcite):
    """An SE block whose hidden units are idle: its gate is constant, that of the expansion's biases."""

    def excitation(self, x):
        idle = ops.zeros((1, 1, 1, self.reduce.filters), self.reduce.compute_dtype)
        return ops.cast(self.expand(idle), self.compute_dtype)


def fix_idle_gates(model, preprocessing, images):
    """The model, with a constant in place of each gate whose hidden units stay at zero for all `images`.

    That happens to blocks of one or two hidden units. Calibration gives such units the range 0..0, for which
    there is no integer scale: LiteRT refuses the file. A unit held in that range is a constant in any case.
    """
    idle = _idle_blocks(model, preprocessing, images)
    if not idle:
        return model

    def clone(layer):
        cls = FixedGate if layer.name in idle else type(layer)
        return cls.from_config(layer.get_config())

    fixed = keras.models.clone_model(model, clone_function=clone)
    fixed.set_weights(model.get_weights())
    return fixed


def _idle_blocks(model, preprocessing, images, batch_size=16):
    """The names of the blocks whose hidden units' range is too narrow for integers."""
    blocks = [layer for layer in model.layers if isinstance(layer, SqueezeExcite)]
    if not blocks:
        return set()
    squeezed = [block.pool(block.input) for block in blocks]
    hidden = [block.reduce(s) for block, s in zip(blocks, squeezed, strict=True)]
    probe = keras.Model(model.inputs[0], [ops.max(ops.abs(t), axis=(1, 2, 3)) for t in squeezed + hidden])
    ranges = np.zeros(2 * len(blocks))
    for start in range(0, len(images), batch_size):
        batch = np.asarray(images[start : start + batch_size], "float32")
        outputs = probe(batch if preprocessing is None else preprocessing.normalize(batch), training=False)
        ranges = np.maximum(ranges, [ops.convert_to_numpy(t).max() for t in outputs])
    kernels = [np.abs(ops.convert_to_numpy(block.reduce.kernel)).max() for block in blocks]
    inputs, outputs = ranges[: len(blocks)], ranges[len(blocks) :]
    idle = outputs <= inputs * kernels * NARROWEST
    return {block.name for block, is_idle in zip(blocks, idle, strict=True) if is_idle}
