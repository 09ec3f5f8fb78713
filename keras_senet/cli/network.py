"""The networks that commands are asked for."""

from typing import Any, NamedTuple

import keras

from keras_senet import data, models
from keras_senet.cli.options.shared import NetworkOptions
from keras_senet.cli.tables import console
from keras_senet.runs.load import load_run
from keras_senet.weights import open_weights, resolve
from keras_senet_cli import quiet


class Loaded(NamedTuple):
    """A network with its name, what its weights are, and the dataset of its run, if it has one,
    with how that was divided.
    """

    name: str
    weights: str | None
    model: keras.Model
    dataset: str | None
    division: dict[str, Any] = {}  # noqa: RUF012


def load_network(
    name: str, weights: str, size: tuple[int | None, int | None] | None = None
) -> keras.Model:
    """A network with as many classes and channels as its weights have, and without a classifier if
    they have none.

    `size` is (H, W) of its images, where None leaves a side open; None is the network's own.
    """
    constructor = models.get(name)
    source = resolve(weights, constructor.base.name)
    with open_weights(source, constructor.spec, constructor.preprocessing) as stored:
        classes, channels = stored.classes(), stored.channels()
    options = {} if classes is None else {"classes": classes}
    if size is not None:
        is_last = keras.config.image_data_format() == "channels_last"
        options["input_shape"] = (*size, channels) if is_last else (channels, *size)
    return constructor(weights=weights, include_top=classes is not None, **options)


def load_networks(options: NetworkOptions) -> list[Loaded]:
    """The networks of --workdir, or of --model and --weights."""
    if options.workdir:
        run = load_run(options.workdir)
        return [Loaded(run.name, options.workdir, run.model, run.dataset, run.division)]
    names = options.model if isinstance(options.model, tuple) else (options.model,)
    weights = options.weights if isinstance(options.weights, tuple) else (options.weights,)
    found = []
    for name, source in zip(
        names, weights if any(weights) else ["imagenet"] * len(names), strict=True
    ):
        with console.status(f"loading {name} {source}"), quiet():
            found.append(Loaded(name, source, load_network(name, source), None))
    return found


class Opened(NamedTuple):
    """Images with the name of their dataset and of their split."""

    dataset: str
    split: str
    images: Any


def open_images(
    options: NetworkOptions, loaded: Loaded, *, upright: bool, split: str | None = None
) -> Opened:
    """The images that are asked for, by default of the run's own dataset, which is divided as the
    run did; `split` None is the one that is asked for.
    """
    name = options.dataset or loaded.dataset or "imagenet2012"
    division = dict(loaded.division)
    if name != loaded.dataset:
        division.pop("split_file", None)
    with console.status(f"opening {name}"):
        wanted = data.resolve_split(
            name, split or options.split, options.data_dir, divides=bool(division)
        )
        images = data.load(name, wanted, options.data_dir, upright=upright, **division)
    return Opened(name, wanted, images)
