"""Batch normalisation as part of the convolution before it."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_senet import graphs
from keras_senet.bases import preprocessing_of
from keras_senet.copying import rebuild, with_config

FOLDING = (*graphs.CONVOLUTIONS, layers.DepthwiseConv2D, layers.Dense)


def fold(model: keras.Model) -> keras.Model:
    """A functional model for inference that is equal up to rounding, with batch normalisation
    inside its convolutions.

    A `BatchNormalization` after a `Conv2D`, `GroupedConv2D`, `DepthwiseConv2D` or `Dense` without
    an activation, whose output nothing else consumes, is gone: kernel and bias have its scale and
    shift. Others stay, such as those before a convolution (pre-activation networks), those called
    several times, and those called with `training=True`. Works on every backend, in nested models
    too. The new model has weights of its own, and the `preprocessing` of the old one.

    Raises:
        ValueError: for a model that is neither functional nor a built sequential one, or has a
            layer of another library that `get_config` does not describe.
    """
    found = graphs.graphs(model)
    kept = _find_other_calls(found)
    folded = {norm: conv for graph in found for norm, conv in _foldable(graph) if norm not in kept}
    changed = {
        conv: (with_config(conv, use_bias=True), _fold_weights(conv, norm))
        for norm, conv in folded.items()
    }
    copy: Any = rebuild(model, changed, gone=folded)
    preprocessing = preprocessing_of(model, log=False)
    if preprocessing is not None:
        copy.preprocessing = preprocessing
    return copy


def fold_if_possible(model: keras.Model) -> keras.Model:
    """The model with batch normalisation inside its convolutions, or itself where that cannot be.

    The machine that will run a file is not known. On one with oneDNN and AVX2 only, TensorFlow's
    fused operation for both takes 15 times as long for a batch of 1.
    """
    try:
        return fold(model)
    except ValueError:  # a layer of another library cannot be copied
        return model


def _find_other_calls(found):
    """The layers called with `training=True` or a mask, and those within them."""
    called = [
        node.operation for graph in found for node in graph.nodes if not graphs.is_plain(node)
    ]
    return {
        each
        for layer in called
        if isinstance(layer, keras.Layer)
        for each in graphs.flat_layers(layer)
    }


def _foldable(graph):
    """Pairs of a batch normalisation and the convolution that can take it over."""
    for node in graph.nodes:
        conv, consumer = node.operation, graph.consumer(node)
        if consumer is None or type(conv) not in FOLDING or not graphs.has_plain_kernel(conv):
            continue
        if conv.activation is not keras.activations.linear:
            continue
        norm, data_format = consumer.operation, getattr(conv, "data_format", "channels_last")
        is_norm = type(norm) in graphs.NORMALIZATIONS
        if is_norm and graphs.over_channels(norm, node.outputs[0], data_format):
            yield norm, conv


def _fold_weights(conv, norm):
    """Kernel and bias of conv, then norm: computed in float64, rounded once."""
    gamma, beta = _as_float64(norm.gamma, 1.0), _as_float64(norm.beta, 0.0)
    mean, variance = _as_float64(norm.moving_mean, 0.0), _as_float64(norm.moving_variance, 1.0)
    scale = gamma / np.sqrt(variance + norm.epsilon)
    kernel, *bias = (weight.astype("float64") for weight in conv.get_weights())
    shift = ((bias[0] if bias else 0.0) - mean) * scale + beta
    scales = scale.reshape(kernel.shape[-2:]) if isinstance(conv, layers.DepthwiseConv2D) else scale
    return [(kernel * scales).astype("float32"), shift.astype("float32")]


def _as_float64(weight, default):
    """A weight as an array; the default where the layer has none."""
    return np.asarray(default if weight is None else ops.convert_to_numpy(weight), "float64")
