"""Batch normalisation as part of the convolution in front of it."""

import keras
import numpy as np
from keras import layers, ops

from keras_senet import graphs

FOLDING = (*graphs.CONVOLUTIONS, layers.DepthwiseConv2D, layers.Dense)


def fold(model):
    """A functional model for inference that is equal up to rounding, with batch normalisation inside its convolutions.

    A `BatchNormalization` behind a `Conv2D`, `GroupedConv2D`, `DepthwiseConv2D` or `Dense` without an activation, which
    nothing else reads, is gone: kernel and bias have its scale and shift. Others stay, such as those in front of a
    convolution (pre-activation networks). Works on every backend, in nested models too. The new model has weights of
    its own; `preprocessing` goes over to it.

    Raises:
        ValueError: for a model that is neither functional nor a built sequential one.
    """
    folded = {norm: conv for graph in graphs.graphs(model) for norm, conv in _foldable(graph)}
    changed = {
        conv: (graphs.with_config(conv, use_bias=True), _folded_weights(conv, norm)) for norm, conv in folded.items()
    }
    return graphs.rebuilt(model, changed, gone=folded)


def _foldable(graph):
    """Pairs of a batch normalisation and the convolution that can take it over."""
    for node in graph.nodes:
        conv, behind = node.operation, graph.reader(node)
        if behind is None or type(conv) not in FOLDING or conv.activation is not keras.activations.linear:
            continue
        norm, data_format = behind.operation, getattr(conv, "data_format", "channels_last")
        if type(norm) in graphs.NORMALIZATIONS and graphs.over_channels(norm, node.outputs[0], data_format):
            yield norm, conv


def _folded_weights(conv, norm):
    """Kernel and bias of conv, then norm: computed in float64, rounded once."""
    gamma, beta, mean, variance = (
        None if weight is None else ops.convert_to_numpy(weight).astype("float64")
        for weight in (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
    )
    scale = (1.0 if gamma is None else gamma) / np.sqrt(variance + norm.epsilon)
    kernel, *bias = (weight.astype("float64") for weight in conv.get_weights())
    shift = ((bias[0] if bias else 0.0) - mean) * scale + (0.0 if beta is None else beta)
    scales = scale.reshape(kernel.shape[-2:]) if isinstance(conv, layers.DepthwiseConv2D) else scale
    return [(kernel * scales).astype("float32"), shift.astype("float32")]
