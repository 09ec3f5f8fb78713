"""Detectors in files: weights, with the architecture, the preprocessing and the classes."""

import json
import logging
from pathlib import Path

from keras_senet import models
from keras_senet.detection.faster_rcnn import Detector, FasterRCNN
from keras_senet.detection.torchvision import load_torchvision
from keras_senet.extras import require
from keras_senet.files import write_atomically
from keras_senet.models.blocks import read_spec
from keras_senet.runs import BEST_MODEL, MODEL, RECIPE
from keras_senet.weights.metadata import (
    METADATA,
    check_ending,
    class_names_of,
    describe,
    restore,
    stored_preprocessing,
)
from keras_senet.weights.names import from_own, own_name, to_own
from keras_senet.weights.readers import TORCH, open_file

ENDING = ".safetensors"
logger = logging.getLogger("keras_senet")


def save(detector: Detector, path: str | Path) -> None:
    """Writes a detector to a `.safetensors` file, whole or not at all.

    Raises:
        ValueError: for another ending.
        MissingExtraError: without safetensors.
        OSError: if it cannot be written.
    """
    library = require("safetensors.numpy", "weights")
    path = Path(path)
    check_ending(path, (ENDING,))
    about = {
        "detector": describe(detector.spec),
        "backbone": describe(detector.backbone.spec),
        "preprocessing": describe(detector.preprocessing),
        "class_names": list(detector.class_names),
    }
    arrays = {own_name(variable): variable.numpy() for variable in detector.variables}
    # As bytes: the library's own errors of a full disk or a missing folder are no OSErrors.
    write_atomically(path, library.save(to_own(arrays), metadata={METADATA: json.dumps(about)}))


def load(path: str | Path) -> Detector:
    """The detector of a file that `save` wrote, of torchvision's `fasterrcnn_resnet50_fpn`
    (`.pth`), or of the work directory of a training run: of one that has not ended the best one so
    far, which is logged.

    Raises:
        ValueError: if the file is damaged, or of something else.
        FileNotFoundError: if there is none, or a run of which no epoch has been evaluated.
        OSError: if it cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        path = _find_in_run(path)
    check_ending(path, (ENDING, *TORCH))
    if not path.name.endswith(ENDING):
        return load_torchvision(path)
    with open_file(path) as file:
        try:
            detector = _build(file.metadata)
        except (ValueError, KeyError, TypeError) as error:
            reason = str(error)[:200]
            raise ValueError(f"{str(path)!r} holds no detector ({reason})") from error
        detector.assign(from_own(file.entries))
    return detector


def _find_in_run(workdir):
    """The file of the detector that a run has trained."""
    if (workdir / MODEL).is_file():
        return workdir / MODEL
    if not (workdir / BEST_MODEL).is_file():
        what = "a run that has not ended" if (workdir / RECIPE).is_file() else "no training run"
        raise FileNotFoundError(f"{str(workdir)!r} holds {what}: there is no {MODEL}")
    logger.warning("the run in %r has not ended: its best detector so far is taken", str(workdir))
    return workdir / BEST_MODEL


def _build(metadata):
    """The detector that metadata describe, with random weights."""
    if not isinstance(metadata, dict) or "detector" not in metadata:
        raise ValueError("it does not say which")
    constructor = models.find(read_spec(metadata["backbone"]))
    backbone = constructor(include_top=False, weights=None, input_shape=(None, None, 3))
    backbone.preprocessing = stored_preprocessing(metadata)
    return restore(metadata["detector"], FasterRCNN)(backbone, class_names_of(metadata))
