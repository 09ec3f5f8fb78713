"""The graph of a functional model: who reads what, and the same graph with other layers in it."""

import collections
import functools

import keras
from keras import layers

from keras_senet.layers import BatchNormalization, GroupedConv2D

CONVOLUTIONS = (layers.Conv2D, GroupedConv2D)
NORMALIZATIONS = (layers.BatchNormalization, BatchNormalization)


def is_functional(model):
    """Whether this is a model, and a graph of layers."""
    return isinstance(model, keras.Model) and hasattr(
        getattr(model, "_functional", model), "operations"
    )


def check_functional(model):
    """Raises ValueError unless the model is a graph of layers."""
    if not is_functional(model):
        raise ValueError(
            f"`model` must be a functional, or a built sequential, Keras model. Received: model={model!r} "
            f"of {type(model)}"
        )


def functional_of(model):
    """The model itself, or a sequential one as a functional model of the same layers."""
    is_sequential = isinstance(model, keras.Sequential)
    return (
        keras.Model(model.inputs[0], model.outputs[0], name=model.name) if is_sequential else model
    )


def graphs(model):
    """The `Graph` of a model, and of each model within it: once, however often that is called.

    Raises:
        ValueError: if one of them is neither functional nor a built sequential model.
    """
    calls = collections.Counter()
    return [Graph(functional_of(each), calls) for each in _models(model)]


def _models(model):
    """The model and those within it, each once."""
    check_functional(model)
    nested = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    return dict.fromkeys([model, *(each for layer in nested for each in _models(layer))])


class Graph:
    """The calls of a functional model's layers. A node is one call of one layer, its `operation`.

    Graphs of one model share `calls`, how often each operation is called in all of them: layers can
    be in several.
    """

    def __init__(self, functional, calls=None):
        depths = functional._nodes_by_depth
        self.layers = functional.layers
        self.nodes = [node for depth in sorted(depths, reverse=True) for node in depths[depth]]
        self._readers, self._makers = collections.defaultdict(list), {}
        for node in self.nodes:
            self._makers |= {id(tensor): node for tensor in node.outputs}
            for tensor in node.input_tensors:
                self._readers[id(tensor)].append(node)
        self._calls = collections.Counter() if calls is None else calls
        self._calls.update(id(node.operation) for node in self.nodes)
        self._results = {id(tensor) for tensor in functional.outputs}

    def reader(self, node):
        """The node that alone reads what this one gives; None if there are several, or the model
        answers it.

        None, too, if the layer of either node is called more than once: what it does is then not
        for one reader alone.
        """
        if len(node.outputs) != 1 or id(node.outputs[0]) in self._results:
            return None
        readers = self._readers[id(node.outputs[0])]
        once = (
            len(readers) == 1
            and self.calls(node.operation) == self.calls(readers[0].operation) == 1
        )
        return readers[0] if once else None

    def maker(self, tensor):
        """The node that gives a tensor."""
        return self._makers[id(tensor)]

    def calls(self, layer):
        """How often the layer is called, in all graphs of the model."""
        return self._calls[id(layer)]

    def call(self, layer):
        """The node of a layer that is called once, else None."""
        return (
            next(node for node in self.nodes if node.operation is layer)
            if self.calls(layer) == 1
            else None
        )


def is_plain(node):
    """Whether a layer is called with tensors alone, and not with `training=True` or a mask."""
    return all(
        value is None or value is False for value in keras.tree.flatten(node.arguments.kwargs)
    )


def over_channels(norm, tensor, data_format="channels_last"):
    """Whether a batch normalisation is one over the channels of such a tensor."""
    rank = len(tensor.shape)
    return norm.axis % rank == (1 if data_format == "channels_first" else rank - 1)


def with_config(layer, **changes):
    """A new layer of the same configuration, but for these entries.

    Raises:
        ValueError: for a layer whose `get_config` lacks what its constructor needs.
    """
    try:
        return type(layer).from_config(layer.get_config() | changes)
    except (NotImplementedError, TypeError) as error:
        raise ValueError(
            f"{layer.name!r} of {type(layer).__name__} cannot be copied: its `get_config` must give all that its "
            "constructor takes"
        ) from error


def set_weights(layer, values):
    """Gives a layer or model new weights, and its `Normalization`s what they compute from these
    when they are adapted.

    Without the second, such a layer goes on with the constants of its former weights.
    """
    layer.set_weights(values)
    for each in layer._flatten_layers():
        if isinstance(each, layers.Normalization):
            each.finalize_state()


def _weights(layer):
    """Those of a layer; operations of `keras.ops` have none."""
    return layer.get_weights() if isinstance(layer, keras.Layer) else []


def rebuilt(model, changed, gone=()):
    """A functional model of the same graph and weights with other layers, also in the models within
    it.

    A layer that several of these models call has one copy, which they call.

    Args:
        model: a functional, or a built sequential, model. It is left as it is.
        changed: layer -> (the new layer in its place, its weights).
        gone: layers that hand on their input.

    `preprocessing` goes over to the new model.

    Raises:
        ValueError: for a model of another kind, and a layer that cannot be copied.
    """
    weights, removed = {}, set()  # of the new layers

    @functools.cache
    def clone(layer):
        if isinstance(layer, keras.Model):
            return copied(layer)
        new, values = changed.get(layer) or (with_config(layer), _weights(layer))
        if layer in gone:
            removed.add(new)
        else:
            weights[new] = values
        return new

    def call(layer, *arguments, **keywords):
        return arguments[0] if layer in removed else layer(*arguments, **keywords)

    def copied(model) -> keras.Model:
        check_functional(model)
        copy = keras.models.clone_model(
            functional_of(model), clone_function=clone, call_function=call
        )
        if hasattr(model, "preprocessing"):
            copy.preprocessing = model.preprocessing
        return copy

    copy = copied(model)
    for layer, values in weights.items():
        if values:
            set_weights(layer, values)
    return copy
