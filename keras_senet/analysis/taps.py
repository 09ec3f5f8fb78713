"""Models that output what is inside another one: the gates of its SE blocks above all."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_senet.graphs import Graph, check_functional, flat_layers, functional_of, is_functional
from keras_senet.layers import SqueezeExcite


class Tap(NamedTuple):
    """Something of one call of a layer.

    name   the layer's; of a layer in a nested model "<model>/<layer>", of its second call
           "<layer>:2"
    layer  the layer
    value  symbolic tensors
    """

    name: str
    layer: keras.Layer
    value: Any


def gate_of(layer: keras.Operation, *inputs: keras.KerasTensor) -> Any:
    """The symbolic gate of an SE block for its input; None for another layer."""
    return layer.excitation(*inputs) if isinstance(layer, SqueezeExcite) else None


def tap(model: keras.Model, value_of: Callable[..., Any] = gate_of) -> list[Tap]:
    """A `Tap` for each call of a layer, in the order of the graph, also in nested models.

    Args:
        model: a functional Keras model.
        value_of: a function of the layer and its inputs: symbolic tensors to output, or None for a
            layer that is left out.

    Raises:
        ValueError: for a model that is not functional.
    """
    check_functional(model)
    return list(_tap_calls(model, value_of))


def tap_gates(model: keras.Model) -> list[Tap]:
    """The gates of all SE blocks: (N, 1, 1, C), or (N, H, W, C) without a squeeze.

    Raises:
        ValueError: for a model that is not functional, or has no SE blocks.
    """
    return check_found(model, tap(model))


def check_found(model: keras.Model, found: list[Any]) -> list[Any]:
    """What was found of a model's SE blocks. Raises ValueError if that is nothing."""
    if not found:
        raise ValueError(f"`model` has no SE blocks. Received: {model.name!r}")
    return found


def gates(model: keras.Model) -> keras.Model:
    """A model of the same input that returns the gates of every SE block, by the layers' names: (N,
    1, 1, C) each.

    A block within a nested model is called "<model>/<layer>"; the second call of one is
    "<layer>:2".

    Raises:
        ValueError: for a model that is not functional, or has no SE blocks.
    """
    found = {each.name: each.value for each in tap_gates(model)}
    return keras.Model(functional_of(model).input, found)


def mean_over_places(value: Any, layer: Any) -> Any:
    """(N, C) in float32: the mean over height and width of a map in the layer's data format."""
    places = (1, 2) if layer.data_format == "channels_last" else (2, 3)
    return ops.mean(ops.cast(value, "float32"), axis=places)


def _tap_calls(model, value_of) -> Iterator[Tap]:
    for name, node in Graph(functional_of(model)).named():
        layer = node.operation
        value = value_of(layer, *node.input_tensors)
        if value is not None:
            yield Tap(name, layer, value)
        elif isinstance(layer, keras.Model):
            yield from _tap_nested(name, layer, node.input_tensors, value_of)


def _tap_nested(name, model, inputs, value_of):
    """The same for a model that another one calls on `inputs`."""
    has_blocks = any(isinstance(layer, SqueezeExcite) for layer in flat_layers(model))
    if not is_functional(model) and not has_blocks:
        return
    inner = tap(model, value_of)
    values = [each.value for each in inner]
    found = keras.Model(model.inputs, values)(inputs) if inner else []
    found = keras.tree.pack_sequence_as(values, keras.tree.flatten(found))
    for each, value in zip(inner, found, strict=True):
        yield Tap(f"{name}/{each.name}", each.layer, value)
