"""The commands of `keras-senet detect`, one module each, and what they share."""

from typing import Any, NamedTuple

from keras_senet.cli.options.sources import EXPORTED, Source
from keras_senet.cli.tables import status
from keras_senet.runs.record import read_recipe
from keras_senet_cli import quiet


def load_detector(source: Source) -> Any:
    """What detects: a `Detector`, or an exported file with its `detect` and `class_names`."""
    with status(f"loading {source.text}"), quiet():
        if source.kind in EXPORTED:
            from keras_senet.export.detector import load_exported

            return load_exported(source.text)
        from keras_senet import detection

        return detection.load(source.text)


class Opened(NamedTuple):
    """Images with boxes, and the name of their dataset."""

    dataset: str
    images: Any


def open_images(options: Any) -> Opened:
    """The images that `--dataset` and `--split` ask for, by default of the run's own dataset.

    Raises:
        ValueError: if there is no run, and no dataset is given.
    """
    from keras_senet import detection

    name = options.dataset
    if name is None and options.source.kind == "run":
        name = read_recipe(options.source.text, detection.Recipe).dataset
    if name is None:
        raise ValueError(
            f"--dataset must be given, as {options.source.text!r} is no training run: scenes, a "
            "folder or a JSON file of COCO, coco/2017 or voc/2007"
        )
    with status(f"opening {name}"), quiet():
        return Opened(name, detection.load_data(name, options.split, options.data_dir))
