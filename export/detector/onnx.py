"""The ONNX file of a detector: its networks by the emitters of their layers, and what is between
them written as nodes.
"""

import json
import math
from typing import Any

import numpy as np

from keras_senet.detection import Detector
from keras_senet.detection.boxes import LARGEST_CHANGE
from keras_senet.detection.faster_rcnn import (
    HEAD_WEIGHTS,
    LEAST_DETECTION,
    LEAST_PROPOSAL,
    PROPOSAL_WEIGHTS,
)
from keras_senet.detection.network import PYRAMID
from keras_senet.detection.suppression import ANY, NONE, offsets
from keras_senet.extras import require
from keras_senet_cli import __version__

from ..model import output_names
from ..onnx import layers  # noqa: F401 -- it registers emitters, with what it imports
from ..onnx.emitters import check_supported, emit_model
from ..onnx.graph import OnnxGraph, UnsupportedLayerError, Value

OPSET = 18  # whose reductions and shapes are written
RESULTS = ("boxes", "scores", "classes", "count")


def write_onnx(
    detector: Detector, canvases: list[tuple[int, int]], about: dict[str, Any], target: Any
) -> None:
    """Writes the file; `about` goes into its metadata, as JSON.

    Raises:
        ValueError: for a backbone with a layer that has no emitter.
    """
    onnx = require("onnx", "export")
    (canvas,) = canvases
    try:
        proto = _make_proto(detector, canvas)
    except UnsupportedLayerError as error:
        raise ValueError(f"An ONNX file cannot be written of this backbone: {error}") from error
    source = f"keras_senet {__version__}, {detector.name}"
    texts = {key: json.dumps(value, ensure_ascii=False) for key, value in about.items()}
    onnx.helper.set_model_props(proto, {"source": source, **texts})
    proto.producer_name, proto.producer_version = "keras_senet", __version__
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, str(target))


def _make_proto(detector, canvas):
    for part in (detector.proposer, detector.head):
        check_supported(part)
    graph = OnnxGraph(OPSET, ("size", *RESULTS))
    writer = _Writer(graph, detector, canvas)
    results = dict(zip(RESULTS, writer.detect(), strict=True))
    for name, found in results.items():
        graph.set_result(found, name)
    most = detector.spec.most
    shapes = {"boxes": (most, 4), "scores": (most,), "classes": (most,), "count": ()}
    inputs = {"images": (1, *canvas, len(detector.preprocessing.mean)), "size": (2,)}
    integers = ("size", "classes", "count")
    return graph.to_proto(detector.name, inputs, shapes, integers)


class _Writer:
    """Writes what `Detector.detect_in_canvas` computes, step by step; values are known by name."""

    def __init__(self, graph, detector, canvas):
        self.graph, self.detector, self.spec, self.canvas = graph, detector, detector.spec, canvas
        self.scope = ""

    def add(self, operator, *inputs, **attributes) -> str:
        (output,) = self.add_outputs(1, operator, *inputs, **attributes)
        return output

    def add_outputs(self, count, operator, *inputs, **attributes) -> list[str]:
        name = f"{self.scope}/{operator.lower()}"
        names = [each if isinstance(each, str) else self.constant(each) for each in inputs]
        return self.graph.add_outputs(count, operator, *names, name=name, **attributes)

    def constant(self, value) -> str:
        """Of int64 if it is integers, of bool if it is truth values."""
        array = np.asarray(value)
        dtype = {"i": "int64", "b": "bool"}.get(array.dtype.kind, "float32")
        return self.graph.constant(array, f"{self.scope}/constant", dtype)

    def cast(self, value, dtype) -> str:
        return self.add("Cast", value, to=getattr(self.graph.onnx.TensorProto, dtype))

    def split(self, value, sizes, axis=-1) -> list[str]:
        return self.add_outputs(len(sizes), "Split", value, list(sizes), axis=axis)

    def detect(self):
        """The values of `RESULTS`."""
        images = self.graph.add("Transpose", "images", perm=(0, 3, 1, 2), name="channels_first")
        shape = (None, *self.canvas, len(self.detector.preprocessing.mean))
        maps = self.emit(self.detector.proposer, Value(images, shape))
        self.scope = "limits"
        self.limits = self.add("Gather", self.cast("size", "FLOAT"), [1, 0, 1, 0])
        proposals = self.propose(maps)
        return self.choose(*self.classify(maps, proposals), proposals)

    def emit(self, network, value):
        """The outputs of a network, `Value`s by name."""
        return dict(zip(output_names(network), emit_model(self.graph, network, value), strict=True))

    def propose(self, maps):
        """The proposals (n, 4)."""
        self.scope = "proposals"
        ratios = len(self.spec.anchors.ratios)
        grids = [[-(-side // 2**level) for side in self.canvas] for level in range(2, 7)]
        counts = [math.prod(grid) * ratios for grid in grids]
        logits = self.split(self.add("Reshape", maps["objectness"].name, [-1]), counts)
        deltas = self.split(self.add("Reshape", maps["deltas"].name, [-1, 4]), counts, axis=0)
        found = []
        for level, name in enumerate(PYRAMID):
            self.scope = f"proposals_{name}"
            found.append(self.best_of_level(level, logits[level], deltas[level], grids[level]))
        self.scope = "proposals"
        boxes, apart, logits = (
            self.add("Concat", *parts, axis=0) for parts in zip(*found, strict=True)
        )
        is_box = self.add("GreaterOrEqual", self.short_side(boxes), LEAST_PROPOSAL)
        scores = self.add("Where", is_box, logits, NONE)
        chosen, valid, _ = self.select_best(
            apart, scores, self.spec.proposal_overlap, self.spec.proposals[1], ANY
        )
        return self.take(boxes, chosen, valid)

    def best_of_level(self, level, logits, deltas, grid):
        """The boxes, the same moved apart from those of other levels, and logits of the anchors
        with the largest logits.
        """
        most = min(self.spec.proposals[0], math.prod(grid) * len(self.spec.anchors.ratios))
        logits, indices = self.add_outputs(2, "TopK", logits, [most])
        anchors = self.anchors(level, indices, grid)
        boxes = self.decode(self.add("Gather", deltas, indices), anchors, PROPOSAL_WEIGHTS)
        boxes = self.clip(boxes)
        return boxes, self.add("Add", boxes, offsets(level, max(self.canvas))), logits

    def anchors(self, level, indices, grid):
        """As `Anchors.boxes` computes them."""
        ratios = len(self.spec.anchors.ratios)
        place = self.add("Div", indices, ratios)
        rows, columns = self.add("Div", place, grid[1]), self.add("Mod", place, grid[1])
        strides = [side // cells for side, cells in zip(self.canvas, grid, strict=True)]
        places = [
            self.add("Unsqueeze", self.add("Mul", each, stride), [1])
            for each, stride in ((columns, strides[1]), (rows, strides[0]))
        ]
        corners = self.cast(self.add("Concat", *places, *places, axis=1), "FLOAT")
        shapes = self.spec.anchors.shapes(level)
        return self.add(
            "Add", self.add("Gather", shapes, self.add("Mod", indices, ratios)), corners
        )

    def classify(self, maps, proposals):
        """The logits (n, 1 + classes) and deltas (n, 1 + classes, 4)."""
        self.scope = "pooled"
        side, points = self.spec.pool_side, self.spec.pool_points
        levels, images = self.levels_of(proposals), [0] * self.spec.proposals[1]
        pooled = ""
        for level, name in enumerate(PYRAMID[:4], start=2):
            found = self.add(
                "RoiAlign",
                maps[name].name,
                proposals,
                images,
                coordinate_transformation_mode="output_half_pixel",
                output_height=side,
                output_width=side,
                sampling_ratio=points,
                spatial_scale=0.5**level,
            )
            if pooled:
                is_here = self.add("Equal", levels, float(level))
                found = self.add("Where", is_here, found, pooled)
            pooled = found
        shape = (None, side, side, self.spec.channels)
        found = self.emit(self.detector.head, Value(pooled, shape))
        return found["classes"].name, found["deltas"].name

    def levels_of(self, boxes):
        """The level (n, 1, 1, 1) that each is pooled from, a float."""
        lower, upper = self.split(boxes, (2, 2))
        sides = self.split(self.add("Sub", upper, lower), (1, 1))
        side = self.add("Sqrt", self.add("Mul", *sides))
        level = self.add("Log", self.add("Div", side, self.spec.canonical))
        level = self.add("Add", self.add("Div", level, math.log(2)), 4.0)
        level = self.add("Floor", self.add("Add", level, 1e-6))
        return self.add("Unsqueeze", self.add("Clip", level, 2.0, 5.0), [2, 3])

    def choose(self, logits, deltas, proposals):
        """The values of `RESULTS`."""
        self.scope = "detections"
        names = self.detector.class_names
        scores = self.without_background(self.add("Softmax", logits, axis=-1))
        rows = self.add("Unsqueeze", proposals, [1])
        boxes = self.clip(self.decode(self.without_background(deltas), rows, HEAD_WEIGHTS))
        is_box = self.add("GreaterOrEqual", self.short_side(boxes), LEAST_DETECTION)
        is_proposal = self.add("Greater", self.short_side(rows), 0.0)
        is_box = self.add("And", is_box, is_proposal)
        is_box = self.add("And", is_box, [bool(name) for name in names])
        scores = self.add("Where", is_box, scores, NONE)
        apart = self.add("Add", boxes, offsets(np.arange(len(names)), max(self.canvas)))
        boxes, apart = (self.add("Reshape", each, [-1, 4]) for each in (boxes, apart))
        scores = self.add("Reshape", scores, [-1])
        chosen, valid, count = self.select_best(
            apart, scores, self.spec.overlap, self.spec.most, self.spec.score
        )
        classes = self.add("Mod", chosen, len(names))
        return (
            self.take(boxes, chosen, valid),
            self.add("Where", valid, self.add("Gather", scores, chosen), 0.0),
            self.cast(self.add("Where", valid, classes, 0), "INT32"),
            self.cast(self.add("Squeeze", count, [0]), "INT32"),
        )

    def without_background(self, values):
        """(n, 1 + classes, ...) -> (n, classes, ...)"""
        return self.add("Slice", values, [1], [1 + len(self.detector.class_names)], [1])

    def decode(self, deltas, boxes, weights):
        """As `boxes.decode`, with both axes at once."""
        lower, upper = self.split(boxes, (2, 2))
        sides = self.add("Sub", upper, lower)
        centers = self.add("Add", lower, self.add("Div", sides, 2.0))
        shifts, growths = self.split(self.add("Div", deltas, np.float32(weights)), (2, 2))
        centers = self.add("Add", centers, self.add("Mul", shifts, sides))
        growths = self.add("Exp", self.add("Min", growths, LARGEST_CHANGE))
        halves = self.add("Div", self.add("Mul", sides, growths), 2.0)
        corners = self.add("Sub", centers, halves), self.add("Add", centers, halves)
        return self.add("Concat", *corners, axis=-1)

    def clip(self, boxes):
        return self.add("Min", self.add("Max", boxes, 0.0), self.limits)

    def short_side(self, boxes):
        """(..., 4) -> (...)"""
        lower, upper = self.split(boxes, (2, 2))
        return self.add("ReduceMin", self.add("Sub", upper, lower), [-1], keepdims=0)

    def select_best(self, apart, scores, overlap, most, least):
        """The indices (most,) of the best boxes, which of them are, and how many (1,)."""
        found = self.add(
            "NonMaxSuppression",
            self.add("Unsqueeze", apart, [0]),
            self.add("Unsqueeze", scores, [0, 1]),
            [most],
            [overlap],
            [least],
        )
        indices = self.add("Gather", found, 2, axis=1)  # of (image, class, box)
        filled = self.add("Concat", indices, [0] * most, axis=0)
        count = self.add("Shape", found, end=1)
        valid = self.add("Less", np.arange(most), count)
        return self.add("Slice", filled, [0], [most]), valid, count

    def take(self, boxes, chosen, valid):
        """The boxes at the indices, and zeros where none is."""
        valid = self.add("Unsqueeze", valid, [1])
        return self.add("Where", valid, self.add("Gather", boxes, chosen), 0.0)
