"""The graph of a functional model: what consumes what, and the same graph with other layers in it.

Keras' private attributes are read and set in this module only.
"""

import collections
import contextlib
import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import keras
from keras import layers
from keras.src.backend.common import global_state

from keras_senet.layers import BatchNormalization, GroupedConv2D

CONVOLUTIONS = (layers.Conv2D, GroupedConv2D)
NORMALIZATIONS = (layers.BatchNormalization, BatchNormalization)
# One call of an operation, with its `operation`, `input_tensors`, `outputs` and `arguments`: Keras
# has no public name for the class.
Node: TypeAlias = Any


def flat_layers(layer: keras.Layer) -> list[keras.Layer]:
    """A model or layer and all layers within it, those of nested models too."""
    return list(layer._flatten_layers())


def operation_of(tensor: Any) -> Any:
    """The layer or operation whose output a symbolic tensor is."""
    return tensor._keras_history.operation


def final_activation(model: keras.Model) -> tuple[Any, str | None]:
    """The layer or operation whose output is the model's first, in a nested model if that is last;
    and "softmax", "sigmoid" or "linear" for what it ends in, None for anything else.
    """
    operation = model
    while isinstance(operation, keras.Model):
        operation = operation_of(operation.outputs[0])
    kind = type(operation).__name__.lower()
    if kind in ("softmax", "sigmoid"):  # the layer, or the operation of keras.ops
        return operation, kind
    known = (keras.activations.softmax, keras.activations.sigmoid, keras.activations.linear)
    activation = getattr(operation, "activation", None)
    return operation, next((each.__name__ for each in known if each is activation), None)


def has_logits(model: keras.Model) -> bool:
    """Whether a classifier outputs what a softmax takes."""
    return len(model.outputs[0].shape) == 2 and final_activation(model)[1] == "linear"


@contextlib.contextmanager
def replaced_attribute(operation: Any, name: str, value: Any) -> Iterator[None]:
    """Within, the operation has another attribute, such as `call`, without being tracked for it."""
    own = vars(operation)
    before = {name: own[name]} if name in own else {}
    own[name] = value
    try:
        yield
    finally:
        del own[name]
        own.update(before)


@contextlib.contextmanager
def leaving_uninitialized() -> Iterator[list[keras.Variable]]:
    """Variables that are created in the block without a value never get one; they are listed when
    it ends. Keras keeps a list of them, and gives each its value after some later computation.
    """
    waiting = functools.partial(global_state.get_global_attribute, "uninitialized_variables")
    before, created = len(waiting() or ()), []
    try:
        yield created
    finally:
        created += (waiting() or [])[before:]
        del (waiting() or [])[before:]


def inputs_of(tensor: Any) -> list[keras.KerasTensor]:
    """The symbolic tensors that a symbolic tensor is computed from, by `operation_of(tensor)`."""
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index].input_tensors


def keep_gradients_local(optimizer: keras.Optimizer) -> None:
    """Makes a Keras optimizer apply gradients as they are: the caller has summed the replicas'.

    Keras would sum them in `apply`, after clipping and decay.
    """
    inner: Any = getattr(optimizer, "inner_optimizer", optimizer)
    inner._all_reduce_sum_gradients = lambda pairs: pairs


def update_by(optimizer: keras.Optimizer, each: Callable) -> None:
    """Makes a Keras optimizer update its variables by `each(update, gradients, variables)`, which
    calls `update(gradient, variable)` for each of them.
    """
    inner: Any = getattr(optimizer, "inner_optimizer", optimizer)
    update = inner._backend_update_step

    def update_each(gradients, variables, rate):
        each(lambda gradient, v: update([gradient], [v], rate), gradients, variables)

    inner._backend_update_step = update_each


def stage_of(name: str) -> str:
    """The stage of a layer, by its name: "stage2" for "stage2_block1_se", "stem" for "stem_conv1".

    The name may have those of models before it: "outer/stage2_block1_se".
    """
    return name.rpartition("/")[-1].split("_")[0]


def stage_number(name: str) -> int | None:
    """The number of the stage of a layer, by its name; None where the name has none."""
    found = re.fullmatch(r"stage(\d+)", stage_of(name))
    return int(found[1]) if found else None


def stages_of(model: Any) -> dict[keras.Layer, int | None]:
    """The stage of each layer with weights of a network with `spec`; None of its head's.

    The stem is 1, or 0 where there is a stage 1. Layers after the last stage, such as a final batch
    normalisation, belong to it.
    """
    named = {layer: stage_number(layer.name) for layer in model.layers if layer.weights}
    numbers = {number for number in named.values() if number is not None}
    stem, last = 0 if 1 in numbers else 1, max(numbers)
    found = {}
    for layer, number in named.items():
        if number is None:
            number = stem if stage_of(layer.name) == "stem" else last
        found[layer] = None if layer.name in model.spec.head_layers else number
    return found


def scale_rates(optimizer: keras.Optimizer, factors: Mapping[str, float]) -> None:
    """Makes a Keras optimizer multiply its learning rate, and with it a decoupled decay, by a
    factor for each variable, by the variables' paths.
    """
    if set(factors.values()) <= {1.0}:
        return
    inner: Any = getattr(optimizer, "inner_optimizer", optimizer)
    update, decay = inner._backend_update_step, inner._apply_weight_decay
    weight_decay = inner.weight_decay

    def by_factor(variables):
        groups = collections.defaultdict(list)
        for i, variable in enumerate(variables):
            groups[factors[variable.path]].append(i)
        return groups.items()

    def scaled_update(gradients, variables, rate):
        for factor, places in by_factor(variables):
            chosen = ([values[i] for i in places] for values in (gradients, variables))
            update(*chosen, rate * factor)

    def scaled_decay(variables):
        if weight_decay is None:
            return
        for factor, places in by_factor(variables):
            inner.weight_decay = weight_decay * factor  # which Keras reads while this is traced
            decay([variables[i] for i in places])
        inner.weight_decay = weight_decay

    inner._backend_update_step, inner._apply_weight_decay = scaled_update, scaled_decay


def is_functional(model: object) -> bool:
    """Whether this is a model, and a graph of layers."""
    return isinstance(model, keras.Model) and hasattr(
        getattr(model, "_functional", model), "operations"
    )


def check_functional(model: object) -> None:
    """Raises ValueError unless the model is a graph of layers."""
    if not is_functional(model):
        raise ValueError(
            "`model` must be a functional, or a built sequential, Keras model. "
            f"Received: model={model!r} of {type(model)}"
        )


def functional_of(model: keras.Model) -> keras.Model:
    """The model itself, or a sequential one as a functional model of the same layers."""
    if not isinstance(model, keras.Sequential):
        return model
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


def graphs(model: keras.Model) -> "list[Graph]":
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

    layers  those of the model
    nodes   in the order of computation: each after those that it consumes
    """

    def __init__(self, functional: keras.Model, calls: collections.Counter | None = None):
        depths: Any = functional._nodes_by_depth
        self.layers: list[keras.Layer] = functional.layers
        self.nodes: list[Node] = [node for d in sorted(depths, reverse=True) for node in depths[d]]
        self._consumers, self._producers = collections.defaultdict(list), {}
        for node in self.nodes:
            self._producers |= {id(tensor): node for tensor in node.outputs}
            for tensor in node.input_tensors:
                self._consumers[id(tensor)].append(node)
        self._calls = collections.Counter() if calls is None else calls
        self._calls.update(id(node.operation) for node in self.nodes)
        self._inputs = functional.inputs
        self._results = {id(tensor) for tensor in functional.outputs}

    def named(self) -> Iterator[tuple[str, Node]]:
        """Each call of a layer with its name; the second one of "conv" is "conv:2"."""
        calls = collections.Counter()
        for node in self.nodes:
            if not node.is_input:
                name = node.operation.name
                calls[name] += 1
                yield name if calls[name] == 1 else f"{name}:{calls[name]}", node

    def consumer(self, node: Node) -> Node | None:
        """The only node that consumes the output of this one; None if there are several, or it is
        an output of the model.

        None, too, if the layer of either node is called more than once: what it computes is then
        not for one consumer only.
        """
        if len(node.outputs) != 1 or id(node.outputs[0]) in self._results:
            return None
        consumers = self._consumers[id(node.outputs[0])]
        once = (
            len(consumers) == 1
            and self.calls(node.operation) == self.calls(consumers[0].operation) == 1
        )
        return consumers[0] if once else None

    def consumers(self, node: Node) -> list[Node]:
        """The nodes that consume an output of this one."""
        return [each for tensor in node.outputs for each in self._consumers[id(tensor)]]

    def producer(self, tensor: keras.KerasTensor) -> Node:
        """The node that outputs a tensor."""
        return self._producers[id(tensor)]

    def infer(self, inputs: Sequence[keras.KerasTensor]) -> dict[int, keras.KerasTensor]:
        """What each tensor is, by its `id`, where the model's inputs are these: of a model for
        images of any size that is called on those of one size.
        """
        found = dict(zip(map(id, self._inputs), inputs, strict=True))
        for node in self.nodes:
            if not node.is_input:
                arguments, keywords = node.arguments.fill_in(found)
                outputs = node.operation.compute_output_spec(*arguments, **keywords)
                found |= zip(map(id, node.outputs), keras.tree.flatten(outputs), strict=True)
        return found

    def calls(self, layer: keras.Operation) -> int:
        """How often the layer is called, in all graphs of the model."""
        return self._calls[id(layer)]

    def call(self, layer: keras.Operation) -> Node | None:
        """The node of a layer that is called once, else None."""
        if self.calls(layer) != 1:
            return None
        return next(node for node in self.nodes if node.operation is layer)


def has_plain_kernel(layer: Any) -> bool:
    """Whether a layer computes with its `kernel` alone: no LoRA, and not quantised by Keras."""
    is_quantized = getattr(layer, "quantization_mode", None) is not None
    return not is_quantized and not getattr(layer, "lora_enabled", False)


def is_plain(node: Node) -> bool:
    """Whether a layer is called with tensors only, and not with `training=True` or a mask."""
    return all(
        value is None or value is False for value in keras.tree.flatten(node.arguments.kwargs)
    )


def over_channels(
    norm: keras.Layer, tensor: keras.KerasTensor, data_format: str = "channels_last"
) -> bool:
    """Whether a batch normalisation is one over the channels of such a tensor."""
    rank = len(tensor.shape)
    return norm.axis % rank == (1 if data_format == "channels_first" else rank - 1)
