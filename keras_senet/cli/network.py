"""The networks that commands are asked for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras

from keras_senet import models
from keras_senet.cli.options.shared import NetworkOptions
from keras_senet.cli.options.sources import Source
from keras_senet.cli.tables import status
from keras_senet.runs.images import OpenedImages, load_for_run
from keras_senet.runs.load import load_run, load_weights_file, read_origin
from keras_senet_cli import quiet

Size = tuple[int | None, int | None]


class Loaded(NamedTuple):
    """A network with its name, what its weights are, its run's dataset and that one's division."""

    name: str
    weights: str | None
    model: keras.Model
    dataset: str | None
    division: dict[str, Any] = {}  # noqa: RUF012


def load_network(source: Source, weights: str | None = None, size: Size | None = None) -> Loaded:
    """The network of a `Source`; `weights` are of a constructor, None is "imagenet".

    `size` is (H, W) of the images of one that is not a run's, where None leaves a side open.
    """
    text = source.text
    if source.kind == "constructor":
        weights = weights or "imagenet"
    with status(f"loading {' '.join(filter(None, (text, weights)))}"), quiet():
        if source.kind == "constructor":
            return Loaded(text, weights, models.get(text).load(weights, size), None)
        if source.kind == "weights":
            model = load_weights_file(text, size)
            return Loaded(model.name, text, model, None)
        origin = read_origin(text)
        return Loaded(origin.name, text, load_run(text), origin.dataset, origin.division)


def load_networks(options: NetworkOptions) -> list[Loaded]:
    """The networks of --workdir, or of --model and --weights."""
    given = options.weights if isinstance(options.weights, tuple) else (options.weights,)
    weights = iter(given or (None,) * len(options.sources))
    return [
        load_network(source, next(weights) if source.kind == "constructor" else None)
        for source in options.sources
    ]


def open_images(
    options: NetworkOptions, loaded: Loaded, *, upright: bool, split: str | None = None
) -> OpenedImages:
    """The images that are asked for, by default of the run's own dataset, which is divided as the
    run did. Another one is not divided: nothing of it was trained on. `split` None is the one that
    is asked for.
    """
    name = options.dataset or loaded.dataset or "imagenet2012"
    with status(f"opening {name}"):
        return load_for_run(
            name,
            split or options.split,
            options.data_dir,
            own=loaded.dataset,
            division=loaded.division,
            upright=upright,
            class_names=getattr(loaded.model, "class_names", None),
        )


def results_folder(sources: Sequence[Source]) -> Path | None:
    """The folder for a run's results: its work directory, or one named as its `.keras`; or None."""
    runs = [Path(source.text) for source in sources if source.kind == "run"]
    if not runs or len(sources) > 1:
        return None
    return runs[0].with_suffix("") if runs[0].suffix == ".keras" else runs[0]
