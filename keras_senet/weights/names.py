"""The names and layouts of weights in files of others, turned into this package's.

A weight's name here is its layer's and its own: "stage3_block2_conv1/kernel",
"stage3_block2_se_reduce/bias". What other files call a layer is known to the family of networks,
which gives it as a `Naming`.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np

from keras_senet.layers import SqueezeExcite
from keras_senet.weights.readers import DamagedFileError, Entry, UnsupportedFileError

Entries: TypeAlias = dict[str, Entry]

STATISTICS = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
LAYER = {"weight": "kernel", "bias": "bias"}
SE_LAYERS = ("_se_reduce", "_se_expand")
HEAD = "head"  # what names of weights begin with that users' layers have


class Naming(NamedTuple):
    """How files of one origin name the layers of a network.

    layers  rows of (a layer's name in the file, as a regular expression; its name here)
    blocks  pattern and replacement of `re.sub`, used before these: "layer1.0" -> "stage2_block1"
    marks   what names in such a file begin with, and none of another origin does
    """

    layers: tuple[tuple[str, str], ...]
    blocks: tuple[str, str | Callable[[re.Match[str]], str]]
    marks: tuple[str, ...] = ()

    def translate(self, layer: str) -> str | None:
        """The name here of a layer of the file, or None."""
        layer = re.sub(*self.blocks, layer)
        for pattern, name in self.layers:
            if match := re.fullmatch(pattern, layer):
                return match.expand(name)
        return None

    def is_marked(self, names: Iterable[str]) -> bool:
        """Whether a file with these names is of this origin."""
        return bool(self.marks) and all(
            any(name.startswith(mark) for name in names) for mark in self.marks
        )


def own_name(variable: keras.Variable) -> str:
    """The name of a variable of a model here."""
    return "/".join(variable.path.split("/")[-2:])


def compare(variables: Mapping[str, keras.Variable], entries: Entries) -> dict[str, list[str]]:
    """The names missing in a file, left over, and of another shape, by these words."""
    return {
        "missing": [name for name in variables if name not in entries],
        "left over": [name for name in entries if name not in variables],
        "of another shape": [
            name
            for name, variable in variables.items()
            if name in entries and entries[name].shape != tuple(variable.shape)
        ],
    }


def describe_shapes(
    found: Iterable[str], variables: Mapping[str, keras.Variable], entries: Entries
) -> list[str]:
    """The names with the shapes in the file and in the network."""
    return [
        f"{name} {entries[name].shape} instead of {tuple(variables[name].shape)}" for name in found
    ]


def from_torch(entries: Entries, naming: Naming) -> Entries:
    """PyTorch's entries by the names here, in Keras' layout; unknown ones keep their names."""
    return _unique(
        _torch_entry(name, entry, naming)
        for name, entry in entries.items()
        # since PyTorch 0.4.1; Keras has no such number
        if not name.endswith(".num_batches_tracked")
    )


def _torch_entry(name, entry, naming):
    layer, _, variable = name.rpartition(".")
    layer = naming.translate(layer)
    variables = STATISTICS if layer and layer.endswith("_bn") else LAYER
    if layer is None or variable not in variables:
        return name, entry
    # A Linear in place of a 1x1 convolution
    if layer.endswith(SE_LAYERS) and len(entry.shape) == 2:
        entry = entry.reshape((*entry.shape, 1, 1))
    return f"{layer}/{variables[variable]}", keras_layout(entry)


def lacks_se_biases(names: Iterable[str]) -> bool:
    """Whether there are SE blocks among weights, by their names here, and none with a bias."""
    kinds = {
        kind
        for layer, _, kind in (name.rpartition("/") for name in names)
        if layer.endswith(SE_LAYERS)
    }
    return bool(kinds) and "bias" not in kinds


def keras_layout(entry: Entry) -> Entry:
    """(out, in, H, W) -> (H, W, in, out); (out, in) -> (in, out); anything else as it is."""
    axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(len(entry.shape))
    return entry.transpose(axes) if axes else entry


def from_caffe(entries: Entries, naming: Naming, stem: str, order: Any) -> Entries:
    """The authors' entries by the names here, for RGB and with the classes in the standard order.

    Args:
        entries: the blobs of layers, "conv1/7x7_s2:0".
        naming: of the network's layers.
        stem: the first convolution, by its name here.
        order: (classes,), for each class of the standard order its place in the authors'.
    """
    entries = _without_factors(entries)
    named = _unique(_caffe_entry(name, entry, naming) for name, entry in entries.items())
    kernel = named.get(f"{stem}/kernel")
    if kernel and len(kernel.shape) == 4:
        named[f"{stem}/kernel"] = kernel.apply(lambda array: array[:, :, ::-1])  # BGR
    for name in ("predictions/kernel", "predictions/bias"):
        if name in named and named[name].shape[-1] == len(order):
            named[name] = named[name].apply(lambda array: array[..., order])
    return named


def _without_factors(entries):
    """Batch normalisation's mean and variance divided by the factor that Caffe stores with them."""
    found = dict(entries)
    for layer in dict.fromkeys(name.rpartition(":")[0] for name in entries):
        if layer.endswith("/bn"):
            mean, variance, factor = (found.pop(f"{layer}:{i}", None) for i in range(3))
            if mean is None or variance is None or factor is None or factor.shape not in ((), (1,)):
                raise DamagedFileError(
                    f"{layer[:80]!r} does not have a mean, a variance and one factor"
                )
            found |= {
                f"{layer}:{i}": _divide(entry, factor, layer)
                for i, entry in enumerate((mean, variance))
            }
    return found


def _divide(entry, factor, layer):
    def read():
        value = factor.read().reshape(())
        if not value > 0:
            raise DamagedFileError(f"the statistics of {layer[:80]!r} are of {value} batches")
        return entry.read() / value

    return Entry(entry.shape, read)


def _caffe_entry(name, entry, naming):
    layer, _, number = name.rpartition(":")
    normalised, variables = layer.removesuffix("/bn"), ("moving_mean", "moving_variance")
    if layer.endswith("/bn/scale"):
        normalised, variables = layer.removesuffix("/bn/scale"), ("gamma", "beta")
    suffix = "_bn" if normalised != layer else ""
    variables = variables if suffix else ("kernel", "bias")
    found = naming.translate(normalised)
    if found is None or int(number) >= len(variables):
        return name, entry
    return f"{found}{suffix}/{variables[int(number)]}", keras_layout(entry)


def from_keras(
    entries: Entries, model: keras.Model, layers: Mapping[str, str] | None = None
) -> Entries:
    """Keras' entries by the names here: it numbers a class's layers in the order of the model.

    `layers` has the names of layers by their place in a file of another model, one that contains
    this one.
    """
    if layers is None:
        layers = {place: layer.name for layer, place in keras_places(model)}
    names = {}
    by_name = {layer.name: layer for layer in model.layers}
    for place, name in layers.items():
        if name in by_name:
            names |= _variables(place, by_name[name])
    return {names.get(place, place): entry for place, entry in entries.items()}


def keras_places(model: keras.Model, before: str = "") -> Iterator[tuple[keras.Layer, str]]:
    """Each layer of a functional model, and of models within it, with its place in Keras' files."""
    for layer, kind in _number_kinds(model.layers):
        place = f"{before}layers/{kind}"
        yield layer, place
        if isinstance(layer, keras.Model):
            yield from keras_places(layer, f"{place}/")


def _number_kinds(layers):
    """Each layer with its class's name, and a number from the second one of a class on."""
    counts = Counter()
    for layer in layers:
        kind = _snake_case(type(layer).__name__)
        yield layer, f"{kind}_{counts[kind]}" if counts[kind] else kind
        counts[kind] += 1


def _variables(place, layer):
    """The names here of a layer's variables, by their places in Keras' files."""
    gate = isinstance(layer, SqueezeExcite)
    parts = {"/reduce": layer.reduce, "/expand": layer.expand} if gate else {"": layer}
    return {
        f"{place}{path}/vars/{i}": own_name(variable)
        for path, part in parts.items()
        for i, variable in enumerate(part.weights)
    }


def name_variables(model: keras.Model, base: Collection[keras.Layer]) -> dict[str, keras.Variable]:
    """The variables of a model by their names in a file: those of the network in it as `own_name`,
    others "head/dense_1/kernel", by their class as in Keras' files: names that Keras makes up are
    others in the next model.

    Raises:
        ValueError: if two have one name.
    """
    named = {}
    for layer, place in [*((layer, "") for layer in base), *_head_places(model, base, HEAD)]:
        for variable in layer.weights:
            name = f"{place}/{_inner_name(layer, variable)}" if place else own_name(variable)
            if named.setdefault(name, variable) is not variable:
                raise ValueError(
                    f"`model` must have one variable of a name. Received: {model.name!r} with two "
                    f"called {name!r}"
                )
    return named


def _head_places(model, base, before):
    """Each layer that is not the network's and no model, with a place by the classes of such."""
    for layer, kind in _number_kinds(layer for layer in model.layers if layer not in base):
        if isinstance(layer, keras.Model):
            yield from _head_places(layer, base, f"{before}/{kind}")
        else:
            yield layer, f"{before}/{kind}"


def _inner_name(layer, variable):
    """The variable's name after its layer's, which comes after those of models."""
    _, _, inner = f"/{variable.path}".rpartition(f"/{layer.name}/")
    return (inner or variable.name).replace(".", "/")


def _snake_case(name):
    """As Keras spells a class in its files: GroupedConv2D is grouped_conv2d."""
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)).lower()


def from_own(entries: Entries) -> Entries:
    """The entries of a `.safetensors` file of this package: "stage3_block2_conv1.kernel"."""
    return _unique((name.replace(".", "/"), entry) for name, entry in entries.items())


def to_own(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays by the names that a `.safetensors` file gets."""
    return {name.replace("/", "."): np.asarray(array, order="C") for name, array in arrays.items()}


def _unique(pairs):
    named = {}
    for name, entry in pairs:
        if name in named:
            raise UnsupportedFileError(f"two of its weights are {name[:80]!r}")
        named[name] = entry
    return named
