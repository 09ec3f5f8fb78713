"""A functional Keras model as an ONNX graph, layer by layer: images are (N, C, H, W) throughout.

`EMITTERS` has a function for each layer that is known: the networks of keras_senet and the usual
ones of Keras. Each gets the `Graph` to add to, the layer, and a `Tensor` for each input, and
returns one.
"""

import collections
import functools
import math
from typing import NamedTuple

import keras
import numpy as np
from keras import layers, ops

from keras_senet import graphs
from keras_senet.extras import require
from keras_senet.layers import (
    BatchNormalization,
    GroupedConv2D,
    PadChannels,
    ShakeShake,
    ShuffleChannels,
    SqueezeExcite,
)

from .graph import unused_name

NO_PADS = (0, 0, 0, 0)
END = np.iinfo("int64").max  # of a slice that goes to the end


class UnsupportedLayerError(Exception):
    """There is no emitter for a layer, or not for its options or its call."""


class Pointwise(NamedTuple):
    """A 1x1 convolution with a stride of 1: the name of its input, its kernel (O, I) and bias (O,)
    or None.
    """

    source: str
    kernel: np.ndarray
    bias: np.ndarray | None


class Tensor(NamedTuple):
    """A value in the graph.

    name         its ONNX name
    shape        as Keras has it, channels last, with None for the batch and for open sides
    pads         zeros around it that are still to be added: top, left, bottom, right
    nonnegative  whether it is at least 0 everywhere, so that zeros around it cannot be a window's
                 maximum
    """

    name: str
    shape: tuple
    pads: tuple[int, int, int, int] = NO_PADS
    nonnegative: bool = False

    @property
    def channels(self):
        return self.shape[-1]

    @property
    def size(self):
        return self.shape[1:3]


class Graph:
    """Nodes and constants of an ONNX graph as it grows.

    gates      the gate's name and C for each SE block's name
    pointwise  a `Pointwise` for the name of each value that is the output of one
    """

    def __init__(self, opset, results=("predictions",)):
        self.onnx = require("onnx", "export")
        self.opset = opset
        self.nodes, self.constants = [], {}
        self.gates, self.pointwise = {}, {}
        self._names = {"images", *results}  # those of the file; a layer of such a name gets another

    def add(self, operator, *inputs, name, **attributes):
        """The name of the output of a new node."""
        output = self._unique(name)
        self.nodes.append(
            self.onnx.helper.make_node(operator, list(inputs), [output], name=output, **attributes)
        )
        return output

    def constant(self, value, name, dtype="float32"):
        """The name of an array."""
        name = self._unique(name)
        self.constants[name] = np.asarray(value, dtype, order="C")
        return name

    def padded(self, x):
        """The same tensor with its zeros around it."""
        if x.pads == NO_PADS:
            return x
        top, left, bottom, right = x.pads
        return self.pad(
            x._replace(pads=NO_PADS), [0, 0, top, left, 0, 0, bottom, right], f"{x.name}/padded"
        )

    def pad(self, x, amounts, name):
        """x with zeros at the begins, then the ends, of its four axes; the shape is the caller's to
        set.
        """
        pads = self.constant(amounts, f"{name}/amounts", "int64")
        return x._replace(name=self.add("Pad", x.name, pads, name=name))

    def result(self, found, name):
        """Makes a value the graph's output of this name."""
        self.nodes.append(self.onnx.helper.make_node("Identity", [found], [name], name=name))

    def gate_outputs(self):
        """Adds the gates as outputs (N, C); their shapes by name."""
        shapes = {}
        for block, (gate, channels) in self.gates.items():
            pooled = self.add("GlobalAveragePool", gate, name=f"gates/{block}/mean")
            shapes[self.add("Flatten", pooled, axis=1, name=f"gates/{block}")] = ["batch", channels]
        return shapes

    def _unique(self, name):
        found = unused_name(name, self._names)
        self._names.add(found)
        return found

    def _drop_identities(self, results):
        """Gives a result's name to the value that it is, where nothing else reads it."""
        readers = collections.Counter(name for node in self.nodes for name in node.input)
        makers = {name: node for node in self.nodes for name in node.output}
        for node in list(self.nodes):
            if (
                node.op_type == "Identity"
                and node.output[0] in results
                and readers[node.input[0]] == 1
            ):
                maker = makers.get(node.input[0])
                if maker is not None and maker.op_type != "Identity":
                    maker.output[0] = node.output[0]
                    self.nodes.remove(node)

    def proto(self, name, inputs, outputs):
        """The ModelProto; `inputs` and `outputs` are shapes by name."""
        self._drop_identities(outputs)
        helper, kind = self.onnx.helper, self.onnx.TensorProto.FLOAT
        values = [
            [helper.make_tensor_value_info(name, kind, shape) for name, shape in each.items()]
            for each in (inputs, outputs)
        ]
        constants = [
            self.onnx.numpy_helper.from_array(value, name) for name, value in self.constants.items()
        ]
        graph = helper.make_graph(self.nodes, name, *values, initializer=constants)
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets)
        )


EMITTERS = {}


def emits(*kinds):
    """Registers a function for layers of these very classes: a subclass may compute something else."""

    def register(function):
        EMITTERS.update(dict.fromkeys(kinds, function))
        return function

    return register


def check_supported(model):
    """Raises UnsupportedLayerError if a layer has no emitter, or is called as none expects; also in
    nested models.
    """
    for node in graphs.Graph(graphs.functional_of(model)).nodes:
        layer = node.operation
        if node.is_input:
            continue
        if not _has_emitter(layer) or len(node.outputs) != 1:
            raise UnsupportedLayerError(f"{layer.name} of {type(layer).__name__}")
        if not graphs.is_plain(node):
            raise UnsupportedLayerError(f"{layer.name} called with {node.arguments.kwargs}")
        if isinstance(layer, keras.Model):
            check_supported(layer)


def _has_emitter(layer):
    if isinstance(layer, keras.Model):
        return graphs.is_functional(layer) and len(layer.inputs) == 1
    return (
        type(layer) in EMITTERS
        and getattr(layer, "data_format", "channels_last") == "channels_last"
    )


def emit_model(graph, model, x):
    """The outputs for the tensor x of a model that `check_supported` accepts."""
    functional = graphs.functional_of(model)
    found = {id(functional.inputs[0]): x}
    for node in graphs.Graph(functional).nodes:
        if not node.is_input:
            (output,) = node.outputs
            inputs = [found[id(tensor)] for tensor in node.input_tensors]
            found[id(output)] = _emit(graph, node, inputs)
    return [graph.padded(found[id(output)]) for output in functional.outputs]


def _emit(graph, node, inputs):
    layer, (output,) = node.operation, node.outputs
    if isinstance(layer, keras.Model):
        (result,) = emit_model(graph, layer, graph.padded(inputs[0]))
        return result._replace(shape=tuple(output.shape))
    if type(layer) not in TAKE_PADS:
        inputs = [graph.padded(x) for x in inputs]
    return EMITTERS[type(layer)](graph, layer, *inputs)._replace(shape=tuple(output.shape))


def _numpy(weight):
    return ops.convert_to_numpy(weight).astype("float32")


# Activations


def _clip(graph, x, name):
    limits = [graph.constant(limit, f"{name}/limit") for limit in (0.0, 6.0)]
    return graph.add("Clip", x, *limits, name=name)


def _swish(graph, x, name):
    return graph.add("Mul", x, graph.add("Sigmoid", x, name=f"{name}/sigmoid"), name=name)


def _gelu(graph, x, name):
    """x / 2 * (1 + erf(x / sqrt(2)))"""
    part = x
    for operator, value in (("Div", math.sqrt(2)), ("Erf", None), ("Add", 1), ("Mul", 0.5)):
        inputs = [] if value is None else [graph.constant(value, f"{name}/constant")]
        part = graph.add(operator, part, *inputs, name=f"{name}/{operator.lower()}")
    return graph.add("Mul", x, part, name=name)


ACTIVATIONS = {
    keras.activations.relu: lambda graph, x, name: graph.add("Relu", x, name=name),
    keras.activations.relu6: _clip,
    keras.activations.sigmoid: lambda graph, x, name: graph.add("Sigmoid", x, name=name),
    keras.activations.tanh: lambda graph, x, name: graph.add("Tanh", x, name=name),
    keras.activations.silu: _swish,
    keras.activations.gelu: _gelu,
}
NONNEGATIVE = (keras.activations.relu, keras.activations.relu6, keras.activations.sigmoid)


def _activated(graph, x, activation, name):
    if activation is keras.activations.softmax and len(x.shape) == 2:
        return x._replace(name=graph.add("Softmax", x.name, axis=-1, name=name))
    if activation is keras.activations.linear:
        return x
    if activation not in ACTIVATIONS:
        raise UnsupportedLayerError(
            f"{name} with activation {getattr(activation, '__name__', activation)}"
        )
    return Tensor(
        ACTIVATIONS[activation](graph, x.name, name), x.shape, nonnegative=activation in NONNEGATIVE
    )


@emits(layers.Activation)
def _activation(graph, layer, x):
    return _activated(graph, x, layer.activation, layer.name)


@emits(layers.ReLU)
def _relu(graph, layer, x):
    if layer.threshold or layer.negative_slope or layer.max_value not in (None, 6):
        raise UnsupportedLayerError(f"{layer.name} with {layer.get_config()}")
    return _activated(
        graph, x, keras.activations.relu6 if layer.max_value else keras.activations.relu, layer.name
    )


@emits(layers.Softmax)
def _softmax(graph, layer, x):
    if layer.axis != -1:
        raise UnsupportedLayerError(f"{layer.name} with axis={layer.axis}")
    return _activated(graph, x, keras.activations.softmax, layer.name)


# Convolutions and what is like them


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


def _window(graph, layer, x, kernel, dilations=(1, 1)):
    """(x, the pads of a layer's window): those of a ZeroPadding2D in front of it, or of its own."""
    if layer.padding == "valid":
        return x, x.pads
    x = graph.padded(x)
    return x, _same_pads(x.size, kernel, layer.strides, dilations)


def _pads(pads):
    """The attribute of a window with such pads, None being those that ONNX finds itself."""
    return {"auto_pad": "SAME_UPPER"} if pads is None else {"pads": pads}


def _bias(layer):
    return _numpy(layer.bias) if layer.use_bias else None


def _convolved(graph, source, kernel, bias, name, **attributes):
    """The name of a value by a kernel (O, I / groups, k, k) and a bias (O,) or None, as ONNX has
    them.
    """
    inputs = [graph.constant(kernel, f"{name}/kernel")]
    if bias is not None:
        inputs.append(graph.constant(bias, f"{name}/bias"))
    return graph.add(
        "Conv", source, *inputs, name=name, kernel_shape=kernel.shape[2:], **attributes
    )


def _emit_convolution(graph, layer, x, kernel, groups):
    x, pads = _window(graph, layer, x, kernel.shape[2:], layer.dilation_rate)
    bias = _bias(layer)
    sampling = {
        "strides": layer.strides,
        "dilations": layer.dilation_rate,
        "group": groups,
        **_pads(pads),
    }
    output = _convolved(graph, x.name, kernel, bias, layer.name, **sampling)
    if (kernel.shape[2:], tuple(layer.strides), pads, groups) == ((1, 1), (1, 1), NO_PADS, 1):
        graph.pointwise[output] = Pointwise(x.name, kernel[:, :, 0, 0], bias)
    return _activated(
        graph, Tensor(output, (None,) * 4), layer.activation, f"{layer.name}/activation"
    )


@emits(layers.Conv2D, GroupedConv2D)
def _conv(graph, layer, x):
    return _emit_convolution(
        graph, layer, x, _numpy(layer.kernel).transpose(3, 2, 0, 1), layer.groups
    )


@emits(layers.DepthwiseConv2D)
def _depthwise(graph, layer, x):
    height, width, channels, multiplier = layer.kernel.shape
    kernel = (
        _numpy(layer.kernel).reshape(height, width, 1, channels * multiplier).transpose(3, 2, 0, 1)
    )
    return _emit_convolution(graph, layer, x, kernel, channels)


@emits(layers.Dense)
def _dense(graph, layer, x):
    if len(x.shape) != 2:
        raise UnsupportedLayerError(f"{layer.name} behind a tensor of shape {x.shape}")
    bias = _numpy(layer.bias) if layer.use_bias else np.zeros(layer.units)
    constants = [
        graph.constant(v, f"{layer.name}/{n}")
        for n, v in (("kernel", _numpy(layer.kernel)), ("bias", bias))
    ]
    output = graph.add("Gemm", x.name, *constants, name=layer.name)
    return _activated(
        graph, Tensor(output, (None, layer.units)), layer.activation, f"{layer.name}/activation"
    )


@emits(layers.BatchNormalization, BatchNormalization)
def _batch_normalization(graph, layer, x):
    if len(x.shape) != 4 or layer.axis not in (-1, 3):
        raise UnsupportedLayerError(f"{layer.name} with axis={layer.axis}")
    weights = {
        "gamma": layer.gamma,
        "beta": layer.beta,
        "mean": layer.moving_mean,
        "variance": layer.moving_variance,
    }
    default = {"gamma": np.ones(x.channels), "beta": np.zeros(x.channels)}
    constants = [
        graph.constant(default[name] if weight is None else _numpy(weight), f"{layer.name}/{name}")
        for name, weight in weights.items()
    ]
    output = graph.add(
        "BatchNormalization", x.name, *constants, epsilon=layer.epsilon, name=layer.name
    )
    return Tensor(output, x.shape)


@emits(SqueezeExcite)
def _squeeze_excite(graph, layer, x):
    name = layer.name
    gate = _conv(graph, layer.expand, _reduced(graph, layer, x))
    graph.gates[name] = gate.name, x.channels
    product = graph.add("Mul", x.name, gate.name, name=name)
    return Tensor(product, x.shape, nonnegative=x.nonnegative and gate.nonnegative)


def _reduced(graph, block, x):
    """relu(reduce(squeeze(x))) of an SE block."""
    if block.squeeze == "avg" and x.name in graph.pointwise:
        return _reduced_before(graph, block, graph.pointwise[x.name])
    if block.squeeze is not None:
        operator = {"avg": "GlobalAveragePool", "max": "GlobalMaxPool"}[block.squeeze]
        x = x._replace(name=graph.add(operator, x.name, name=f"{block.name}/squeeze"))
    return _conv(graph, block.reduce, x)


def _reduced_before(graph, block, conv):
    """The same from the input of the 1x1 convolution in front of the block, whose mean is that of
    its input convolved.

    In a bottleneck that input has a quarter of the channels; both kernels become one.
    """
    layer = block.reduce
    reduce = _numpy(layer.kernel)[0, 0].T
    biases = [_bias(layer), None if conv.bias is None else reduce @ conv.bias]
    bias = (
        sum(part for part in biases if part is not None)
        if any(b is not None for b in biases)
        else None
    )
    pooled = graph.add("GlobalAveragePool", conv.source, name=f"{block.name}/squeeze")
    output = _convolved(graph, pooled, (reduce @ conv.kernel)[:, :, None, None], bias, layer.name)
    return _activated(
        graph, Tensor(output, (None,) * 4), layer.activation, f"{layer.name}/activation"
    )


# Pooling


@emits(layers.MaxPooling2D)
def _max_pool(graph, layer, x):
    # ONNX pads a maximum with minus infinity. Zeros are the same where something of x >= 0 is in
    # each window.
    if not (
        x.nonnegative and all(pad < k for pad, k in zip(x.pads, 2 * layer.pool_size, strict=True))
    ):
        x = graph.padded(x)
    x, pads = _window(graph, layer, x, layer.pool_size)
    shape = {"kernel_shape": layer.pool_size, "strides": layer.strides, **_pads(pads)}
    return x._replace(name=graph.add("MaxPool", x.name, name=layer.name, **shape), pads=NO_PADS)


@emits(layers.AveragePooling2D)
def _average_pool(graph, layer, x):
    counts_zeros = int(layer.padding == "valid")  # the layer's own padding is left out of the mean
    if any(pad >= k for pad, k in zip(x.pads, 2 * layer.pool_size, strict=True)):
        x = graph.padded(x)
    x, pads = _window(graph, layer, x, layer.pool_size)
    shape = {"kernel_shape": layer.pool_size, "strides": layer.strides, **_pads(pads)}
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
    if len(x.shape) == 4 and x.size != (
        1,
        1,
    ):  # Keras' order of the features is that of channels_last
        name = graph.add("Transpose", name, perm=(0, 2, 3, 1), name=f"{layer.name}/channels_last")
    return x._replace(name=graph.add("Flatten", name, axis=1, name=layer.name))


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
    return Tensor(name, first.shape, nonnegative=all(x.nonnegative for x in (first, *rest)))


EMITTERS[layers.Add] = functools.partial(_emit_elementwise, "Add")
EMITTERS[layers.Multiply] = functools.partial(_emit_elementwise, "Mul")


@emits(layers.Concatenate)
def _concatenate(graph, layer, *inputs):
    rank = len(inputs[0].shape)
    if layer.axis not in (-1, rank - 1):
        raise UnsupportedLayerError(f"{layer.name} with axis={layer.axis}")
    output = graph.add("Concat", *(x.name for x in inputs), axis=1, name=layer.name)
    return Tensor(output, inputs[0].shape, nonnegative=all(x.nonnegative for x in inputs))


@emits(ShakeShake)
def _shake_shake(graph, layer, a, b):
    total = graph.add("Add", a.name, b.name, name=f"{layer.name}/sum")
    name = graph.add("Mul", total, graph.constant(0.5, f"{layer.name}/half"), name=layer.name)
    return Tensor(name, a.shape, nonnegative=a.nonnegative and b.nonnegative)


@emits(layers.Rescaling)
def _rescaling(graph, layer, x):
    if not all(isinstance(value, (int, float)) for value in (layer.scale, layer.offset)):
        raise UnsupportedLayerError(f"{layer.name} with several scales")
    name = graph.add(
        "Mul", x.name, graph.constant(layer.scale, f"{layer.name}/scale"), name=layer.name
    )
    if layer.offset:
        name = graph.add(
            "Add",
            name,
            graph.constant(layer.offset, f"{layer.name}/offset"),
            name=f"{layer.name}/moved",
        )
    return Tensor(name, x.shape)


@emits(layers.Dropout, layers.SpatialDropout2D, layers.GaussianNoise, layers.GaussianDropout)
def _identity(graph, layer, x):
    """What does something in training alone."""
    return x


# The layers that can take over the zeros of a ZeroPadding2D in front of them.
TAKE_PADS = (
    layers.Conv2D,
    GroupedConv2D,
    layers.DepthwiseConv2D,
    layers.MaxPooling2D,
    layers.AveragePooling2D,
)
