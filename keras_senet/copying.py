"""Copies of layers and models: with other settings, and with other layers."""

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_senet.graphs import check_functional, flat_layers, functional_of, is_functional


def with_config(layer: keras.Operation, **changes: Any) -> Any:
    """A new layer of the same configuration, but for these entries.

    Raises:
        ValueError: for a layer whose `get_config` lacks what its constructor needs.
    """
    try:
        return type(layer).from_config(layer.get_config() | changes)
    except (NotImplementedError, TypeError) as error:
        raise ValueError(
            f"{layer.name!r} of {type(layer).__name__} cannot be copied: its `get_config` must "
            "return all that its constructor takes"
        ) from error


def set_weights(layer: keras.Layer, values: list[np.ndarray]) -> None:
    """Sets the weights of a layer or model, and what its `Normalization`s compute from theirs.

    Without the second, such a layer keeps the constants of its former weights.
    """
    layer.set_weights(values)
    finalize_normalizations(layer)


def finalize_normalizations(layer: keras.Layer) -> None:
    """Has each `Normalization` of a layer or model compute its constants from its weights again."""
    for each in flat_layers(layer):
        if isinstance(each, layers.Normalization):
            each.finalize_state()


def _weights(layer):
    """Those of a layer; operations of `keras.ops` have none."""
    return layer.get_weights() if isinstance(layer, keras.Layer) else []


def keep_attributes(model: keras.Model, copy: keras.Model) -> keras.Model:
    """The copy, with the model's `preprocessing` and `class_names` if it has them."""
    for name in ("preprocessing", "class_names"):
        if hasattr(model, name):
            setattr(copy, name, getattr(model, name))
    return copy


def _clone(model, **functions):
    return keep_attributes(model, keras.models.clone_model(functional_of(model), **functions))


def rebuild(
    model: keras.Model,
    changed: Mapping[Any, tuple[keras.Layer, list[np.ndarray]]],
    gone: Collection[Any] = (),
    clone: Callable[[Any], Any] = with_config,
) -> keras.Model:
    """A functional model of the same graph, weights, `preprocessing` and `class_names` with other
    layers, in nested models too: a layer that several of them call has one copy.

    Args:
        model: a functional, or a built sequential, model. It is not changed.
        changed: layer -> (the new layer in its place, its weights).
        gone: layers whose output becomes their input.
        clone: makes the copy of any other layer, which gets its weights.

    Raises ValueError for a model of another kind, and a layer that cannot be copied.
    """
    check_functional(model)
    weights, removed = {}, set()  # of the new layers

    @functools.cache
    def replace(layer):
        if is_functional(layer):
            return copied(layer)
        new, values = changed.get(layer) or (clone(layer), _weights(layer))
        if layer in gone:
            removed.add(new)
        elif values:
            weights[new] = values
        return new

    def call(layer, *arguments, **keywords):
        return arguments[0] if layer in removed else layer(*arguments, **keywords)

    copied = functools.partial(_clone, clone_function=replace, call_function=call)
    copy = copied(model)
    for layer, values in weights.items():
        set_weights(layer, values)
    return copy
