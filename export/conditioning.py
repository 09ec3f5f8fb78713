"""How far rounding moves a network's outputs: what tells a file that rounds differently from one
that is wrong.

A softmax of logits of several hundred makes another probability of another rounding, and hides a
wrong weight where it is 1 for one class. So files are compared before such an activation too, and
the Keras model is run again with its weights and images changed in the last bit: no file can be
asked for more than the model itself holds.
"""

import copy
import math
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops

from keras_senet.copying import with_config
from keras_senet.graphs import functional_of, has_plain_kernel, inputs_of, operation_of

from .inputs import to_layout
from .model import output_names, predict, takes_integers
from .reading import softmax

DRAWS = 2  # of the changes; the worst counts
# Relative: a file further off cannot be told from a wrong one, whatever the network.
MOST_ACCEPTED = 0.1


class Precision(NamedTuple):
    """What a file that computes in this precision may differ by, relative to the largest output.

    tolerance  accepted of every network
    unit       the last bit, relative to the number
    factor     of how far the last bit moves the model's own output, accepted beyond `tolerance`. In
               float32 a runtime adds up thousands of products in an order of its own; in float16
               the rounding of each weight prevails.
    """

    tolerance: float
    unit: float = 0.0
    factor: float = 0.0

    @property
    def is_bounded(self) -> bool:
        return self.tolerance < math.inf

    def explained(self, sensitivity: float) -> float:
        """How far rounding may move a file of a network with this sensitivity."""
        return min(self.factor * sensitivity, MOST_ACCEPTED)

    def accepted(self, sensitivity: float) -> float:
        """What a file of such a network may differ by."""
        return max(self.tolerance, self.explained(sensitivity))


FLOAT32 = Precision(1e-4, unit=2.0**-23, factor=16)
FLOAT16 = Precision(1e-2, unit=2.0**-11, factor=4)
INTEGERS = Precision(math.inf)  # without a bound of its own


def _sigmoid(values):
    return np.exp(-np.logaddexp(0, -values))


ACTIVATIONS = {keras.activations.softmax: softmax, keras.activations.sigmoid: _sigmoid}


class Reference:
    """What a Keras model outputs for batches of images, and how far rounding moves that.

    As `NAME (before)` it also has what a last softmax or sigmoid is computed from.

    names        of the model's outputs
    activations  NAME -> its last softmax or sigmoid in NumPy, float64
    outputs      NAME -> an array per batch
    moved        NAME -> the sensitivity: the largest relative change when weights and images change
                 by up to the last bit of the precision; empty for a precision without a bound
    """

    def __init__(self, model: keras.Model, preprocessing, batches, precision: Precision):
        functional = functional_of(model)
        self.precision, self.preprocessing = precision, preprocessing
        self.names, self.activations = output_names(model), {}
        tensors = dict(zip(self.names, functional.outputs, strict=True))
        for name in self.names:
            activation, before = last_activation(tensors[name])
            if activation in ACTIVATIONS:
                self.activations[name] = ACTIVATIONS[activation]
                tensors[f"{name} (before)"] = before
        self._tensors = list(tensors)
        self._model = keras.Model(functional.inputs[0], list(tensors.values()))
        self.outputs = self._compute(batches)
        self.moved = self._sensitivities(batches) if precision.is_bounded else {}

    @property
    def is_cut(self) -> bool:
        """Whether a file is compared before its last activation, too."""
        return self.precision.is_bounded and bool(self.activations)

    @property
    def sensitivity(self) -> float | None:
        """The largest of an output of the model; None for a precision without a bound."""
        return max(self.moved[name] for name in self.names) if self.moved else None

    def accepted(self, name: str) -> float:
        """What an output of a file may differ by."""
        return self.precision.accepted(self.moved.get(name, 0.0))

    def to_layout(self, layout: str) -> "Reference":
        """The same with outputs in a file's layout."""
        found = copy.copy(self)
        found.outputs = {
            name: [to_layout(each, layout) for each in arrays]
            for name, arrays in self.outputs.items()
        }
        return found

    def _compute(self, batches, change=lambda values: values):
        """Arrays of each batch by name, of the model with its weights and images changed."""
        trainable, others = (
            [ops.convert_to_tensor(_change(variable, change)) for variable in variables]
            for variables in (self._model.trainable_variables, self._model.non_trainable_variables)
        )

        def compute(images):
            outputs = self._model.stateless_call(trainable, others, images, training=False)[0]
            return dict(zip(self._tensors, keras.tree.flatten(outputs), strict=True))

        found = []
        for batch in batches:
            images = batch if self.preprocessing is None else self.preprocessing.normalize(batch)
            images = np.asarray(ops.convert_to_numpy(images))
            if not takes_integers(self._model):  # to which what is a little less is one less
                images = change(images)
            found.append(predict(compute, images))
        return {name: [each[name] for each in found] for name in self._tensors}

    def _sensitivities(self, batches):
        found = dict.fromkeys(self._tensors, 0.0)
        for seed in range(DRAWS):
            moved = self._compute(batches, draw_changes(seed, self.precision.unit))
            for name, arrays in moved.items():
                pairs = zip(arrays, self.outputs[name], strict=True)
                found[name] = max(found[name], *(_relative_difference(a, b) for a, b in pairs))
        return found


def draw_changes(seed: int, unit: float) -> Any:
    """A function that changes each number by up to `unit` of it."""
    random = np.random.default_rng(seed)
    return lambda values: (values * (1 + unit * random.uniform(-1, 1, values.shape))).astype(
        values.dtype
    )


def _change(variable, change):
    values = np.asarray(ops.convert_to_numpy(variable.value))
    return change(values) if values.dtype.kind == "f" else values


def _relative_difference(values, reference):
    """The largest |values - reference| over the largest |reference|."""
    difference = np.abs(values.astype("float64") - reference).max()
    return float(difference / max(np.abs(reference).max(), np.finfo("float32").tiny))


def last_activation(tensor: keras.KerasTensor) -> tuple[Any, Any]:
    """(the activation that outputs a tensor (N, C), what it takes); (None, None) if unknown."""
    layer: Any = operation_of(tensor)
    known = (layers.Dense, layers.Activation, layers.Softmax)
    if len(tensor.shape) != 2 or type(layer) not in known or not has_plain_kernel(layer):
        return None, None
    (given,) = inputs_of(tensor)
    if isinstance(layer, layers.Softmax):
        return (keras.activations.softmax if layer.axis == -1 else None), given
    if isinstance(layer, layers.Activation):
        return layer.activation, given
    linear = with_config(layer, activation="linear", name=f"{layer.name}_before")
    before = linear(given)
    linear.set_weights(layer.get_weights())
    return layer.activation, before
