"""The TFLite file of a detector."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from keras_senet.detection import Detector
from keras_senet.extras import require

from ..formats import Common
from ..metadata_tables import (
    LABELS,
    graph,
    image_properties,
    labels_file,
    normalization,
    pack_table,
    tensor,
)
from ..tflite import TFLite
from ..tflite_converter import convert
from ..tflite_metadata import ABOUT, assemble, make_labels

# In the order of the operator for SSD, TFLite_Detection_PostProcess.
OUTPUTS = ("boxes", "classes", "scores", "count")
NAMELESS = "???"  # as in TensorFlow's lists of COCO's classes
BOX_PROPERTIES = 3  # ContentProperties
BOUNDARIES, PIXELS = 1, 1  # BoundingBoxType, CoordinateType
TENSOR_VALUE_LABELS = 3  # AssociatedFileType


def write_tflite(
    detector: Detector,
    canvases: list[tuple[int, int]],
    options: TFLite,
    about: dict[str, Any],
    target: Path,
) -> None:
    """Writes the file, with what it says of itself as LiteRT's tools read it, and as JSON."""
    (canvas,) = canvases
    serve = detector.function(*canvas)
    content = convert(detector, serve, options, Common())
    files = {
        LABELS: make_labels(name or NAMELESS for name in detector.class_names),
        ABOUT: json.dumps(about, ensure_ascii=False),
    }
    name = detector.name
    target.write_bytes(assemble(_in_order(content), name, _graph_metadata(detector), files))


def _in_order(content):
    """The file with its outputs in the order of `OUTPUTS`."""
    schema = require("ai_edge_litert.schema_py_generated", "export")
    content = bytearray(content)
    model: Any = schema.Model.GetRootAs(content)
    signature = model.SignatureDefs(0)
    outputs = [signature.Outputs(i) for i in range(signature.OutputsLength())]
    tensors = {each.Name().decode(): each.TensorIndex() for each in outputs}
    results = model.Subgraphs(0).OutputsAsNumpy()  # a view: the indices are changed in the bytes
    assert isinstance(results, np.ndarray)
    results[:] = [tensors[name] for name in OUTPUTS]
    return bytes(content)


def _graph_metadata(detector):
    """The table SubGraphMetadata."""
    mean, std = detector.preprocessing.mean, detector.preprocessing.std
    images = tensor(
        "images",
        "RGB (pixel - mean) / std, with zeros at the right and at the bottom",
        image_properties(len(mean)),
        process_units=[normalization(mean, std)],
    )
    size = tensor("size", "The height and width of `images` without the zeros")
    corners = pack_table("BoundingBoxProperties", type=BOUNDARIES, coordinate_type=PIXELS)
    boxes = tensor(
        "boxes",
        "x1, y1, x2, y2 in pixels of `images`; zeros after `count` of them",
        (BOX_PROPERTIES, corners),
    )
    labels = labels_file(TENSOR_VALUE_LABELS)
    classes = tensor("classes", "Numbers of the classes, from 0", associated_files=[labels])
    scores = tensor("scores", "Probabilities, the largest first")
    count = tensor("count", "How many boxes were found")
    return graph([images, size], [boxes, classes, scores, count])
