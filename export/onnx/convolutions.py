"""Emitters of convolutions, dense layers, batch normalisation and SE blocks."""

import math

import numpy as np
from keras import layers

from keras_senet.layers import BatchNormalization, GroupedConv2D, SqueezeExcite

from ..model import unused_name
from .activations import activate
from .emitters import as_float32, emits
from .graph import NO_PADS, Pointwise, UnsupportedLayerError, Value


def _same_pads(size, kernel, strides, dilations):
    """Zeros at top, left, bottom, right that TensorFlow's "same" adds: the odd one at the end.

    None where they depend on a side of x that is open.
    """
    if any(n is None and stride > 1 for n, stride in zip(size, strides, strict=True)):
        return None
    size = [n or 1 for n in size]  # with a stride of 1 they are the same for all sizes
    totals = [
        max((math.ceil(n / stride) - 1) * stride + (k - 1) * dilation + 1 - n, 0)
        for n, k, stride, dilation in zip(size, kernel, strides, dilations, strict=True)
    ]
    begins = [total // 2 for total in totals]
    return (*begins, *(total - begin for total, begin in zip(totals, begins, strict=True)))


def find_window(graph, layer, x, kernel, dilations=(1, 1)):
    """(x, the pads of a layer's window): those of a ZeroPadding2D before it, or of its own."""
    if layer.padding == "valid":
        return x, x.pads
    x = graph.add_pads(x)
    return x, _same_pads(x.size, kernel, layer.strides, dilations)


def pads_attribute(pads):
    """The attribute of a window with such pads, None being those that ONNX finds itself."""
    return {"auto_pad": "SAME_UPPER"} if pads is None else {"pads": pads}


def _bias(layer):
    return as_float32(layer.bias) if layer.use_bias else None


def _convolve(graph, source, kernel, bias, name, **attributes):
    """The name of a value by a kernel (O, I / groups, k, k) and a bias (O,) or None, as in ONNX."""
    inputs = [graph.shared_constant(kernel, f"{name}/kernel")]
    if bias is not None:
        inputs.append(graph.constant(bias, f"{name}/bias"))
    return graph.add(
        "Conv", source, *inputs, name=name, kernel_shape=kernel.shape[2:], **attributes
    )


def _emit_convolution(graph, layer, x, kernel, groups):
    x, pads = find_window(graph, layer, x, kernel.shape[2:], layer.dilation_rate)
    bias = _bias(layer)
    sampling = {
        "strides": layer.strides,
        "dilations": layer.dilation_rate,
        "group": groups,
        **pads_attribute(pads),
    }
    output = _convolve(graph, x.name, kernel, bias, layer.name, **sampling)
    if (kernel.shape[2:], tuple(layer.strides), pads, groups) == ((1, 1), (1, 1), NO_PADS, 1):
        graph.pointwise[output] = Pointwise(x.name, kernel[:, :, 0, 0], bias)
    return activate(graph, Value(output, (None,) * 4), layer.activation, f"{layer.name}/activation")


@emits(layers.Conv2D, GroupedConv2D)
def _conv(graph, layer, x):
    return _emit_convolution(
        graph, layer, x, as_float32(layer.kernel).transpose(3, 2, 0, 1), layer.groups
    )


@emits(layers.DepthwiseConv2D)
def _depthwise(graph, layer, x):
    height, width, channels, multiplier = layer.kernel.shape
    kernel = (
        as_float32(layer.kernel)
        .reshape(height, width, 1, channels * multiplier)
        .transpose(3, 2, 0, 1)
    )
    return _emit_convolution(graph, layer, x, kernel, channels)


@emits(layers.Dense)
def _dense(graph, layer, x):
    if len(x.shape) != 2:
        raise UnsupportedLayerError(f"{layer.name} after a tensor of shape {x.shape}")
    bias = as_float32(layer.bias) if layer.use_bias else np.zeros(layer.units)
    constants = [
        graph.constant(v, f"{layer.name}/{n}")
        for n, v in (("kernel", as_float32(layer.kernel)), ("bias", bias))
    ]
    output = graph.add("Gemm", x.name, *constants, name=layer.name)
    return activate(
        graph, Value(output, (None, layer.units)), layer.activation, f"{layer.name}/activation"
    )


@emits(layers.BatchNormalization, BatchNormalization)
def _batch_normalization(graph, layer, x):
    rank = len(x.shape)
    if rank not in (2, 4) or layer.axis not in (-1, rank - 1):
        raise UnsupportedLayerError(f"{layer.name} with axis={layer.axis}")
    weights = {
        "gamma": layer.gamma,
        "beta": layer.beta,
        "mean": layer.moving_mean,
        "variance": layer.moving_variance,
    }
    default = {"gamma": np.ones(x.channels), "beta": np.zeros(x.channels)}
    constants = [
        graph.constant(
            default[name] if weight is None else as_float32(weight), f"{layer.name}/{name}"
        )
        for name, weight in weights.items()
    ]
    output = graph.add(
        "BatchNormalization", x.name, *constants, epsilon=layer.epsilon, name=layer.name
    )
    return Value(output, x.shape)


@emits(SqueezeExcite)
def _squeeze_excite(graph, layer, x):
    name = layer.name
    gate = _conv(graph, layer.expand, _reduce(graph, layer, x))
    graph.gates[unused_name(name, graph.gates)] = gate.name, x.channels
    product = graph.add("Mul", x.name, gate.name, name=name)
    return Value(product, x.shape, nonnegative=x.nonnegative and gate.nonnegative)


def _reduce(graph, block, x):
    """relu(reduce(squeeze(x))) of an SE block."""
    if block.squeeze == "avg" and x.name in graph.pointwise:
        return _reduce_before(graph, block, graph.pointwise[x.name])
    if block.squeeze is not None:
        operator = {"avg": "GlobalAveragePool", "max": "GlobalMaxPool"}[block.squeeze]
        x = x._replace(name=graph.add(operator, x.name, name=f"{block.name}/squeeze"))
    return _conv(graph, block.reduce, x)


def _reduce_before(graph, block, conv):
    """The same from the input of the 1x1 convolution before the block, whose mean is that of
    its input convolved.

    In a bottleneck that input has a quarter of the channels; both kernels become one.
    """
    layer = block.reduce
    reduce = as_float32(layer.kernel)[0, 0].T
    biases = [_bias(layer), None if conv.bias is None else reduce @ conv.bias]
    bias = (
        sum(part for part in biases if part is not None)
        if any(b is not None for b in biases)
        else None
    )
    pooled = graph.add("GlobalAveragePool", conv.source, name=f"{block.name}/squeeze")
    output = _convolve(graph, pooled, (reduce @ conv.kernel)[:, :, None, None], bias, layer.name)
    return activate(graph, Value(output, (None,) * 4), layer.activation, f"{layer.name}/activation")
