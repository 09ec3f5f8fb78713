"""From a `Detector` to a file that finds the same."""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from keras_senet.detection import Detector
from keras_senet.detection.canvas import MULTIPLE, check_canvas, check_images, read_image
from keras_senet.extras import require
from keras_senet.weights.metadata import describe

from ..folding import fold
from ..formats import Common, FormatOptions
from ..model import check_tensorflow, in_float32
from ..parity import ExportReport
from ..staging import stage_file
from .onnx import OPSET
from .parity import measure_detector

# Fields of options that a detector's file has.
OPTIONS = ("quantization", "opset")
# Of `Common`, that it has not.
NOT_COMMON = ("preprocessing", "class_names", "representative_images", "evaluation")


def export_detector(
    detector: Detector, path: str | os.PathLike, options: FormatOptions, common: Common
) -> ExportReport:
    """`export_model` of a detector: on `Common.images`, paths or arrays of any size, the file must
    find what `detect` finds.

    Raises what `to_saved_model`, `to_tflite` and `to_onnx` raise.
    """
    check_tensorflow("A file of a detector")
    _check_options(options, common, detector)
    canvases = find_canvases(detector, common.canvas)
    if len(canvases) > 1 and options.kind != "savedmodel":
        raise ValueError(
            f"`canvas` must be one (H, W) for a {options.kind} file, which takes images of one "
            f"size. Received: {common.canvas!r}"
        )
    images = choose_images(detector, common.images)
    about = describe_file(detector, canvases)
    detector = _in_float32(detector)
    exported = fold_detector(detector)
    is_folder = options.kind == "savedmodel"
    with stage_file(path, common.overwrite, is_folder) as target:
        options.write_detector(exported, canvases, about, target)
        measured = measure_detector(target, detector, exported, options, canvases, images)
    return ExportReport(str(path), options.kind, options.quantization, **measured)


def _check_options(options, common, detector):
    """Raises ValueError for what a detector's file cannot have."""
    if options.quantization not in options.DETECTOR_QUANTIZATIONS:
        raise ValueError(
            f"`quantization` of a detector's {options.kind} file must be one of "
            f"{options.DETECTOR_QUANTIZATIONS}: the corners of boxes are pixels, of which the 256 "
            "values of 8 bits cannot tell enough, and rounded weights find other boxes. "
            f"Received: quantization={options.quantization!r}"
        )
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.name not in OPTIONS and value != field.default:
            raise ValueError(f"`{field.name}` is not for a detector. Received: {value!r}")
    if getattr(options, "opset", OPSET) != OPSET:
        raise ValueError(f"`opset` of a detector must be {OPSET}. Received: {options.opset}")
    for name in NOT_COMMON:
        value, own = getattr(common, name), getattr(detector, name, None)
        if value is not None and not np.array_equal(value, own):
            raise ValueError(f"`{name}` is not for a detector. Received: {type(value)}")


def find_canvases(detector: Detector, given: Any) -> list[tuple[int, int]]:
    """The sizes of an argument `canvas`: one, several, or None for a square for any image."""
    if given is None:
        side = -(-max(detector.spec.short, detector.spec.long) // MULTIPLE) * MULTIPLE
        given = (side, side)
    is_several = (
        isinstance(given, Iterable)
        and not isinstance(given, str)
        and all(isinstance(each, Iterable) for each in given)
    )
    canvases = [check_canvas(each) for each in (given if is_several else [given])]
    if not canvases or len(set(canvases)) < len(canvases):
        raise ValueError(f"`canvas` must be different sizes, at least one. Received: {given!r}")
    for canvas in canvases:
        detector.check_taken(canvas)
    return canvases


def choose_images(detector: Detector, given: Any) -> list[np.ndarray]:
    """The images of an argument `images`; None is parts of scikit-learn's sample photographs."""
    channels = len(detector.preprocessing.mean)
    if given is None:
        photographs = require("sklearn.datasets", "detection").load_sample_images().images
        # of one shape each: wide, and tall
        given = [part for each in photographs for part in (each, each[:, 200:440])]
        if channels != 3:
            given = [np.repeat(each.mean(-1, keepdims=True), channels, -1) for each in given]
    check_images(given)
    images = [read_image(each, channels) for each in given]
    if not images:
        raise ValueError("`images` must be images, at least one. Received: 0")
    return images


def _in_float32(detector):
    """The detector itself, or of one in mixed precision a copy that computes in float32."""
    networks = in_float32(detector.proposer), in_float32(detector.head)
    if networks == (detector.proposer, detector.head):
        return detector
    return detector.with_networks(*networks)


def fold_detector(detector: Detector) -> Detector:
    """The detector with batch normalisation inside the convolutions of both networks."""
    return detector.with_networks(fold(detector.proposer), fold(detector.head))


def describe_file(detector, canvases: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """What a file says of itself, as data that JSON holds."""
    preprocessing = describe(detector.preprocessing)
    preprocessing.pop("class")
    return {
        "preprocessing": preprocessing,
        "class_names": list(detector.class_names),
        "detector": {
            "boxes": "x1, y1, x2, y2 in pixels of the canvas",
            "canvases": [list(canvas) for canvas in canvases],
            "short": detector.spec.short,
            "long": detector.spec.long,
        },
        "score": detector.spec.score,  # detections have more
    }
