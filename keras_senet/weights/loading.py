"""From a file of weights to a network that has them: which network the file is for, then every
variable.
"""

import contextlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_senet.bases import Base
from keras_senet.fields import list_some
from keras_senet.imagenet import class_order
from keras_senet.preprocessing import CAFFE, Preprocessing
from keras_senet.weights import names
from keras_senet.weights.download import fetch
from keras_senet.weights.metadata import (
    choose_spec,
    class_names_of,
    layers_of,
    stored_preprocessing,
)
from keras_senet.weights.names import Entries
from keras_senet.weights.readers import Entry, File, UnsupportedFileError, open_file
from keras_senet.weights.registry import Checkpoint, split_part

logger = logging.getLogger("keras_senet")

KERAS_HEAD = "layers/dense"  # what the classifiers' weights begin with in Keras' files
KERAS_STEM = "layers/conv2d/vars/0"  # the first convolution there
MAX_CHANNELS = 1024
LISTED = 5  # differences that an error lists


@dataclass(frozen=True)
class StoredWeights:
    """The weights of an open file, and the network that they are for.

    spec           the architecture, a variant of the one that was asked for
    preprocessing  what they were trained with, as far as that is known
    class_names    of the classes that they were trained for, or None where the file does not say
    layers         of a file that has weights of users' layers too: the names of the network's, by
                   their places; else None
    """

    label: str
    file: File
    family: str
    spec: Any  # a `models.blocks.Spec`, which knows this package
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None = None
    layers: dict[str, str] | None = None

    def named(self, model: keras.Model | None = None) -> Entries:
        """The file's entries by the names of this package."""
        entries = self.file.entries
        if self.family == "keras":
            return names.from_keras(entries, model, self.layers)
        naming = self.spec.namings.get(self.family)
        if naming is None:
            return names.from_own(entries)
        if self.family == "caffe":
            return names.from_caffe(entries, naming, self.spec.stem_layer, class_order())
        return names.from_torch(entries, naming)

    def is_of_head(self, name: str) -> bool:
        """Whether weights of this name are the classifier's."""
        heads = tuple(f"{layer}/" for layer in self.spec.head_layers)
        users = () if self.layers is None else (f"{names.HEAD}/", "layers/")
        return name.startswith((*heads, KERAS_HEAD, *users))

    def classes(self) -> int | None:
        """How many classes the file's head has, or None without one, or with one of a user."""
        if self.layers is not None:
            return None
        if self.family == "keras":
            entries = self.file.entries
            heads = [n for n, entry in entries.items() if "/dense" in n and len(entry.shape) == 2]
            head = entries[max(heads, key=lambda n: (len(n), n))] if heads else None
        else:
            head = self.named().get("predictions/kernel")
        return head.shape[-1] if head and len(head.shape) == 2 else None

    def channels(self) -> int:
        """The channels of the images that the file's first convolution takes; 3 if unknown."""
        if self.family == "keras":
            places = {name: place for place, name in (self.layers or {}).items()}
            place = places.get(self.spec.stem_layer)
            stem = self.file.entries.get(f"{place}/vars/0" if place else KERAS_STEM)
        else:
            stem = self.named().get(f"{self.spec.stem_layer}/kernel")
        if stem and len(stem.shape) == 4 and 1 <= stem.shape[2] <= MAX_CHANNELS:
            return stem.shape[2]
        return 3

    def load_into(self, model: keras.Model, include_top: bool = True) -> None:
        """Gives every variable of the model its value, and logs which part of the file has them;
        without the top, only those that are not the classifier's.

        Raises:
            ValueError: if the file has other weights than the model, or numbers that are not
                finite.
        """
        entries = self.named(model)
        variables = {names.own_name(variable): variable for variable in model.weights}
        if not include_top:
            entries, variables = (
                {name: value for name, value in each.items() if not self.is_of_head(name)}
                for each in (entries, variables)
            )
        self._fill(model, variables, entries)

    def load_whole(self, model: keras.Model, base: Base) -> None:
        """The same for a model that contains the network, built as the file's was."""
        variables = names.name_variables(model, dict.fromkeys(base.layers))
        self._fill(model, variables, self.named(model))

    def _fill(self, model, variables, entries):
        stem = f"{self.spec.stem_layer}/kernel"
        if stem in entries and stem in variables and variables[stem].shape[-2] != 3:
            entries[stem] = adapt_stem(entries[stem], variables[stem].shape[-2])
        self._check_equal(model, variables, entries)
        for name, variable in variables.items():
            variable.assign(check_values(name, entries[name].read()))
        if part := str(self.file.part):
            logger.warning("%s: %s", self.label, part)

    def _check_equal(self, model, variables, entries):
        """Equal names and equal shapes, or an error that lists the differences."""
        found = names.compare(variables, entries)
        if not any(found.values()):
            return
        differing = [name for each in found.values() for name in each]
        is_users = any(name.startswith(f"{names.HEAD}/") for name in variables)
        is_other = self.layers is not None or self.classes() != model.output_shape[-1]
        if all(map(self.is_of_head, differing)) and is_other and not is_users:
            problem = self._head_problem(model)
        else:
            shapes = names.describe_shapes(found["of another shape"], variables, entries)
            found["of another shape"] = shapes
            differences = "; ".join(
                f"{kind}: {list_some([each[:80] for each in items], LISTED)}"
                for kind, items in found.items()
                if items
            )
            problem = (
                f"the file has {len(entries)} variables, the network {len(variables)}; "
                f"{differences}"
            )
            if self.family == "own" and len(found["left over"]) == len(entries) > 0:
                name, kind = next(iter(self.file.entries)), type(self.spec).__name__
                problem += f". There is no table of names such as {name[:80]!r} for {kind}"
            if re.search(r"\d{5}-of-\d{5}", self.label):
                problem += (
                    ". By its name, the file is one of several that have the weights together"
                )
        part = f" ({self.file.part})" if str(self.file.part) else ""
        raise ValueError(f"The weights of {self.label}{part} do not fit {model.name!r}: {problem}")

    def _head_problem(self, model):
        classes = self.classes()
        if self.layers is not None:
            has = "a head that its user built"
        elif classes is None:
            has = "no classifier"
        else:
            has = f"{classes} classes, `classes` is {model.output_shape[-1]}"
        rest = "Pass `include_top=False` to the constructor for the rest of the network"
        return f"the file has {has}. {rest}"


def check_values(name: str, array: np.ndarray) -> np.ndarray:
    """The values of a weight, finite floating-point numbers; UnsupportedFileError for others."""
    if array.dtype.kind != "f":
        raise UnsupportedFileError(f"{name} has whole numbers ({array.dtype})")
    if not np.isfinite(array).all():
        raise UnsupportedFileError(f"{name} has values that are not finite in float32")
    if name.endswith("moving_variance") and (array < 0).any():
        raise UnsupportedFileError(f"{name} has variances below 0")
    return array


def adapt_stem(entry: Entry, channels: int) -> Entry:
    """A first convolution for RGB as one for another number of channels, as timm does it.

    One channel is what red, green and blue were equally: their kernels' sum. More are red, green,
    blue, red, ... in turn, scaled by 3 / channels so that the sum over all stays what it was.
    """
    if len(entry.shape) != 4 or entry.shape[2] != 3:
        return entry
    height, width, _, filters = entry.shape

    def read():
        kernel = entry.read()
        if channels == 1:
            return kernel.sum(axis=2, keepdims=True)
        return kernel[:, :, np.arange(channels) % 3] * np.float32(3 / channels)

    return Entry((height, width, channels, filters), read)


@contextlib.contextmanager
def open_weights(
    source: "Checkpoint | Path | str", spec: Any, preprocessing: Preprocessing
) -> Iterator[StoredWeights]:
    """The `StoredWeights` of a checkpoint, a Hub repository "hf://owner/name", or a path.

    Args:
        source: what `resolve` returns.
        spec: the architecture of the network that is asked for, a `models.blocks.Spec`.
        preprocessing: that network's own, for files that do not name one.

    Raises:
        ValueError: if the file is damaged or of another network.
        OSError: if it cannot be had.
    """
    source, part = split_part(source)
    path = fetch(source)
    with open_file(path, part, [naming.marks for naming in spec.namings.values()]) as file:
        label = repr(str(path))
        try:
            family = _family(file, spec)
            layers = layers_of(file.metadata)
            chosen = (
                choose_spec(file.metadata, spec)
                if family in ("keras", "own")
                else spec.published_by(family)
            )
            stored = stored_preprocessing(file.metadata)
            class_names = class_names_of(file.metadata)
        except ValueError as error:
            raise ValueError(f"The weights of {label} cannot be loaded: {error}") from error
        if isinstance(source, Checkpoint):
            stored = source.preprocessing
        elif family == "caffe":
            stored = replace(preprocessing, mean=CAFFE.mean, std=CAFFE.std)
        stored = stored or preprocessing
        found = StoredWeights(label, file, family, chosen, stored, class_names, layers)
        is_of_torch = family in chosen.namings and family != "caffe"
        if is_of_torch and chosen.se and names.lacks_se_biases(found.named()):
            found = replace(found, spec=replace(chosen, se=replace(chosen.se, use_bias=False)))
        yield found


def _family(file, spec):
    """Whose names a file has: "keras", "own", or one of the spec's."""
    if file.kind in (".weights.h5", ".caffemodel"):
        return {".weights.h5": "keras", ".caffemodel": "caffe"}[file.kind]
    if file.metadata is not None:
        return "own"
    marked = (family for family, naming in spec.namings.items() if naming.is_marked(file.entries))
    return next(marked, "own")
