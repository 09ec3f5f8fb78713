"""The network that a training run left in its work directory, or that `keras-senet prune` made of
one.
"""

import json
from pathlib import Path
from typing import NamedTuple

import keras


class Run(NamedTuple):
    """The network of a run, with `preprocessing`, and the names of its architecture and its
    dataset, if it has one.
    """

    model: keras.Model
    name: str
    dataset: str | None


def is_run(path):
    """Whether this is the place of a run, and not the name of a constructor."""
    return _is_file(path) or Path(path, "recipe.json").is_file()


def _is_file(path):
    return Path(path).suffix == ".keras"


def results_folder(path):
    """The folder for what is found out about a run: its work directory, or one of the name of its
    `.keras` file.
    """
    return Path(path).with_suffix("") if _is_file(path) else Path(path)


def load_run(path):
    """The `Run` of a work directory, or of a `.keras` file of `keras-senet prune`: the exact model,
    of any variant.

    Raises:
        ValueError: if one of its files is damaged.
        FileNotFoundError: if there is no run, or one that has not ended.
    """
    return _pruned(Path(path)) if _is_file(path) else _trained(Path(path))


def _pruned(path):
    """What the network was made of, and how images are prepared for it, is in `pruning.json` beside
    it.
    """
    from keras_senet.weights.metadata import preprocessing_of

    description = path.with_name("pruning.json")
    for file in (path, description):
        _require(file, "holds no network of `keras-senet prune`")
    try:
        report = json.loads(description.read_text())
        name, dataset, preprocessing = (
            report["network"],
            report["dataset"],
            preprocessing_of(report),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{str(description)!r} is damaged ({error!r})") from error
    return Run(_model(path, preprocessing), f"{name} {path.stem}", dataset)


def _trained(workdir):
    from keras_senet.runs.workdir import read_recipe
    from keras_senet.weights.metadata import preprocessing_of
    from keras_senet.weights.readers import open_file

    recipe = read_recipe(workdir)
    for file in ("model.weights.h5", "model.keras"):
        _require(workdir / file, "holds a run that has not ended")
    # A `model.keras` does not say how images are prepared: it is in the metadata of the weights.
    with open_file(workdir / "model.weights.h5") as file:
        preprocessing = preprocessing_of(file.metadata)
    return Run(_model(workdir / "model.keras", preprocessing), recipe.model, recipe.dataset)


def _model(path, preprocessing):
    if preprocessing is None:
        raise ValueError(
            f"What is beside {str(path)!r} does not say how images are prepared for it"
        )
    try:
        model = keras.models.load_model(path, compile=False)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise ValueError(
            f"{str(path)!r} is damaged ({str(error).splitlines()[0][:200]})"
        ) from error
    model.preprocessing = preprocessing
    return model


def _require(path, problem):
    if not path.is_file():
        raise FileNotFoundError(f"{str(path.parent)!r} {problem}: there is no {path.name}")
