"""The network of a training run, or that `keras-senet prune` made of one."""

import contextlib
import json
import logging
import math
import shlex
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import keras

from keras_senet import models
from keras_senet.files import names_damage
from keras_senet.graphs import is_functional
from keras_senet.initializers import shapes_only
from keras_senet.models.blocks import read_spec
from keras_senet.runs import BEST, NETWORK, RECIPE, WEIGHTS
from keras_senet.runs.record import read_division, read_recipe
from keras_senet.weights.download import fetch
from keras_senet.weights.metadata import class_names_of, stored_preprocessing
from keras_senet.weights.readers import open_file
from keras_senet.weights.registry import HUB

logger = logging.getLogger("keras_senet")

MAX_RATIO = 100  # of unpacked to packed bytes; weights hardly shrink, and configurations to 1/30


class RunOrigin(NamedTuple):
    """The name of a run's architecture, and of its dataset, if it is known; `division` are the
    arguments of `data.load` that divide it as the run did.
    """

    name: str
    dataset: str | None
    division: dict[str, Any]


def is_run(path: str | Path) -> bool:
    """Whether a folder is the work directory of a training run."""
    return Path(path, RECIPE).is_file()


def _is_network_file(path):
    return Path(path).suffix == ".keras"


def read_origin(path: str | Path) -> RunOrigin:
    """The `RunOrigin` of a work directory, or of a `.keras` file. Raises as `load_run` does."""
    path = Path(path)
    if not _is_network_file(path):
        recipe = read_recipe(path)
        return RunOrigin(recipe.model, recipe.dataset, read_division(path, recipe))
    report = _read_pruning(path)
    if report is None:
        return RunOrigin(path.stem, None, {})
    name = f"{report['network']} {path.stem}"
    return RunOrigin(name, report["dataset"], report["division"])


def load_run(path: str | Path) -> models.Network:
    """The network of a training run as a Keras model with `preprocessing` and `class_names`.

    That of a run that has ended is the one in its `model.keras`: the weights after the last step,
    averaged if the recipe averages them. `best.weights.h5`, which a constructor of the network
    loads, has those of the epoch that was best on the validation images. Of a run that has not
    ended the network has these, the best ones so far, which is logged.

        model = keras_senet.load_run("run")
        image = model.preprocessing.read("photo.jpg")
        probabilities = model(model.preprocessing.normalize(image[None]))
        print(keras_senet.decode_predictions(probabilities, class_names=model.class_names))

    Classes that neither the run nor its dataset names, as that of an earlier version which is not
    there any more, are called "class 0", "class 1", ...

    Args:
        path: a work directory, or a `.keras` file of a run or of `keras-senet prune`.

    Raises:
        ValueError: if one of its files is damaged, or does not say how images are prepared.
        FileNotFoundError: if there is no run, or one of which no epoch has been evaluated.
    """
    path = Path(path)
    return _load_file(path) if _is_network_file(path) else _load_workdir(path)


def _load_workdir(workdir):
    recipe = read_recipe(workdir)
    if (workdir / NETWORK).is_file():
        model = load_model_file(workdir / NETWORK)
        if not hasattr(model, "preprocessing"):  # written by an earlier version
            _require(workdir / WEIGHTS)
            _restore_attributes(model, workdir / WEIGHTS)
    else:
        if not (workdir / BEST).is_file():
            _require(workdir / NETWORK)
        logger.warning(
            "the run in %r has not ended: its best weights so far are taken", str(workdir)
        )
        model = load_weights_file(workdir / BEST)
    if model.class_names is None:
        model.class_names = _read_class_names(workdir) or _name_classes(model, recipe.dataset)
    return model


def _restore_attributes(model, file):
    with open_file(file) as content:
        preprocessing = stored_preprocessing(content.metadata)
    if preprocessing is None:
        raise ValueError(f"The run of {str(file)!r} does not say how images are prepared for it")
    model.preprocessing = preprocessing


def _read_class_names(workdir):
    """Those that `recipe.json` names, or None where an earlier version wrote it."""
    file = workdir / RECIPE
    with names_damage(file):
        return class_names_of(json.loads(file.read_text()))


def _name_classes(model, dataset):
    """The names that a dataset has for the classes of a network, or their numbers."""
    classes = model.output_shape[-1]
    try:
        from keras_senet import data  # which needs TensorFlow

        names = data.load(dataset, "test").class_names
    except (ValueError, OSError, ImportError):  # it is elsewhere
        names = ()
    return names if len(names) == classes else [f"class {i}" for i in range(classes)]


def _load_file(path):
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}")
    model, report = load_model_file(path), _read_pruning(path)
    if not hasattr(model, "preprocessing"):
        preprocessing = None if report is None else stored_preprocessing(report)
        if preprocessing is None:
            raise ValueError(f"{str(path)!r} does not say how images are prepared for it")
        model.preprocessing = preprocessing
    if model.class_names is None and report is not None and report["dataset"]:
        model.class_names = _name_classes(model, report["dataset"])
    return model


def _read_pruning(path):
    """What `keras-senet prune` says of a network that it wrote, or None."""
    file = path.with_name("pruning.json")
    if not file.is_file():
        return None
    with names_damage(file):
        report = json.loads(file.read_text())
        if path.name not in [variant["file"] for variant in report["variants"]]:
            return None
        found = {name: report[name] for name in ("network", "dataset", "preprocessing")}
        return found | {"division": dict(report.get("division", {}))}


def load_model_file(path: Path) -> Any:
    """The functional model of a `.keras` file. Raises ValueError if it holds none."""
    _check_sizes(path)
    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises errors of every kind: of zip, JSON, HDF5, its graphs
        reason = str(error).partition("\n")[0][:200] or type(error).__name__
        raise ValueError(f"{str(path)!r} is damaged ({reason})") from error
    if not is_functional(model):
        raise ValueError(f"{str(path)!r} must hold a functional Keras model. Received: {model!r}")
    return model if isinstance(model, models.Network) else models.Network.of(model)


def _check_sizes(path):
    """Raises ValueError for a `.keras` file of which reading would take memory out of proportion to
    its size. What else is wrong with it, Keras says.
    """
    size, problem = path.stat().st_size, None
    try:
        with zipfile.ZipFile(path) as archive:
            stored = sum(member.file_size for member in archive.infolist())
            if stored > MAX_RATIO * size:
                problem = f"its {size:,} bytes unpack to {stored:,}"
            elif (count := _count_weights(archive)) > stored:  # each takes at least a byte
                problem = f"its layers have {count:,} weights, and it has {stored:,} bytes"
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:  # also: is encrypted
        problem = str(error)
    if problem:
        raise ValueError(f"{str(path)!r} is damaged ({problem})")


def _count_weights(archive):
    """How many numbers the weights are of all layers that a `.keras` file's configuration names."""
    with shapes_only() as created, contextlib.suppress(Exception):
        config = json.loads(archive.read("config.json")) | {"compile_config": None}
        keras.saving.deserialize_keras_object(config)
    return sum(math.prod(variable.shape) for variable in created)


def load_weights_file(
    path: str | Path, size: tuple[int | None, int | None] | None = None
) -> models.Network:
    """The network of a file of weights that this package wrote: its architecture is in there.

    Args:
        path: the file, or "hf://owner/name".
        size: (H, W) of its images, where None leaves a side open; None is the network's own.

    Raises:
        ValueError: if it is damaged, or does not say what network it is of.
        OSError: if it cannot be read.
    """
    with open_file(fetch(path if str(path).startswith(HUB) else Path(path))) as file:
        metadata, arrays = file.metadata, len(file.entries)
    spec = metadata.get("spec") if isinstance(metadata, dict) else None
    if isinstance(metadata, dict) and "detector" in metadata:
        raise ValueError(f"{str(path)!r} holds a detector; `keras-senet detect` takes it")
    if spec is None:
        raise ValueError(
            f"{str(path)!r} does not say what network its weights are of; name it, with the file "
            "as its weights"
        )
    try:
        spec = read_spec(spec)
        if sum(getattr(spec, "depths", ())) > arrays:  # which would be built for hours
            raise ValueError(f"it has {arrays:,} arrays for the blocks of {spec}")
        constructor = models.find(spec)
    except ValueError as error:
        raise ValueError(f"The weights of {str(path)!r} cannot be loaded: {error}") from error
    return constructor.load(path, size)


def find_file_network(path: str | Path) -> dict[str, Any]:
    """The recipe's fields that say which network a file of weights is of; or none."""
    try:
        with open_file(Path(path)) as file:
            metadata: Any = file.metadata
            spec = read_spec(metadata["spec"])
        model = models.find(spec).base.__name__
    except (ValueError, TypeError, KeyError, OSError):
        return {}
    own, depths = (getattr(each, "depths", ()) for each in (models.get(model).spec, spec))
    return {"model": model, "se": spec.se, "depths": () if depths == own else depths}


def _require(path):
    """Raises FileNotFoundError unless a file of a run that has ended is there."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{str(path.parent)!r} holds a run that has not ended: there is no {path.name}. "
            f"`{shlex.join(['keras-senet', 'train', '--workdir', str(path.parent)])}` continues it"
        )
