"""Parameters and multiply-adds, counted on the built graph."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras

from keras_senet.graphs import Graph, check_functional, functional_of, is_functional, stage_of
from keras_senet.layers import SqueezeExcite


@dataclass(frozen=True)
class LayerComplexity:
    """One call of one layer; the fields are those of `Complexity`."""

    name: str
    output_shape: tuple
    parameters: int
    statistics: int
    multiply_adds: int
    rescaled: int


@dataclass(frozen=True)
class Complexity:
    """What a network costs, for one image.

    parameters     weights and biases of convolutions and dense layers, gamma and beta; trainable if
                   nothing is frozen
    statistics     moving means and variances of batch normalisation; the paper's tables 10 to 16
                   count them in. Also what a `Normalization` was adapted to
    multiply_adds  of convolutions and dense layers, SE blocks included; one multiply-add is the
                   paper's one FLOP
    rescaled       elements that SE blocks multiply by their gates: the paper's tables fit best with
                   one each
    layers         the same, one row per call of a layer, in the order of the graph
    """

    parameters: int
    statistics: int
    multiply_adds: int
    rescaled: int
    layers: tuple[LayerComplexity, ...]

    @property
    def parameters_with_statistics(self) -> int:
        return self.parameters + self.statistics

    @property
    def multiply_adds_with_rescaling(self) -> int:
        return self.multiply_adds + self.rescaled

    def stages(self) -> Iterator[LayerComplexity]:
        """A row per stage ("stem", "stage2", ...): name, last output shape and summed counts."""
        for stage, rows in itertools.groupby(self.layers, key=lambda row: stage_of(row.name)):
            rows = list(rows)
            yield LayerComplexity(stage, rows[-1].output_shape, *_sums(rows))


def complexity(model: keras.Model) -> Complexity:
    """Counts the parameters and multiply-adds of a functional Keras model.

    Raises:
        ValueError: if the model is not functional, its input has no fixed size, or it has layers
            other than convolutions and dense ones that multiply by a kernel (recurrent ones,
            attention).
    """
    check_functional(model)
    if any(None in tensor.shape[1:] for tensor in model.inputs):
        raise ValueError(
            "Multiply-adds depend on the image size: build the model with a fixed `input_shape`. "
            f"Received: input shapes {[tuple(tensor.shape) for tensor in model.inputs]}"
        )
    rows = tuple(_rows(model, model.inputs, set()))
    return Complexity(*_sums(rows), layers=rows)


COUNTS = ("parameters", "statistics", "multiply_adds", "rescaled")


def _sums(rows):
    return (sum(getattr(row, count) for row in rows) for count in COUNTS)


def _rows(model, inputs, counted):
    """A row per call; the parameters of a layer that is called twice, or shared, count once."""
    graph = Graph(functional_of(model))
    is_open = any(None in tensor.shape[1:] for tensor in model.inputs)
    called = graph.infer(inputs) if is_open else {}
    for node in graph.nodes:
        operation = node.operation
        if node.is_input:
            continue
        given, (output, *_) = (
            [called.get(id(tensor), tensor) for tensor in tensors]
            for tensors in (node.input_tensors, node.outputs)
        )
        if is_functional(operation):
            yield from _rows(operation, given, counted)
            continue
        weights = [] if operation in counted else getattr(operation, "weights", [])
        counted.add(operation)
        statistics = sum(_size(w) for w in weights if _is_statistic(operation, w))
        yield LayerComplexity(
            operation.name,
            tuple(output.shape[1:]),
            sum(_size(w) for w in weights) - statistics,
            statistics,
            _multiply_adds(operation, given[0].shape, output.shape),
            math.prod(output.shape[1:]) if isinstance(operation, SqueezeExcite) else 0,
        )


def _is_statistic(layer, weight):
    return weight.name.startswith("moving_") or isinstance(layer, keras.layers.Normalization)


def _multiply_adds(layer: Any, inputs: Any, outputs: Any) -> int:
    """One for each weight of a kernel at each place it is applied to."""
    kernel = keras.layers
    if isinstance(layer, SqueezeExcite):
        places = 1 if layer.squeeze is not None else _places(layer, outputs)
        return places * sum(_size(conv.kernel) for conv in (layer.reduce, layer.expand))
    if isinstance(layer, (kernel.SeparableConv1D, kernel.SeparableConv2D)):
        kernels = (layer.depthwise_kernel, layer.pointwise_kernel)
        return _places(layer, outputs) * sum(_size(k) for k in kernels)
    if isinstance(layer, (kernel.Conv1DTranspose, kernel.Conv2DTranspose, kernel.Conv3DTranspose)):
        return _places(layer, inputs) * _size(layer.kernel)
    if isinstance(
        layer,
        (
            kernel.Conv1D,
            kernel.Conv2D,
            kernel.Conv3D,
            kernel.DepthwiseConv1D,
            kernel.DepthwiseConv2D,
        ),
    ):
        return _places(layer, outputs) * _size(layer.kernel)
    if isinstance(layer, kernel.Dense):
        return math.prod(outputs[1:-1]) * _size(layer.kernel)
    if any("kernel" in weight.name for weight in getattr(layer, "weights", [])):
        raise ValueError(
            f"The multiply-adds of {type(layer).__name__} layers cannot be counted: {layer.name!r}"
        )
    return 0


def _places(layer, shape):
    return math.prod(shape[1:-1] if layer.data_format == "channels_last" else shape[2:])


def _size(weight: Any) -> int:
    return math.prod(weight.shape)
