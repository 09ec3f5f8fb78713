"""Activations as ONNX operators."""

import math
from typing import NamedTuple

import keras
from keras import activations, layers

from .emitters import emits
from .graph import OnnxGraph, UnsupportedLayerError, Value


class Operator(NamedTuple):
    """An ONNX operator that computes an activation of Keras.

    name         the operator
    attributes   of it, where ONNX' defaults are not Keras'
    nonnegative  whether its results are at least 0
    opset        the first that has it
    """

    name: str
    attributes: dict = {}  # noqa: RUF012 -- never changed
    nonnegative: bool = False
    opset: int = 13


# Keras' activations that are one operator: a gate of one of these needs nothing else.
OPERATORS = {
    activations.elu: Operator("Elu"),
    activations.exponential: Operator("Exp", nonnegative=True),
    activations.hard_sigmoid: Operator("HardSigmoid", {"alpha": 1 / 6}, nonnegative=True),
    activations.hard_silu: Operator("HardSwish", opset=14),
    activations.leaky_relu: Operator("LeakyRelu", {"alpha": 0.2}),
    activations.mish: Operator("Mish", opset=18),
    activations.relu: Operator("Relu", nonnegative=True),
    activations.selu: Operator("Selu"),
    activations.sigmoid: Operator("Sigmoid", nonnegative=True),
    activations.softplus: Operator("Softplus", nonnegative=True),
    activations.softsign: Operator("Softsign"),
    activations.tanh: Operator("Tanh"),
}


def _clip(graph, x, name):
    limits = [graph.constant(limit, f"{name}/limit") for limit in (0.0, 6.0)]
    return graph.add("Clip", x, *limits, name=name)


def _swish(graph, x, name):
    return graph.add("Mul", x, graph.add("Sigmoid", x, name=f"{name}/sigmoid"), name=name)


def _gelu(graph, x, name):
    """x / 2 * (1 + erf(x / sqrt(2)))"""
    part = graph.compute(x, [("Div", math.sqrt(2))], name)
    part = graph.add("Erf", part, name=f"{name}/erf")
    part = graph.compute(part, [("Add", 1), ("Mul", 0.5)], name)
    return graph.add("Mul", x, part, name=name)


# Those that are several operators.
COMPOSED = {activations.relu6: _clip, activations.silu: _swish, activations.gelu: _gelu}


def activate(graph: OnnxGraph, x: Value, activation, name: str) -> Value:
    """The activation of a value.

    Raises:
        UnsupportedLayerError: for an activation that is in neither table.
    """
    if activation is activations.softmax and len(x.shape) == 2:
        return x._replace(name=graph.add("Softmax", x.name, axis=-1, name=name))
    if activation is activations.linear:
        return x
    if activation in COMPOSED:
        is_nonnegative = activation is activations.relu6
        return Value(COMPOSED[activation](graph, x.name, name), x.shape, nonnegative=is_nonnegative)
    operator = OPERATORS.get(activation)
    if operator is None or graph.opset < operator.opset:
        called = getattr(activation, "__name__", activation)
        raise UnsupportedLayerError(f"{name} with activation {called}")
    output = graph.add(operator.name, x.name, name=name, **operator.attributes)
    return Value(output, x.shape, nonnegative=operator.nonnegative)


@emits(layers.Activation)
def emit_activation(graph, layer, x):
    """Any activation that `activate` knows."""
    return activate(graph, x, layer.activation, layer.name)


@emits(layers.ReLU)
def emit_relu(graph, layer, x):
    """ReLU and ReLU6."""
    if layer.threshold or layer.negative_slope or layer.max_value not in (None, 6):
        raise UnsupportedLayerError(f"{layer.name} with {layer.get_config()}")
    activation = activations.relu6 if layer.max_value else activations.relu
    return activate(graph, x, activation, layer.name)


@emits(layers.Softmax)
def emit_softmax(graph, layer, x):
    """Softmax over the last axis."""
    if layer.axis != -1:
        raise UnsupportedLayerError(f"{layer.name} with axis={layer.axis}")
    return activate(graph, x, keras.activations.softmax, layer.name)
