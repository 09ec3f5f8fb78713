"""From a file of weights to a network that has them: which network the file is for, then every
variable.
"""

import contextlib
import logging
import re
from dataclasses import dataclass, replace

import numpy as np

from keras_senet.imagenet import class_order
from keras_senet.preprocessing import CAFFE, Preprocessing
from keras_senet.weights import names
from keras_senet.weights.download import fetch
from keras_senet.weights.metadata import choose_spec, preprocessing_of
from keras_senet.weights.readers import File, UnsupportedFileError, opened
from keras_senet.weights.registry import Checkpoint, split_part

logger = logging.getLogger("keras_senet")

HEAD = (
    "predictions/",
    "fc1/",
    "fc2/",
    "layers/dense",
)  # the layers of the classifiers, in all namings
# The first convolutions, by family of networks, and in Keras' files
STEMS = (
    "stem_conv1/kernel",
    "stem_part1_conv1/kernel",
    "stage1_block1_conv/kernel",
    "layers/conv2d/vars/0",
)
MAX_CHANNELS = 1024
LISTED = 5  # differences that an error lists


@dataclass(frozen=True)
class StoredWeights:
    """The weights of an open file, and the network that they are for.

    spec           the architecture, a variant of the one that was asked for
    preprocessing  what they were trained with, as far as that is known
    """

    label: str
    file: File
    family: str
    spec: object
    preprocessing: Preprocessing

    def named(self, model):
        """The file's entries by the names of this package."""
        entries = self.file.entries
        match self.family:
            case "keras":
                return names.from_keras(entries, model)
            case "legacy":
                return names.from_torch(entries, names.LEGACY)
            case "later":
                return names.from_torch(
                    entries, names.later(len(self.spec.stem), self.spec.shortcut_pool)
                )
            case "caffe":
                return names.from_caffe(entries, class_order())
        return names.from_own(entries)

    def classes(self):
        """How many classes the file's head has, or None without one."""
        if self.family == "keras":
            heads = [
                name
                for name, entry in self.file.entries.items()
                if "/dense" in name and len(entry.shape) == 2
            ]
            head = (
                self.file.entries[max(heads, key=lambda name: (len(name), name))] if heads else None
            )
        else:
            head = self.named(None).get("predictions/kernel")
        return head.shape[-1] if head and len(head.shape) == 2 else None

    def channels(self):
        """How many channels the images have that the file's first convolution takes; 3 where that
        is not known.
        """
        entries = self.file.entries if self.family == "keras" else self.named(None)
        shapes = [entries[name].shape for name in STEMS if name in entries]
        return (
            shapes[0][2]
            if shapes and len(shapes[0]) == 4 and 1 <= shapes[0][2] <= MAX_CHANNELS
            else 3
        )

    def load_into(self, model, include_top=True):
        """Gives every variable of the model its value, and logs which part of the file has them.

        Raises:
            ValueError: if the file has other weights than the model, or numbers that are not
            finite.
        """
        entries = self.named(model)
        if not include_top:
            entries = {name: entry for name, entry in entries.items() if not name.startswith(HEAD)}
        variables = {names.own_name(variable): variable for variable in model.weights}
        stem = next(iter(variables))
        channels = variables[stem].shape[-2]
        if stem in entries and channels != 3:
            entries[stem] = adapt_stem(entries[stem], channels)
        self._check_equal(model, variables, entries)
        for name, variable in variables.items():
            variable.assign(_valid(name, entries[name].read()))
        if part := str(self.file.part):
            logger.warning("%s: %s", self.label, part)

    def _check_equal(self, model, variables, entries):
        """Equal names and equal shapes, or an error that lists the differences."""
        found = {
            "missing": [name for name in variables if name not in entries],
            "left over": [name for name in entries if name not in variables],
            "of another shape": [
                name
                for name, variable in variables.items()
                if name in entries and entries[name].shape != tuple(variable.shape)
            ],
        }
        if not any(found.values()):
            return
        if all(name.startswith(HEAD) for names in found.values() for name in names):
            problem = self._head_problem(model)
        else:
            found["of another shape"] = [
                f"{name} {entries[name].shape} instead of {tuple(variables[name].shape)}"
                for name in found["of another shape"]
            ]
            differences = "; ".join(
                f"{kind}: {_listed(items)}" for kind, items in found.items() if items
            )
            problem = f"the file has {len(entries)} variables, the network {len(variables)}; {differences}"
            if re.search(r"\d{5}-of-\d{5}", self.label):
                problem += (
                    ". By its name, the file is one of several that have the weights together"
                )
        part = f" ({self.file.part})" if str(self.file.part) else ""
        raise ValueError(f"The weights of {self.label}{part} do not fit {model.name!r}: {problem}")

    def _head_problem(self, model):
        classes = self.classes()
        has = (
            "no classifier"
            if classes is None
            else f"{classes} classes, `classes` is {model.output_shape[-1]}"
        )
        return f"the file has {has}. Pass `include_top=False` for the rest of the network"


def _valid(name, array):
    """An array that can be a variable's."""
    if array.dtype.kind != "f":
        raise UnsupportedFileError(f"{name} has whole numbers ({array.dtype})")
    if not np.isfinite(array).all():
        raise UnsupportedFileError(f"{name} has values that are not finite in float32")
    if name.endswith("moving_variance") and (array < 0).any():
        raise UnsupportedFileError(f"{name} has variances below 0")
    return array


def _listed(items):
    more = f" and {len(items) - LISTED} more" if len(items) > LISTED else ""
    return ", ".join(item[:80] for item in items[:LISTED]) + more


def adapt_stem(entry, channels):
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

    return type(entry)((height, width, channels, filters), read)


@contextlib.contextmanager
def open_weights(source, spec, preprocessing):
    """The `StoredWeights` of a checkpoint, a Hub repository "hf://owner/name", or a path.

    Args:
        source: what `find` returns.
        spec: the architecture of the network that is asked for.
        preprocessing: that network's own, for files that do not name one.

    Raises:
        ValueError: if the file is damaged or of another network.
        OSError: if it cannot be had.
    """
    source, part = split_part(source)
    path = fetch(source)
    with opened(path, part) as file:
        label = repr(str(path))
        try:
            family = _family(file)
            chosen = (
                choose_spec(file.metadata, spec)
                if family in ("keras", "own")
                else spec.published_by(family)
            )
            stored = preprocessing_of(file.metadata)
        except ValueError as error:
            raise ValueError(f"The weights of {label} cannot be loaded: {error}") from error
        if isinstance(source, Checkpoint):
            stored = source.preprocessing
        elif family == "caffe":
            stored = replace(preprocessing, mean=CAFFE.mean, std=CAFFE.std)
        found = StoredWeights(label, file, family, chosen, stored or preprocessing)
        if family in ("legacy", "later") and chosen.se and names.lacks_se_biases(found.named(None)):
            found = replace(found, spec=replace(chosen, se=replace(chosen.se, use_bias=False)))
        yield found


def _family(file):
    """Whose names a file has: "keras", "own", "caffe", or timm's "legacy" or "later"."""
    if file.kind in (".weights.h5", ".caffemodel"):
        return {".weights.h5": "keras", ".caffemodel": "caffe"}[file.kind]
    if file.metadata is not None:
        return "own"
    return names.torch_family(file.entries) or "own"
