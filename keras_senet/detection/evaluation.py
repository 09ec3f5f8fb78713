"""COCO's average precision, by pycocotools."""

import contextlib
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_senet.detection.data.truths import BoxedImages
from keras_senet.detection.detections import Detections
from keras_senet.detection.faster_rcnn import Detector
from keras_senet.extras import require

# The 12 figures in the order of pycocotools
FIGURES = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large"),
)


@dataclass(frozen=True)
class AveragePrecision:
    """How well boxes were found, 0..1; NaN where no truth counts.

    figures    COCO's 12 by name, `FIGURES`: AP is the mean over IoU of 0.50 to 0.95 and classes
    by_class   AP by the name of the class
    precision  (10, 101, classes) by IoU threshold, recall (0, 0.01, ..., 1) and class
    """

    figures: Mapping[str, float]
    by_class: Mapping[str, float]
    precision: np.ndarray


def evaluate(
    detector: Detector, dataset: BoxedImages, *, skip_corrupt: bool = False
) -> AveragePrecision:
    """The `AveragePrecision` of a detector on images, each on a canvas of its own.

    Their classes may have another order than the detector's. With `skip_corrupt`, images that
    cannot be used are left out.

    Raises:
        ValueError: if the detector has other classes, or for an image that cannot be decoded.
        OSError: for one that cannot be read.
        MissingExtraError: without pycocotools.
    """
    dataset = dataset.with_classes(detector.class_names)
    found, usable = [], []
    for index in range(len(dataset)):
        try:
            found += detector.detect([dataset.images[index]])
            usable.append(index)
        except (ValueError, OSError):
            if not skip_corrupt:
                raise
    dataset = dataset.subset(usable)
    return compute(dataset.to_coco(), to_results(found, dataset.ids, dataset.categories))


def count_objects(images: BoxedImages) -> dict[str, int]:
    """How many objects of each class there are."""
    counts = dict.fromkeys(images.class_names, 0)
    for truth in images.truths:
        for label in truth.classes[~truth.crowds]:
            counts[images.class_names[label]] += 1
    return counts


def to_results(
    found: Iterable[Detections], ids: Sequence[int], categories: Sequence[int]
) -> list[dict[str, Any]]:
    """Detections in COCO's format of results, with the numbers of images and categories."""
    rows = []
    for number, each in zip(ids, found, strict=True):
        for (x1, y1, x2, y2), score, label in zip(
            each.boxes.tolist(), each.scores.tolist(), each.classes.tolist(), strict=True
        ):
            rows.append(
                {
                    "image_id": number,
                    "category_id": categories[label],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": score,
                }
            )
    return rows


def compute(truth: dict[str, Any], results: list[dict[str, Any]]) -> AveragePrecision:
    """The `AveragePrecision` of results in COCO's format.

    Raises:
        MissingExtraError: without pycocotools.
    """
    evaluation = _run(*_renumber(truth, results))
    # IoU thresholds, recalls, classes, areas (all first), most detections (100 last)
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    by_class = {
        category["name"]: float(np.mean(values)) if (values > -1).all() else math.nan
        for category, values in zip(truth["categories"], precision.transpose(2, 0, 1), strict=True)
    }
    figures = (value if value > -1 else math.nan for value in evaluation.stats.tolist())
    precision = np.where(precision > -1, precision, math.nan)
    return AveragePrecision(dict(zip(FIGURES, figures, strict=True)), by_class, precision)


def _renumber(truth, results):
    """The same with images and categories counted from 1, and 0 for categories that are not listed.

    pycocotools makes NumPy arrays of their numbers, in which large ones may become others, and
    loses what is of these.
    """
    images, categories = (
        {entry["id"]: number for number, entry in enumerate(truth[what], 1)}
        for what in ("images", "categories")
    )

    def renumber(rows):
        for row in rows:
            image, category = images[row["image_id"]], categories.get(row["category_id"], 0)
            yield row | {"image_id": image, "category_id": category}

    listed = {
        "images": [{"id": number} for number in images.values()],
        "categories": [{"id": number} for number in categories.values()],
        "annotations": list(renumber(truth["annotations"])),
    }
    return listed, list(renumber(results))


def _run(truth, results):
    """pycocotools' evaluation, without what it prints."""
    library = require("pycocotools.coco", "detection")
    evaluator = require("pycocotools.cocoeval", "detection")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = library.COCO()
        coco.dataset = {"info": {}, **truth}
        coco.createIndex()
        found = coco.loadRes(results) if results else library.COCO()  # it refuses an empty list
        evaluation = evaluator.COCOeval(coco, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation
