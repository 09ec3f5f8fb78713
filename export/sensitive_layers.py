"""Which layers cost most when a network is computed in integers.

One layer at a time is rounded and the others stay in float, as in the sensitivity analysis of Wu et
al., "Integer quantization for deep learning inference: principles and empirical evaluation", arXiv
2004.09602, Section 5.1: run on the Keras model, so that it is for every format. Rounding is that of
TFLite and of ONNX Runtime: kernels by channel and symmetric, activations by tensor from the least
to the largest value that calibration saw, batch normalisation and ReLU within their convolution.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops

from keras_senet.fields import check_argument
from keras_senet.graphs import flat_layers, functional_of, graphs, replaced_attribute
from keras_senet.progress import track

from .conditioning import last_activation
from .folding import fold_if_possible
from .inputs import validate_images
from .model import check_exportable, in_float32, predict, prediction_function, with_plain_ends

if TYPE_CHECKING:
    from rich.console import Console

WEIGHT_BITS = 8
# Their outputs are some of the numbers that they take.
PASSING = (
    layers.ZeroPadding2D,
    layers.Cropping2D,
    layers.MaxPooling2D,
    layers.GlobalMaxPooling2D,
    layers.UpSampling2D,
    layers.Dropout,
    layers.Flatten,
    layers.Reshape,
    layers.Permute,
)
ACTIVATION_BITS = {"int8": 8, "int16x8": 16, "dynamic": None}  # None: only weights are rounded


class RankedLayer(NamedTuple):
    """What rounding one layer costs.

    name          of the layer
    error         the root mean square change of the outputs, before a last softmax or sigmoid, over
                  their standard deviation
    share         of the sum of the squared errors of all layers, 0..1: 1 over their number if none
                  stands out
    agreement     fraction of the images, 0..1, whose top-1 prediction stays
    float_layers  what `float_layers` must have for it: the layer, and those that take its output,
                  which is an integer otherwise
    """

    name: str
    error: float
    share: float
    agreement: float
    float_layers: tuple[str, ...]


class _Unit(NamedTuple):
    """A layer, the one whose output is rounded for it (its ReLU, or itself), and its consumers."""

    layer: keras.Operation
    last: keras.Operation
    consumers: tuple[str, ...]

    def tensors(self) -> list[Any]:
        """The layers whose outputs are tensors of this unit."""
        inner = flat_layers(self.layer) if isinstance(self.layer, keras.Layer) else []
        return [self.last, *(each for each in inner if each is not self.layer)]


def rank_layers(
    model: keras.Model,
    images: Any,
    *,
    quantization: str = "int8",
    representative_images: Any = None,
    preprocessing: Any = None,
    progress: "bool | Console" = False,
) -> list[RankedLayer]:
    """The layers by what each one alone costs in integers, the most sensitive first.

    Args:
        model: a functional Keras model with one input, for images.
        images: (N, H, W, C) to predict, as the exported model takes them; a few dozen do.
        quantization: "int8", "int16x8" (activations of 16 bits) or "dynamic" (only weights).
        representative_images: those that the activations' ranges are from; None takes `images`.
        preprocessing: the `Preprocessing` of the exported model, or None.
        progress: as `keras_senet.evaluate` has it.

    Raises:
        ValueError: for a wrong argument.
    """
    kinds = tuple(ACTIVATION_BITS)
    check_argument("quantization", quantization, quantization in kinds, f"one of {kinds}")
    check_exportable(model, preprocessing)
    model = with_plain_ends(in_float32(model))
    batches = validate_images("images", images, model)
    calibration = batches
    if representative_images is not None:
        calibration = validate_images("representative_images", representative_images, model)
    inner = _up_to_last_activation(fold_if_possible(model))
    units = list(_find_units(inner))
    bits = ACTIVATION_BITS[quantization]
    ranges = {} if bits is None else _find_ranges(inner, units, preprocessing, calibration)
    expected = _outputs(inner, preprocessing, batches)
    measured = []
    for unit in track(units, progress, "rounding one layer at a time"):
        with _rounded(unit, ranges, bits):
            measured.append(_compare(_outputs(inner, preprocessing, batches), expected))
    return _rank(units, measured, {layer.name for layer in flat_layers(model)})


def _up_to_last_activation(model):
    """The model without a softmax or sigmoid at its end, which hides errors or enlarges them."""
    functional = functional_of(model)
    ends = [last_activation(tensor)[1] for tensor in functional.outputs]
    outputs = [
        own if end is None else end for own, end in zip(functional.outputs, ends, strict=True)
    ]
    return keras.Model(functional.inputs[0], outputs)


def _find_units(model) -> Iterator[_Unit]:
    seen = set()
    for graph in graphs(model):
        for node in graph.nodes:
            layer = node.operation
            if node.is_input or layer in seen or isinstance(layer, (keras.Model, *PASSING)):
                continue
            after = graph.consumer(node)
            if after is not None and _is_relu(after.operation):
                node = after
            seen |= {layer, node.operation}
            yield _Unit(layer, node.operation, tuple(_find_consumers(graph, node)))


def _find_consumers(graph, node) -> Iterator[str]:
    """The names of the layers that take the numbers that a node outputs."""
    for consumer in graph.consumers(node):
        yield consumer.operation.name
        if isinstance(consumer.operation, PASSING):
            yield from _find_consumers(graph, consumer)


def _is_relu(layer):
    """Whether it is one that runtimes compute within the layer before it."""
    activation = getattr(layer, "activation", None)
    known = (keras.activations.relu, keras.activations.relu6)
    is_activation = isinstance(layer, layers.Activation) and activation in known
    return is_activation or isinstance(layer, layers.ReLU)


def _outputs(model, preprocessing, batches):
    compute = prediction_function(model, preprocessing, range(len(model.outputs)))
    found = [predict(compute, images) for images in batches]
    return [each[name].reshape(len(each[name]), -1) for each in found for name in each]


def _compare(found, expected):
    """(the largest error of an output, the least agreement)."""
    errors, agreements = [], []
    for values, reference in zip(found, expected, strict=True):
        change = np.sqrt(np.mean((values.astype("float64") - reference) ** 2))
        errors.append(float(change / max(np.std(reference, dtype="float64"), 1e-30)))
        agreements.append(float(np.mean(values.argmax(-1) == reference.argmax(-1))))
    return max(errors), min(agreements)


def _rank(units, measured, known):
    """The `RankedLayer` of each unit, the most sensitive first."""
    total = sum(error**2 for error, _ in measured) or 1.0
    found = [
        _describe(unit, error, error**2 / total, agreement, known)
        for unit, (error, agreement) in zip(units, measured, strict=True)
    ]
    return sorted(found, key=lambda each: -each.error)


def _describe(unit, error, share, agreement, known):
    """The `RankedLayer`, by the names of the model before it was cut."""
    names = (unit.layer.name, *unit.consumers)
    names = [name if name in known else name.removesuffix("_before") for name in names]
    return RankedLayer(names[0], error, share, agreement, tuple(dict.fromkeys(names)))


def _find_ranges(model, units, preprocessing, calibration):
    """layer -> (least, largest) of its outputs on the images, 0 within, as integers need it."""
    ranges = {layer: np.zeros(2) for unit in units for layer in unit.tensors()}

    def record(layer):
        def change(values):
            if _is_float(values):
                low, high = (float(f(values)) for f in (ops.min, ops.max))
                ranges[layer] = np.array([min(ranges[layer][0], low), max(ranges[layer][1], high)])
            return values

        return change

    with contextlib.ExitStack() as stack:
        for layer in ranges:
            stack.enter_context(_changed_output(layer, record(layer)))
        _outputs(model, preprocessing, calibration)
    return ranges


@contextlib.contextmanager
def _rounded(unit, ranges, bits):
    """The unit with kernels of 8 bits, and with activations of `bits` unless that is None."""
    with contextlib.ExitStack() as stack:
        for variable in getattr(unit.layer, "weights", ()):
            if len(variable.shape) > 1:
                stack.callback(variable.assign, ops.convert_to_numpy(variable.value).copy())
                variable.assign(_round_kernel(variable, unit.layer))
        for layer in unit.tensors() if bits is not None else ():
            round_to = _rounding(*ranges[layer], 2**bits - 1)
            stack.enter_context(_changed_output(layer, round_to))
        yield


def _round_kernel(variable, layer):
    """The kernel with 8 bits, symmetric about 0, a scale for each channel that it computes."""
    values = np.asarray(ops.convert_to_numpy(variable.value), "float32")
    by_place = isinstance(layer, layers.DepthwiseConv2D)  # (H, W, channels, multiplier)
    axes = tuple(range(values.ndim - (2 if by_place else 1)))
    scales = np.abs(values).max(axis=axes, keepdims=True) / (2 ** (WEIGHT_BITS - 1) - 1)
    scales = np.where(scales == 0, 1, scales)
    return np.round(values / scales) * scales


def _rounding(low, high, levels) -> Callable[[Any], Any]:
    """A function that rounds numbers to so many equal steps between two numbers."""
    scale = (high - low) / levels
    zero = 0.0 if scale == 0 else round(-low / scale)

    def rounded(values):
        if scale == 0 or not _is_float(values):
            return values
        steps = ops.clip(ops.round(values / scale) + zero, 0, levels)
        return (steps - zero) * scale

    return rounded


def _is_float(values):
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(values.dtype))


def _changed_output(layer, change):
    """A context within which the layer outputs what `change` makes of its output."""
    call = layer.call

    def changed(*inputs, **options):
        return keras.tree.map_structure(change, call(*inputs, **options))

    return replaced_attribute(layer, "call", changed)
