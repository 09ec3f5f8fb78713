"""The weights that a run begins from: which network they are for, and whether its head is new."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_senet import models
from keras_senet.files import names_damage
from keras_senet.initializers import shapes_only
from keras_senet.preprocessing import Preprocessing
from keras_senet.runs import BEST, NETWORK, RECIPE, WEIGHTS
from keras_senet.runs.load import load_model_file
from keras_senet.runs.record import read_recipe
from keras_senet.training.network import spec_of
from keras_senet.weights import open_weights, resolve
from keras_senet.weights.download import fetch, sha256
from keras_senet.weights.loading import StoredWeights
from keras_senet.weights.metadata import choose_spec, class_names_of, describe, stored_preprocessing
from keras_senet.weights.names import own_name, to_own
from keras_senet.weights.readers import Entry, File
from keras_senet.weights.registry import Checkpoint, list_weights, split_part


@dataclass(frozen=True)
class Start:
    """What a run begins from.

    source         `Recipe.weights`, the path of a file or folder as an absolute one
    sha256         of the file
    spec           the variant of the recipe's network that the weights are for
    preprocessing  what they were trained with
    classes        of the file's head, or None without one
    class_names    their names, or None where they are not known
    """

    source: str
    sha256: str
    spec: Any
    preprocessing: Preprocessing
    classes: int | None
    class_names: tuple[str, ...] | None

    def keeps_head(self, class_names: Sequence[str]) -> bool:
        """Whether the head is one for these classes: for as many, where theirs are not known."""
        if self.class_names is not None:
            return self.class_names == tuple(class_names)
        return self.classes == len(class_names)

    def load_into(self, model: keras.Model, recipe: Any, class_names: Sequence[str]) -> None:
        """Gives a network of `spec` the weights; a head for other classes keeps its own.

        Raises:
            ValueError: if the file has other weights, or has changed since it was read first.
            OSError: if it is gone.
        """
        with _open(recipe, self.source) as opened:
            if sha256(opened.file) != self.sha256:
                raise ValueError(
                    f"{self.source!r} changed since the run began, before its first checkpoint. "
                    "Put it back, or begin a run in another directory"
                )
            opened.stored.load_into(model, include_top=self.keeps_head(class_names))

    def describe(self, class_names: Sequence[str]) -> str:
        """What a run for these classes begins from, in a few words."""
        head = "with their head" if self.keeps_head(class_names) else "with a new head"
        return f"the run begins from the weights of {self.source!r}, {head}"

    def to_json(self) -> dict[str, Any]:
        """As plain data, for `recipe.json`."""
        return describe(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any], spec: Any) -> "Start":
        """What `to_json` returned, for a network of `spec`, as the recipe has it."""
        if spec.se and not record["spec"]["se"]["use_bias"]:  # as some published weights are
            spec = replace(spec, se=replace(spec.se, use_bias=False))
        preprocessing = stored_preprocessing(record)
        if preprocessing is None:
            raise ValueError("it does not say how images are prepared")
        names = record["class_names"]
        return cls(
            source=record["source"],
            sha256=record["sha256"],
            spec=choose_spec(record, spec),
            preprocessing=preprocessing,
            classes=record["classes"],
            class_names=None if names is None else tuple(names),
        )


def read_start(recipe: Any, workdir: str | Path) -> Start | None:
    """The `Start` of a recipe, or None for random weights; for a run that has begun, as its
    `recipe.json` says, so that its weights need not be there any more.

    Raises:
        ValueError: for weights that are damaged or of another network.
        OSError: if they cannot be had.
    """
    if recipe.weights is None:
        return None
    file = Path(workdir) / RECIPE
    with contextlib.suppress(FileNotFoundError), names_damage(file):
        there = json.loads(file.read_text())
        if record := there.get("start"):
            # The network of the run: `WorkDir` refuses another recipe.
            return Start.from_json(record, spec_of(type(recipe).from_json(there["recipe"])))
    with _open(recipe, recipe.weights) as opened:
        file, stored = opened.file, opened.stored
        return Start(
            source=opened.source,
            sha256=sha256(file),
            spec=stored.spec,
            preprocessing=stored.preprocessing,
            classes=stored.classes(),
            class_names=opened.class_names,
        )


class _Opened(NamedTuple):
    """Weights to read: their `source` for `Start`, their file, and their class names or None."""

    source: str
    file: Path
    stored: StoredWeights
    class_names: tuple[str, ...] | None


@contextlib.contextmanager
def _open(recipe, weights) -> Iterator[_Opened]:
    class_names = None
    is_tag = weights in {checkpoint.tag for checkpoint in list_weights()}
    if not is_tag and (run := _run_of(Path(weights))):
        weights, class_names = _weights_of_run(run, recipe.model, weights)
    constructor, spec = models.get(recipe.model), spec_of(recipe)
    if Path(weights).suffix == ".keras" and Path(weights).is_file():
        stored = _read_network(Path(weights), constructor, spec)
        names = class_names or stored.class_names
        yield _Opened(os.path.abspath(weights), Path(weights), stored, names)
        return
    source = resolve(weights, constructor.base.name, "a training work directory", "a .keras file")
    if isinstance(source, Checkpoint) and not source.says_spec:
        constructor.base.check_published(spec)
    with open_weights(source, spec, constructor.preprocessing) as stored:
        file = fetch(split_part(source)[0])
        is_path = isinstance(source, Path)
        yield _Opened(
            os.path.abspath(weights) if is_path else str(weights),
            file,
            stored,
            class_names or stored.class_names,
        )


def _run_of(path):
    """The work directory of this path, or of the network in one; None for anything else."""
    folder = path.parent if path.name == NETWORK else path
    return folder if (folder / RECIPE).is_file() else None


def _weights_of_run(folder, name, given):
    """The weights of a run, its last ones or else its best, and the names of its classes."""
    model = read_recipe(folder).model
    if model != name:
        raise ValueError(
            f"`weights` must be of {name}, as `model` says. "
            f"Received: weights={given!r}, a run of {model}"
        )
    files = [folder / name for name in (WEIGHTS, BEST) if (folder / name).is_file()]
    if not files:
        raise FileNotFoundError(
            f"The run in {str(folder)!r} has no weights yet: there is no {WEIGHTS} and no {BEST}"
        )
    return str(files[0]), class_names_of(json.loads((folder / RECIPE).read_text()))


def _read_network(path, constructor, spec):
    """The `StoredWeights` of a `.keras` file.

    Raises:
        ValueError: if it is damaged, or of another network than `spec` in a published form.
    """
    model = load_model_file(path)
    forms = tuple(spec.forms.values())
    candidates = (spec, *(forms if spec in forms else ()))
    found = [(each, _difference(model, constructor.variant(each))) for each in candidates]
    chosen = next((each for each, difference in found if difference is None), None)
    if chosen is None:
        raise ValueError(
            f"The weights of {str(path)!r} cannot be loaded: it is of another architecture "
            f"({found[0][1]})"
        )
    entries = {
        name: Entry(array.shape, lambda array=array: array)
        for name, array in to_own(
            {own_name(v): ops.convert_to_numpy(v) for v in model.weights}
        ).items()
    }
    preprocessing = getattr(model, "preprocessing", constructor.preprocessing)
    file = File(".keras", entries, part="")
    names = getattr(model, "class_names", None)
    return StoredWeights(
        repr(str(path)), file, "own", chosen, preprocessing, names and tuple(names)
    )


def _difference(model, constructor):
    """The first layer without its like in a model, in a few words; None if there is none."""
    with shapes_only():
        shape = tuple(model.input_shape[1:])
        own = constructor(weights=None, include_top=False, input_shape=shape)
    there = {layer.name: layer for layer in model.layers}
    for layer in own.layers[1:]:
        other = there.get(layer.name)
        if other is None:
            return f"it has no {layer.name}"
        config, others = (
            {"class": type(each).__name__} | _architecture(each.get_config())
            for each in (layer, other)
        )
        for name, value in config.items():
            if others.get(name) != value:
                received = others.get(name)
                return f"{layer.name}.{name}: {received} in the file, {value} here"
    return None


def _architecture(config):
    """The entries of a layer's configuration that its outputs depend on."""
    endings = ("_initializer", "_regularizer", "_constraint")
    others = ("name", "trainable", "dtype", "seed", "synchronized", "momentum", "build_config")
    return {k: v for k, v in config.items() if not k.endswith(endings) and k not in others}
