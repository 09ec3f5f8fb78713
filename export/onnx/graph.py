"""An ONNX graph as it grows: nodes and constants, whose values have names."""

import collections
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from keras_senet.extras import require

from ..model import unused_name

NO_PADS = (0, 0, 0, 0)


class UnsupportedLayerError(Exception):
    """There is no emitter for a layer, or not for its options or its call."""


class Pointwise(NamedTuple):
    """A 1x1 convolution of stride 1: its input's name, kernel (O, I), and bias (O,) or None."""

    source: str
    kernel: np.ndarray
    bias: np.ndarray | None


class Value(NamedTuple):
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


class OnnxGraph:
    """Nodes and constants of an ONNX graph as it grows.

    gates      the gate's name and C for each SE block's name
    pointwise  a `Pointwise` for the name of each value that is the output of one
    """

    def __init__(self, opset: int, results=("predictions",)):
        self.onnx: Any = require("onnx", "export")
        self.opset = opset
        self.nodes, self.constants = [], {}
        self.gates, self.pointwise = {}, {}
        self._names = {"images", *results}  # those of the file; a layer of such a name gets another

    def add(self, operator: str, *inputs: str, name: str, **attributes) -> str:
        """The name of the output of a new node."""
        return self.add_outputs(1, operator, *inputs, name=name, **attributes)[0]

    def add_outputs(
        self, count: int, operator: str, *inputs: str, name: str, **attributes
    ) -> list[str]:
        """The names of the outputs of a new node that has several."""
        outputs = [self._reserve(name) for _ in range(count)]
        make = self.onnx.helper.make_node
        self.nodes.append(make(operator, list(inputs), outputs, name=outputs[0], **attributes))
        return outputs

    def constant(self, value, name: str, dtype="float32") -> str:
        """The name of an array."""
        name = self._reserve(name)
        self.constants[name] = np.asarray(value, dtype, order="C")
        return name

    def shared_constant(self, value: np.ndarray, name: str) -> str:
        """The same; once for a layer that is called several times."""
        known = self.constants.get(name)
        is_known = known is not None and np.array_equal(known, value)
        return name if is_known else self.constant(value, name)

    def compute(self, x: str, steps: Iterable[tuple[str, Any]], name: str) -> str:
        """The name of a value after steps in turn, each an operator of it and of a constant."""
        for operator, value in steps:
            constant = self.constant(value, f"{name}/{operator}")
            x = self.add(operator, x, constant, name=f"{name}/{operator.lower()}")
        return x

    def add_pads(self, x: Value) -> Value:
        """The same value with its zeros around it."""
        if x.pads == NO_PADS:
            return x
        top, left, bottom, right = x.pads
        amounts = [0, 0, top, left, 0, 0, bottom, right]
        return self.pad(x._replace(pads=NO_PADS), amounts, f"{x.name}/padded")

    def pad(self, x: Value, amounts, name: str) -> Value:
        """x with zeros at the starts, then the ends, of its four axes; its shape is the former."""
        pads = self.constant(amounts, f"{name}/amounts", "int64")
        return x._replace(name=self.add("Pad", x.name, pads, name=name))

    def set_result(self, found: str, name: str) -> None:
        """Makes a value the graph's output of this name."""
        self.nodes.append(self.onnx.helper.make_node("Identity", [found], [name], name=name))

    def add_gate_outputs(self) -> dict:
        """Adds the gates as outputs (N, C); their shapes by name."""
        shapes = {}
        for block, (gate, channels) in self.gates.items():
            pooled = self.add("GlobalAveragePool", gate, name=f"gates/{block}/mean")
            shapes[self.add("Flatten", pooled, axis=1, name=f"gates/{block}")] = ["batch", channels]
        return shapes

    def _reserve(self, name):
        found = unused_name(name, self._names)
        self._names.add(found)
        return found

    def _drop_identities(self, results):
        """Gives a result's name to the value that it is, where nothing else consumes it."""
        uses = collections.Counter(name for node in self.nodes for name in node.input)
        producers = {name: node for node in self.nodes for name in node.output}
        for node in list(self.nodes):
            if node.op_type != "Identity" or node.output[0] not in results:
                continue
            producer = producers.get(node.input[0])
            is_only_use = uses[node.input[0]] == 1
            if is_only_use and producer is not None and producer.op_type != "Identity":
                producer.output[0] = node.output[0]
                self.nodes.remove(node)

    def to_proto(self, name: str, inputs: dict, outputs: dict, integers=()) -> Any:
        """The ModelProto; `inputs` and `outputs` are shapes by name, `integers` the int32 names."""
        self._drop_identities(outputs)
        helper, kinds = self.onnx.helper, self.onnx.TensorProto

        def describe(name, shape):
            kind = kinds.INT32 if name in integers else kinds.FLOAT
            return helper.make_tensor_value_info(name, kind, shape)

        values = [[describe(*each) for each in ends.items()] for ends in (inputs, outputs)]
        from_array = self.onnx.numpy_helper.from_array
        constants = [from_array(value, name) for name, value in self.constants.items()]
        graph = helper.make_graph(self.nodes, name, *values, initializer=constants)
        opsets = [helper.make_opsetid("", self.opset)]
        version = helper.find_min_ir_version_for(opsets)
        return helper.make_model(graph, opset_imports=opsets, ir_version=version)


def name_sides(shape: tuple, layout: str, prefix: str = "") -> list:
    """A shape of Keras' in a layout, with names for the batch and for open sides."""
    if len(shape) != 4:
        return ["batch", *shape[1:]]
    height, width = (
        f"{prefix}{name}" if side is None else side
        for side, name in zip(shape[1:3], ("height", "width"), strict=True)
    )
    sides = (height, width, shape[3]) if layout == "nhwc" else (shape[3], height, width)
    return ["batch", *sides]
