"""The networks of this package within models that users build on them.

A model of `base.input` and layers after `base.output` has the layers of `base`, and Keras keeps
nothing else of it. So each layer has the attribute `origin`, which says what it was built for.
"""

import logging
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_senet.graphs import Graph, functional_of, is_functional, operation_of
from keras_senet.layers.data_format import channel_axis, image_shape
from keras_senet.preprocessing import Preprocessing

logger = logging.getLogger("keras_senet")

PROBES = 8  # images of one colour each, that tell what a model computes before its base
OPEN_SIDE = 64  # pixels of these images, where the model leaves it open


@dataclass(frozen=True, eq=False)
class Origin:
    """What a network was built as.

    name           the network's
    spec           its architecture; None for a network of another package
    preprocessing  what makes its input of images
    layers         the names of its layers with weights, without the classifier's
    """

    name: str
    spec: Any
    preprocessing: Preprocessing
    layers: tuple[str, ...] = ()


class Base(NamedTuple):
    """A network within a model.

    origin  what it was built as
    models  the model, those within it on the way to the network, and the one whose graph has the
            network's layers
    """

    origin: Origin
    models: tuple[keras.Model, ...]

    @property
    def layers(self) -> list[keras.Layer]:
        """Those of the network that the model has."""
        return [each for each in self.models[-1].layers if _origin(each) is self.origin]

    @property
    def preprocessing(self) -> Preprocessing:
        """What makes its input of images: a layer's may have been changed since it was built."""
        _, *within = self.models
        if within and (hasattr(within[-1], "spec") or self.origin.spec is None):
            return getattr(within[-1], "preprocessing", self.origin.preprocessing)
        return self.origin.preprocessing

    @property
    def missing(self) -> list[str]:
        """The names of the network's layers that the model is built without."""
        there = {layer.name for layer in self.layers}
        return [name for name in self.origin.layers if name not in there]

    def places(self) -> list[tuple[keras.Model, keras.KerasTensor]]:
        """For each of `models` its functional form, and the tensor that it passes on: to the next
        one or, of the last, to the network's first layer.

        Raises:
            ValueError: if there is no such single tensor.
        """
        found = []
        for model, inner in zip(self.models, (*self.models[1:], None), strict=True):
            functional = functional_of(model)
            graph = Graph(functional)
            if inner is None:
                tensors = self._first_inputs(graph) or functional.inputs
            else:
                nodes = [node for node in graph.nodes if node.operation is inner]
                tensors = [tensor for node in nodes for tensor in node.input_tensors]
            if len(tensors) != 1 or len(functional.inputs) != 1:
                raise ValueError(
                    f"{self.models[0].name!r} must call {self.origin.name!r} once, on one tensor. "
                    f"Received: a model that calls it on {len(tensors)}"
                )
            found.append((functional, tensors[0]))
        return found

    def _first_inputs(self, graph):
        tensors = [
            tensor
            for node in graph.nodes
            if _origin(node.operation) is self.origin
            for tensor in node.input_tensors
            if _origin(operation_of(tensor)) is not self.origin
        ]
        return list({id(tensor): tensor for tensor in tensors}.values())


def _origin(layer) -> Origin | None:
    return getattr(layer, "origin", None)


def mark(model: keras.Model, spec: Any, preprocessing: Preprocessing, layers: Any = None) -> None:
    """Makes a model, or some of its layers, known as a network of this architecture."""
    layers = model.layers if layers is None else layers
    own = [layer for layer in layers if not isinstance(layer, keras.layers.InputLayer)]
    weighted = (layer.name for layer in own if layer.weights)
    names = tuple(name for name in weighted if name not in spec.head_layers)
    origin = Origin(model.name, spec, preprocessing, names)
    for layer in own:
        layer.origin = origin


def mark_copy(copy: keras.Model, base: Base, spec: Any) -> None:
    """The same for a copy of a model, whose layers have the names that those of the model have."""
    for model in base.models[1:]:
        copy = copy.get_layer(model.name)
    names = {layer.name for layer in base.layers}
    layers = [layer for layer in copy.layers if layer.name in names]
    mark(copy, spec, base.preprocessing, layers)
    if hasattr(base.models[-1], "spec"):
        copy.spec = spec


def find_bases(model: keras.Model) -> list[Base]:
    """Each network of this package within a functional model, each model with `preprocessing`."""
    if not is_functional(model):
        return []
    origins = {id(_origin(layer)): _origin(layer) for layer in model.layers if _origin(layer)}
    found = [Base(origin, (model,)) for origin in origins.values()]
    for layer in dict.fromkeys(model.layers):
        if isinstance(layer, keras.Model):
            inner = find_bases(layer) or _foreign_base(layer)
            found += [Base(each.origin, (model, *each.models)) for each in inner]
    return found


def _foreign_base(model):
    preprocessing = getattr(model, "preprocessing", None)
    if not (is_functional(model) and isinstance(preprocessing, Preprocessing)):
        return []
    return [Base(Origin(model.name, None, preprocessing), (model,))]


def require_base(model: keras.Model, use: str) -> Base:
    """The only network of this package within a model.

    Raises:
        ValueError: if there is none, several, or a part of one; `use` says what else to do.
    """
    found = [base for base in find_bases(model) if base.origin.spec is not None]
    if not found:
        raise ValueError(
            "`model` must come from a constructor of keras_senet, or be a functional model that "
            f"contains such a network. Received: {getattr(model, 'name', model)!r}. {use}"
        )
    if len(found) > 1:
        names = ", ".join(repr(base.origin.name) for base in found)
        raise ValueError(
            f"`model` must contain one network of keras_senet. Received: {model.name!r} with "
            f"{names}. {use}"
        )
    (base,) = found
    if base.missing:
        raise ValueError(
            f"`model` must contain the whole of {base.origin.name!r}. Received: {model.name!r} "
            f"without {base.missing[0]!r}. {use}"
        )
    return base


def preprocessing_of(model: keras.Model, *, log: bool = True) -> Preprocessing | None:
    """What makes a model's input of images: its attribute `preprocessing`, or else what follows
    from the network that it contains; None where nothing tells.

    Where the model does nothing to images before that network, it is the network's own. Where it
    does, as by a `Rescaling`, images are taken to be 0..255 RGB as they are, and the log says so
    unless that is what the network was made for; what was found then becomes the model's attribute.
    Without `log` neither is done.
    """
    own = getattr(model, "preprocessing", None)
    if isinstance(own, Preprocessing):
        return own
    found = find_bases(model)
    if len(found) != 1 or len(model.inputs) != 1:
        return None
    (base,) = found
    try:
        before = _affine_before(base)
    except ValueError:
        return None
    found, assumed = _taken_by(model, base, before)
    if log:
        network: Any = model
        network.preprocessing = found
        if assumed:
            logger.warning(
                "%s: its images are taken to be 0..255 RGB, as it computes %s before %s; set its "
                "attribute `preprocessing` if they are not",
                model.name,
                _describe(before),
                base.origin.name,
            )
    return found


def _taken_by(model, base, before):
    """The model's preprocessing, after whose `before` the base comes, and whether it is assumed."""
    own = _fit_to(model, base)
    channels = len(own.mean)
    if before is not None and _is_same(before, (np.ones(channels), np.zeros(channels))):
        return own, False
    mean, std = np.array(own.mean), np.array(own.std)
    is_own = before is not None and _is_same(before, (1 / std, -mean / std))
    channels = image_shape(model.inputs[0])[-1]
    return replace(own, mean=(0.0,) * channels, std=(1.0,) * channels), not is_own


def _describe(before):
    if before is None:
        return "something of them"
    factor, offset = (np.unique(values.round(6)).tolist() for values in before)
    return f"x * {_one_or_all(factor)} + {_one_or_all(offset)}"


def _one_or_all(values):
    return values[0] if len(values) == 1 else values


def _fit_to(model, base):
    """The base's preprocessing, with the size of the model's own input where that is another."""
    shape = image_shape(model.inputs[0])
    is_equal = shape == image_shape(base.models[-1].inputs[0])
    return base.preprocessing if is_equal else base.preprocessing.for_sides(*shape[:2])


def base_preprocessing(model: keras.Model, base: Base) -> Preprocessing:
    """What makes the base's input of images: that of the model, and what the model computes of it.

    The base's own where that is no factor and offset for each channel.
    """
    outer, before = preprocessing_of(model, log=False), _affine_before(base)
    own = base.preprocessing
    if outer is None or before is None or len(outer.mean) != len(own.mean):
        return own
    factor, offset = before
    if _is_same(before, (np.ones(len(factor)), np.zeros(len(factor)))):
        return outer
    if not (factor > 0).all():
        return own
    mean = np.array(outer.mean) - np.array(outer.std) * offset / factor
    std = np.array(outer.std) / factor
    if _is_same((mean, std), (np.array(own.mean), np.array(own.std))):
        return replace(outer, mean=own.mean, std=own.std)
    return replace(outer, mean=tuple(mean.tolist()), std=tuple(std.tolist()))


def _is_same(pair, other):
    """Whether two pairs of arrays are equal, but for what float32 rounds."""
    return all(np.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(pair, other, strict=True))


def _affine_before(base) -> tuple[np.ndarray, np.ndarray] | None:
    """(factor, offset), float64 (C,): what the base is given of images of one colour; or None."""
    places = base.places()
    channels = len(base.preprocessing.mean)
    changed = [(model, tensor) for model, tensor in places if tensor is not model.inputs[0]]
    if not changed:
        return np.ones(channels), np.zeros(channels)
    outer = places[0][0].inputs[0]
    axis = channel_axis()
    if len(outer.shape) != 4 or outer.shape[axis] != channels:
        return None
    colours = np.random.default_rng(0).integers(0, 256, (PROBES, channels)).astype("float32")
    shape = [side or OPEN_SIDE for side in outer.shape[1:]]
    colour = np.moveaxis(colours[:, None, None, :], -1, axis)
    images: Any = np.broadcast_to(colour, (PROBES, *shape))
    for model, tensor in changed:
        images = keras.Model(model.inputs[0], tensor)(images, training=False)
    found = np.asarray(ops.convert_to_numpy(images), "float64")
    if found.ndim != 4 or found.shape[axis] != channels:
        return None
    found = np.moveaxis(found, axis, -1)
    middle = found[:, found.shape[1] // 2, found.shape[2] // 2]
    return _fit_affine(colours.astype("float64"), middle)


def _fit_affine(x, y):
    """The factor and offset (C,) of y (N, C) as a function of x (N, C), or None."""
    centred = x - x.mean(axis=0)
    factor = (centred * y).sum(axis=0) / (centred**2).sum(axis=0)
    offset = y.mean(axis=0) - factor * x.mean(axis=0)
    error = np.abs(factor * x + offset - y).max()
    return (factor, offset) if error <= 1e-4 * max(1e-3, np.abs(y).max()) else None
