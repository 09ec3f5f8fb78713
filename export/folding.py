"""Batch normalisation as part of the convolution in front of it."""

import keras
import numpy as np
from keras import layers, ops

from keras_senet.layers import BatchNormalization, GroupedConv2D

from .graph import check_functional, functional_of

CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense, GroupedConv2D)
NORMALIZATIONS = (layers.BatchNormalization, BatchNormalization)


def fold(model):
    """A functional model for inference that is equal up to rounding, with batch normalisation inside its convolutions.

    A `BatchNormalization` behind a `Conv2D`, `GroupedConv2D`, `DepthwiseConv2D` or `Dense` without an activation, which
    nothing else reads, is gone: kernel and bias have its scale and shift. Others stay, such as those in front of a
    convolution (pre-activation networks). Works on every backend, in nested models too. The new model has weights of
    its own; `preprocessing` goes over to it.

    Raises:
        ValueError: for a model that is neither functional nor a built sequential one.
    """
    check_functional(model)
    functional = functional_of(model)
    folded = _foldable(functional)
    convolutions = {conv.name for conv in folded.values()}

    def clone(layer):
        if _is_model(layer):
            return fold(layer)
        config = layer.get_config()
        return type(layer).from_config(config | {"use_bias": True} if layer.name in convolutions else config)

    def call(layer, *arguments, **keywords):
        return arguments[0] if layer.name in folded else layer(*arguments, **keywords)

    copy = keras.models.clone_model(functional, clone_function=clone, call_function=call)
    for layer in functional.layers:
        if layer.weights and layer.name not in folded and layer.name not in convolutions and not _is_model(layer):
            copy.get_layer(layer.name).set_weights(layer.get_weights())
    for name, conv in folded.items():
        copy.get_layer(conv.name).set_weights(_folded_weights(conv, functional.get_layer(name)))
    if hasattr(model, "preprocessing"):
        copy.preprocessing = model.preprocessing
    return copy


def _is_model(layer):
    return isinstance(layer, keras.Model)


def _foldable(functional):
    """The convolutions that can take over what is behind them, by the names of the batch normalisations."""
    readers = {}
    nodes = [node for nodes in functional._nodes_by_depth.values() for node in nodes]
    for node in nodes:
        for tensor in node.input_tensors:
            readers.setdefault(id(tensor), []).append(node)
    calls = [node.operation for node in nodes]
    results = {id(tensor) for tensor in functional.outputs}
    found = {}
    for node in nodes:
        if type(node.operation) not in CONVOLUTIONS or node.operation.activation is not keras.activations.linear:
            continue
        (output,) = node.outputs
        behind = readers.get(id(output), [])
        if id(output) in results or len(behind) != 1 or calls.count(node.operation) != 1:
            continue
        norm = behind[0].operation
        if type(norm) in NORMALIZATIONS and calls.count(norm) == 1 and _over_channels(norm, node.operation, output):
            found[norm.name] = node.operation
    return found


def _over_channels(norm, conv, output):
    rank = len(output.shape)
    channels = 1 if getattr(conv, "data_format", "channels_last") == "channels_first" else rank - 1
    return norm.axis % rank == channels


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
