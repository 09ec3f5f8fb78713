"""Tiny networks whose weights are all random, what they answer with gates held fast, and images for
them.
"""

import contextlib
import dataclasses
import functools

import keras
import numpy as np
import pytest
from tiny import TINY

from keras_senet import SE, data
from keras_senet.analysis.removal import se_blocks

# Those that take long, or are much like others, are slow tests.
SLOW = (
    "inception_resnet",
    "shake_resnext",
    "shake_shake",
    "senet",
    "basic",
    "preact_pad",
    "preact_bottleneck",
    "shufflenet",
)
FAMILIES = [
    pytest.param(name, id=name, marks=pytest.mark.slow if name in SLOW else ()) for name in TINY
]


def network(spec="small", **se):
    """A tiny network whose weights and statistics are all random: none is left that hides a
    mistake.

    It is made once for each specification: tests must leave it as it is.
    """
    return _network(spec, tuple(se.items()), keras.config.image_data_format())


@functools.cache
def _network(spec, se, _):
    tiny = TINY[spec] if isinstance(spec, str) else TINY["small"]._replace(spec=spec)
    if se:
        tiny = tiny._replace(spec=dataclasses.replace(tiny.spec, se=SE(**dict(se))))
    without_top = spec == "vgg"  # whose top is large
    return with_random_weights(
        tiny.constructor(weights=None, include_top=not without_top, classifier_activation=None)
    )


def with_random_weights(model):
    random = np.random.default_rng(0)
    for weight in model.weights:
        values = random.normal(size=weight.shape) * 0.2
        weight.assign(np.abs(values) + 0.5 if "variance" in weight.path else values)
    return model


def images_for(model, count=3):
    return np.random.default_rng(1).normal(size=(count, *model.input_shape[1:])).astype("float32")


def answers(model, images, gates):
    """What a model outputs with these gates in the place of its blocks' own."""
    with contextlib.ExitStack() as stack:
        for block, gate in gates.items():
            shape = (1, -1, 1, 1) if block.data_format == "channels_first" else (1, 1, 1, -1)
            constant = np.reshape(gate, shape).astype("float32")
            block.excitation = lambda x, constant=constant: constant
            stack.callback(delattr, block, "excitation")
        return np.array(model(images, training=False))


def assert_equal(found, expected):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found / scale, expected / scale, atol=3e-5)


def ones(blocks):
    return {block: np.ones(block.expand.filters) for block in blocks}


def own_means(model, images):
    """The mean gates by the layers' own computation, image by image."""
    outputs = keras.Model(model.input, {block.name: block.input for block in se_blocks(model)})(
        images
    )
    return {
        block: np.mean(np.array(block.excitation(outputs[block.name])), axis=(0, 1, 2))
        for block in se_blocks(model)
    }


def pictures(count, size=32):
    images = np.random.default_rng(2).integers(0, 256, (count, size, size, 3), "uint8")
    return data.Dataset(images, np.arange(count) % 10, tuple("0123456789"))
