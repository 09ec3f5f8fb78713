"""Emitters of pooling, of what changes shapes, and of what joins values."""

import functools

import keras
import numpy as np
from keras import layers

from keras_senet.layers import PadChannels, ShakeShake, ShuffleChannels

from .convolutions import find_window, pads_attribute
from .emitters import EMITTERS, INACTIVE, as_float32, emits
from .graph import NO_PADS, UnsupportedLayerError, Value

END = np.iinfo("int64").max  # of a slice that goes to the end


# Pooling


@emits(layers.MaxPooling2D)
def _max_pool(graph, layer, x):
    # ONNX pads a maximum with minus infinity. Zeros are the same where something of x >= 0 is in
    # each window.
    if not (
        x.nonnegative and all(pad < k for pad, k in zip(x.pads, 2 * layer.pool_size, strict=True))
    ):
        x = graph.add_pads(x)
    x, pads = find_window(graph, layer, x, layer.pool_size)
    shape = {"kernel_shape": layer.pool_size, "strides": layer.strides, **pads_attribute(pads)}
    return x._replace(name=graph.add("MaxPool", x.name, name=layer.name, **shape), pads=NO_PADS)


@emits(layers.AveragePooling2D)
def _average_pool(graph, layer, x):
    counts_zeros = int(layer.padding == "valid")  # the layer's own padding is left out of the mean
    if any(pad >= k for pad, k in zip(x.pads, 2 * layer.pool_size, strict=True)):
        x = graph.add_pads(x)
    x, pads = find_window(graph, layer, x, layer.pool_size)
    shape = {"kernel_shape": layer.pool_size, "strides": layer.strides, **pads_attribute(pads)}
    output = graph.add(
        "AveragePool", x.name, name=layer.name, count_include_pad=counts_zeros, **shape
    )
    return x._replace(name=output, pads=NO_PADS)


def _emit_global_pool(operator, graph, layer, x):
    output = graph.add(operator, x.name, name=layer.name)
    if not layer.keepdims:
        output = graph.add("Flatten", output, axis=1, name=f"{layer.name}/flat")
    return x._replace(name=output)


EMITTERS[layers.GlobalAveragePooling2D] = functools.partial(_emit_global_pool, "GlobalAveragePool")
EMITTERS[layers.GlobalMaxPooling2D] = functools.partial(_emit_global_pool, "GlobalMaxPool")


# Shapes


@emits(layers.ZeroPadding2D)
def _zero_padding(graph, layer, x):
    (top, bottom), (left, right) = layer.padding
    return x._replace(pads=(top, left, bottom, right))


@emits(layers.Cropping2D)
def _cropping(graph, layer, x):
    (top, bottom), (left, right) = layer.cropping
    limits = ((top, left), [-cut if cut else END for cut in (bottom, right)], (2, 3))
    names = [graph.constant(value, f"{layer.name}/limits", "int64") for value in limits]
    return x._replace(name=graph.add("Slice", x.name, *names, name=layer.name))


@emits(layers.Flatten)
def _flatten(graph, layer, x):
    name = x.name
    # Keras' order of the features is that of channels_last
    if len(x.shape) == 4 and x.size != (1, 1):
        name = graph.add("Transpose", name, perm=(0, 2, 3, 1), name=f"{layer.name}/channels_last")
    return x._replace(name=graph.add("Flatten", name, axis=1, name=layer.name))


@emits(layers.Reshape)
def _reshape(graph, layer, x):
    name = x.name
    if len(x.shape) == 4:  # of channels_last
        name = graph.add("Transpose", name, perm=(0, 2, 3, 1), name=f"{layer.name}/channels_last")
    # 0: as many images as x has
    shape = graph.constant((0, *layer.target_shape), f"{layer.name}/shape", "int64")
    name = graph.add("Reshape", name, shape, name=layer.name)
    if len(layer.target_shape) == 3:
        name = graph.add("Transpose", name, perm=(0, 3, 1, 2), name=f"{layer.name}/channels_first")
    return x._replace(name=name)


@emits(layers.UpSampling2D)
def _upsampling(graph, layer, x):
    if layer.interpolation != "nearest":
        raise UnsupportedLayerError(f"{layer.name} with interpolation={layer.interpolation!r}")
    scales = graph.constant((1, 1, *layer.size), f"{layer.name}/scales")
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"}
    name = graph.add("Resize", x.name, "", scales, nearest_mode="floor", name=layer.name, **how)
    return x._replace(name=name)


@emits(PadChannels)
def _pad_channels(graph, layer, x):
    return graph.pad(x, [0] * 5 + [layer.channels - x.channels, 0, 0], layer.name)


@emits(ShuffleChannels)
def _shuffle_channels(graph, layer, x):
    order = np.arange(x.channels).reshape(layer.groups, -1).T.ravel()
    places = graph.constant(order, f"{layer.name}/order", "int64")
    return x._replace(name=graph.add("Gather", x.name, places, axis=1, name=layer.name))


# Several inputs, or none of the above


def _emit_elementwise(operator, graph, layer, first, *rest):
    name, rank = first.name, len(first.shape)
    if any(len(x.shape) != rank for x in rest):
        raise UnsupportedLayerError(f"{layer.name} of tensors of different ranks")
    for x in rest:
        name = graph.add(operator, name, x.name, name=layer.name)
    return Value(name, first.shape, nonnegative=all(x.nonnegative for x in (first, *rest)))


EMITTERS[layers.Add] = functools.partial(_emit_elementwise, "Add")
EMITTERS[layers.Multiply] = functools.partial(_emit_elementwise, "Mul")


@emits(layers.Concatenate)
def _concatenate(graph, layer, *inputs):
    rank = len(inputs[0].shape)
    axis = layer.axis % rank
    if axis == 0 or (rank == 4 and axis != 3):
        raise UnsupportedLayerError(f"{layer.name} with axis={layer.axis}")
    axis = 1 if rank == 4 else axis
    output = graph.add("Concat", *(x.name for x in inputs), axis=axis, name=layer.name)
    return Value(output, inputs[0].shape, nonnegative=all(x.nonnegative for x in inputs))


@emits(ShakeShake)
def _shake_shake(graph, layer, a, b):
    total = graph.add("Add", a.name, b.name, name=f"{layer.name}/sum")
    name = graph.add("Mul", total, graph.constant(0.5, f"{layer.name}/half"), name=layer.name)
    return Value(name, a.shape, nonnegative=a.nonnegative and b.nonnegative)


@emits(layers.Rescaling)
def _rescaling(graph, layer, x):
    if not all(isinstance(value, (int, float)) for value in (layer.scale, layer.offset)):
        raise UnsupportedLayerError(f"{layer.name} with several scales")
    steps = [("Mul", layer.scale), *([("Add", layer.offset)] if layer.offset else [])]
    return Value(graph.compute(x.name, steps, layer.name), x.shape)


@emits(layers.Normalization)
def _normalization(graph, layer, x):
    if layer.invert or len(x.shape) != 4:
        raise UnsupportedLayerError(f"{layer.name} of a tensor of shape {x.shape}")
    std = np.maximum(np.sqrt(as_float32(layer.variance)), keras.config.epsilon())
    steps = [
        (operator, value.transpose(0, 3, 1, 2) if value.ndim == 4 else value)
        for operator, value in (("Sub", as_float32(layer.mean)), ("Div", std))
    ]
    return Value(graph.compute(x.name, steps, layer.name), x.shape)


@emits(*INACTIVE)
def _identity(graph, layer, x):
    """What does something in training only."""
    return x
