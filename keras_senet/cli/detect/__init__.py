"""The commands of `keras-senet detect`, one module each, and what they share."""

from typing import Any, NamedTuple

from keras_senet.cli.options.sources import EXPORTED, Source
from keras_senet.cli.tables import status
from keras_senet.runs.record import read_division, read_recipe
from keras_senet_cli import quiet


def load_detector(source: Source) -> Any:
    """What detects: a `Detector`, or an exported file with its `detect` and `class_names`."""
    with status(f"loading {source.text}"), quiet():
        if source.kind in EXPORTED:
            from keras_senet.export.detector import load_exported

            return load_exported(source.text)
        from keras_senet import detection

        return detection.load(source.text)


class OpenedBoxes(NamedTuple):
    """Images with boxes, the name of their dataset, which of it they are: "train", "val" or "test",
    or "all" of what is not divided; and whether the run was trained on them.
    """

    dataset: str
    split: str
    images: Any
    is_trained_on: bool


def open_boxes(options: Any) -> OpenedBoxes:
    """The images that `--dataset` and `--split` ask for, by default of the run's own dataset,
    which is divided as the run did. Another one is not divided: nothing of it was trained on.

    Raises:
        ValueError: if there is no run, and no dataset is given.
    """
    from keras_senet import detection
    from keras_senet.detection.data.loading import (
        divide_as_run,
        has_same_training_images,
        resolve_split,
    )

    name, own, division, data_dir = options.dataset, None, {}, options.data_dir
    if options.source.kind == "run":
        recipe = read_recipe(options.source.text, detection.Recipe)
        own = recipe.dataset
        name = name or own
        division = divide_as_run(name, own, read_division(options.source.text, recipe), data_dir)
    if name is None:
        raise ValueError(
            f"--dataset must be given, as {options.source.text!r} is no training run: scenes, a "
            "folder or a JSON file of COCO, coco/2017 or voc/2007"
        )
    with status(f"opening {name}"), quiet():
        images = detection.load_data(name, options.split, data_dir, **division)
        split = resolve_split(name, options.split, data_dir, divides=bool(division), trained_on=own)
        is_own = bool(division) or has_same_training_images(name, own)
        return OpenedBoxes(name, split, images, split == "train" and is_own)
