"""The network that a training run left in its work directory."""

from pathlib import Path
from typing import NamedTuple

import keras


class Run(NamedTuple):
    """The network of a run, with `preprocessing`, and the names of its architecture and its dataset."""

    model: keras.Model
    name: str
    dataset: str


def load_run(workdir):
    """The `Run` of a work directory: the exact model of `model.keras`, of any variant and input size.

    Raises:
        ValueError: if one of its files is damaged.
        FileNotFoundError: if it holds no run, or one that has not ended.
    """
    from keras_senet.training.workdir import read_recipe

    workdir = Path(workdir)
    recipe = read_recipe(workdir)
    preprocessing = _preprocessing(workdir / "model.weights.h5")
    model = _model(workdir / "model.keras")
    model.preprocessing = preprocessing
    return Run(model, recipe.model, recipe.dataset)


def _preprocessing(path):
    """A `model.keras` has none: it is in the metadata of the weights."""
    from keras_senet.weights.metadata import preprocessing_of
    from keras_senet.weights.readers import opened

    _require(path, "holds a run that has not ended")
    with opened(path) as file:
        preprocessing = preprocessing_of(file.metadata)
    if preprocessing is None:
        raise ValueError(f"{str(path)!r} does not say how images are prepared for it")
    return preprocessing


def _model(path):
    _require(path, "holds a run that has not ended")
    try:
        return keras.models.load_model(path, compile=False)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise ValueError(f"{str(path)!r} is damaged ({str(error).splitlines()[0][:200]})") from error


def _require(path, problem):
    if not path.is_file():
        raise FileNotFoundError(f"{str(path.parent)!r} {problem}: there is no {path.name}")
