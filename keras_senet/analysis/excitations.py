"""What the SE blocks of a network answer to images."""

import keras
from keras import ops

from keras_senet.layers import SqueezeExcite


def gates(model):
    """A model of the same input that returns the gates of every SE block, by the layers' names: (N, 1, 1, C) each.

    Raises:
        ValueError: for a model without SE blocks.
    """
    blocks = [layer for layer in model.layers if isinstance(layer, SqueezeExcite)]
    if not blocks:
        raise ValueError(f"`model` has no SE blocks. Received: {model.name!r}")
    return keras.Model(model.input, {block.name: block.excitation(block.input) for block in blocks})


def gates_by_stage(model, images):
    """The mean gate of each stage's SE blocks over images as the network takes them: {"stage2": 0.48, ...}."""
    found = {}
    for name, gate in gates(model)(images, training=False).items():
        found.setdefault(name.split("_")[0], []).append(float(ops.mean(gate)))
    return {stage: sum(means) / len(means) for stage, means in found.items()}
