"""The network of a finished training run, or that `keras-senet prune` made of one."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import keras

from keras_senet.runs import NETWORK, RECIPE, WEIGHTS
from keras_senet.runs.record import read_division, read_recipe
from keras_senet.weights.metadata import preprocessing_of
from keras_senet.weights.readers import open_file


class Run(NamedTuple):
    """The network of a run, with `preprocessing`, and the names of its architecture and its
    dataset, if it has one; `division` are the arguments of `data.load` that divide it as the run
    did.
    """

    model: keras.Model
    name: str
    dataset: str | None
    division: dict[str, Any]


def is_run(path: str | Path) -> bool:
    """Whether this is the place of a run, and not the name of a constructor."""
    return _is_network_file(path) or Path(path, RECIPE).is_file()


def _is_network_file(path):
    return Path(path).suffix == ".keras"


def results_folder(path: str | Path) -> Path:
    """The folder for results about a run: its work directory, or one with the name of its `.keras`
    file.
    """
    return Path(path).with_suffix("") if _is_network_file(path) else Path(path)


def load_run(path: str | Path) -> Run:
    """The `Run` of a work directory, or of a `.keras` file of `keras-senet prune`: the exact model,
    of any variant.

    Raises:
        ValueError: if one of its files is damaged.
        FileNotFoundError: if there is no run, or one that has not ended.
    """
    return _load_pruned(Path(path)) if _is_network_file(path) else _load_trained(Path(path))


def _load_pruned(path):
    """What the network was made of, and how its images are prepared, is in the `pruning.json` of
    its folder.
    """
    description = path.with_name("pruning.json")
    for file in (path, description):
        _require(file, "holds no network of `keras-senet prune`")
    try:
        report = json.loads(description.read_text())
        name, dataset = report["network"], report["dataset"]
        preprocessing = preprocessing_of(report)
        division = dict(report.get("division", {}))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{str(description)!r} is damaged ({error!r})") from error
    return Run(_load_model(path, preprocessing), f"{name} {path.stem}", dataset, division)


def _load_trained(workdir):
    recipe = read_recipe(workdir)
    for name in (WEIGHTS, NETWORK):
        _require(workdir / name, "holds a run that has not ended")
    with open_file(workdir / WEIGHTS) as file:
        preprocessing = preprocessing_of(file.metadata)
    model, division = _load_model(workdir / NETWORK, preprocessing), read_division(workdir, recipe)
    return Run(model, recipe.model, recipe.dataset, division)


def _load_model(path, preprocessing):
    if preprocessing is None:
        raise ValueError(f"The run of {str(path)!r} does not say how images are prepared for it")
    try:
        model: Any = keras.models.load_model(path, compile=False)
    except (ValueError, TypeError, KeyError, OSError) as error:
        reason = str(error).splitlines()[0][:200]
        raise ValueError(f"{str(path)!r} is damaged ({reason})") from error
    model.preprocessing = preprocessing
    return model


def _require(path, problem):
    if not path.is_file():
        raise FileNotFoundError(f"{str(path.parent)!r} {problem}: there is no {path.name}")
