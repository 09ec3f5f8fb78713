"""The graph of a functional model: who reads what, and the same graph with other layers in it."""

import collections

import keras
from keras import layers

from keras_senet.layers import BatchNormalization, GroupedConv2D

CONVOLUTIONS = (layers.Conv2D, GroupedConv2D)
NORMALIZATIONS = (layers.BatchNormalization, BatchNormalization)


def check_functional(model):
    """Raises ValueError unless the model is a graph of layers."""
    if not isinstance(model, keras.Model) or not hasattr(getattr(model, "_functional", model), "operations"):
        raise ValueError(
            f"`model` must be a functional, or a built sequential, Keras model. Received: model={model!r} "
            f"of {type(model)}"
        )


def functional_of(model):
    """The model itself, or a sequential one as a functional model of the same layers."""
    is_sequential = isinstance(model, keras.Sequential)
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name) if is_sequential else model


def graphs(model):
    """The `Graph` of a model, and those of the models within it.

    Raises:
        ValueError: if one of them is neither functional nor a built sequential model.
    """
    check_functional(model)
    graph = Graph(functional_of(model))
    yield graph
    for layer in graph.layers:
        if isinstance(layer, keras.Model):
            yield from graphs(layer)


class Graph:
    """The calls of a functional model's layers. A node is one call of one layer, its `operation`."""

    def __init__(self, functional):
        depths = functional._nodes_by_depth
        self.layers = functional.layers
        self.nodes = [node for depth in sorted(depths, reverse=True) for node in depths[depth]]
        self._readers, self._makers = collections.defaultdict(list), {}
        for node in self.nodes:
            self._makers |= {id(tensor): node for tensor in node.outputs}
            for tensor in node.input_tensors:
                self._readers[id(tensor)].append(node)
        self._calls = collections.Counter(id(node.operation) for node in self.nodes)
        self._results = {id(tensor) for tensor in functional.outputs}

    def reader(self, node):
        """The node that alone reads what this one gives; None if there are several, or the model answers it.

        None, too, if the layer of either node is called more than once: what it does is then not for one reader alone.
        """
        if len(node.outputs) != 1 or id(node.outputs[0]) in self._results:
            return None
        readers = self._readers[id(node.outputs[0])]
        once = len(readers) == 1 and self.calls(node.operation) == self.calls(readers[0].operation) == 1
        return readers[0] if once else None

    def maker(self, tensor):
        """The node that gives a tensor."""
        return self._makers[id(tensor)]

    def calls(self, layer):
        """How often the layer is called."""
        return self._calls[id(layer)]

    def call(self, layer):
        """The node of a layer that is called once, else None."""
        return next(node for node in self.nodes if node.operation is layer) if self.calls(layer) == 1 else None


def over_channels(norm, tensor, data_format="channels_last"):
    """Whether a batch normalisation is one over the channels of such a tensor."""
    rank = len(tensor.shape)
    return norm.axis % rank == (1 if data_format == "channels_first" else rank - 1)


def with_config(layer, **changes):
    """A new layer of the same configuration, but for these entries."""
    return type(layer).from_config(layer.get_config() | changes)


def _weights(layer):
    """Those of a layer; operations of `keras.ops` have none."""
    return layer.get_weights() if isinstance(layer, keras.Layer) else []


def rebuilt(model, changed, gone=()):
    """A functional model of the same graph and weights with other layers, also in the models within it.

    Args:
        model: a functional, or a built sequential, model. It is left as it is.
        changed: layer -> (the new layer in its place, its weights).
        gone: layers that hand on their input.

    `preprocessing` goes over to the new model.

    Raises:
        ValueError: for a model of another kind.
    """
    check_functional(model)
    functional = functional_of(model)
    removed = {layer.name for layer in functional.layers if layer in gone}
    weights = {}

    def clone(layer):
        if isinstance(layer, keras.Model):
            return rebuilt(layer, changed, gone)
        new, values = changed.get(layer) or (with_config(layer), _weights(layer))
        weights[new.name] = values
        return new

    def call(layer, *arguments, **keywords):
        return arguments[0] if layer.name in removed else layer(*arguments, **keywords)

    copy = keras.models.clone_model(functional, clone_function=clone, call_function=call)
    for layer in copy.layers:
        if weights.get(layer.name):
            layer.set_weights(weights[layer.name])
    if hasattr(model, "preprocessing"):
        copy.preprocessing = model.preprocessing
    return copy
