"""The commands of `keras-senet detect`, one module each, and what they share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras_senet.cli.options.sources import EXPORTED, Source
from keras_senet.cli.tables import status
from keras_senet.runs.record import read_division, read_recipe
from keras_senet_cli import quiet

if TYPE_CHECKING:
    from keras_senet.detection.data.loading import OpenedBoxes


def load_detector(source: Source) -> Any:
    """What detects: a `Detector`, or an exported file with its `detect` and `class_names`."""
    with status(f"loading {source.text}"), quiet():
        if source.kind in EXPORTED:
            from keras_senet.export.detector import load_exported

            return load_exported(source.text)
        from keras_senet import detection

        return detection.load(source.text)


def open_boxes(options: Any) -> OpenedBoxes:
    """The images that `--dataset` and `--split` ask for, by default of the run's own dataset,
    which is divided as the run did. Another one is not divided: nothing of it was trained on.

    Raises:
        ValueError: if there is no run, and no dataset is given.
    """
    from keras_senet.detection import Recipe
    from keras_senet.detection.data.loading import load_boxes_for_run

    name, own, division = options.dataset, None, {}
    if options.source.kind == "run":
        recipe = read_recipe(options.source.text, Recipe)
        own, division = recipe.dataset, read_division(options.source.text, recipe)
        name = name or own
    if name is None:
        raise ValueError(
            f"--dataset must be given, as {options.source.text!r} is no training run: scenes, a "
            "folder or a JSON file of COCO, coco/2017 or voc/2007"
        )
    with status(f"opening {name}"), quiet():
        return load_boxes_for_run(name, options.split, options.data_dir, own, division)
