"""The page of a detector's run."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_senet import detection
from keras_senet.data.sources import select_evenly
from keras_senet.detection.data.loading import load_boxes_for_run
from keras_senet.detection.evaluation import compute, count_objects, to_results
from keras_senet.detection.mistakes import KINDS, find_mistakes
from keras_senet.fields import check_argument
from keras_senet.plots.detection import (
    LOSSES,
    PRECISIONS,
    best_and_worst,
    crop_mistake,
    known_classes,
    mean_curves,
)
from keras_senet.progress import track
from keras_senet.report.charts import Axis, Style, line_chart, make_chart
from keras_senet.report.pictures import Picture, thumbnail
from keras_senet.report.sections import (
    ExportColumn,
    PageContent,
    Wanted,
    describe_run,
)
from keras_senet.report.text import FILTERS
from keras_senet.runs import MODEL
from keras_senet.runs.record import describe_recipe, read_division, read_record
from keras_senet.runs.splits import WORDS
from keras_senet.runs.tables import best_by, rows_with

OF_IMAGES = "average precision, detections and mistakes"
NOTHING = dict.fromkeys(
    ("figures", "missing", "precision", "classes", "scenes", "mistakes", "parts"), ""
)
SPLITS = ("train", "val", "test")
CURVES = 6  # classes with a curve: with more, half of so many of the best and of the worst
SCENES = 12  # images that are shown with their boxes
SHOWN_SCORE = 0.5  # of the boxes there
MISTAKES = 6  # of each kind, with a picture
SIDE = 320  # pixels of a picture at most

EXPORT_COLUMNS = (
    ExportColumn("size", "bytes", FILTERS["size"]),
    ExportColumn("boxes found", "top1_agreement", FILTERS["percent"]),
    ExportColumn("box error, pixels", "max_abs_error", lambda v: FILTERS["number"](v, ".1e")),
    ExportColumn("score error", "score_error", lambda v: FILTERS["number"](v, ".1e")),
    ExportColumn("AP", "accuracy", FILTERS["number"]),
    ExportColumn("in Keras", "keras_accuracy", FILTERS["number"]),
    ExportColumn("ms/image", "latency_ms", lambda v: FILTERS["number"](v, ".2f")),
)


def describe_run_page(workdir: str | Path, wanted: Wanted) -> PageContent:
    """The `PageContent` of the page. Raises as `write_page` does."""
    accepted = f"one of {', '.join(map(repr, SPLITS))} for a detector"
    check_argument("split", wanted.split, wanted.split in SPLITS, accepted)
    kind = detection.Recipe
    record = read_record(workdir, kind, (MODEL,))
    recipe, rows = record.recipe, record.rows
    page = NOTHING | describe_run(record)
    page |= {
        "title": describe_recipe(recipe),
        "split": WORDS[wanted.split],
        "given_dataset": str(wanted.dataset or ""),
        "figures": _last_figures(rows),
        "best": best_by(rows, "ap"),
        "charts": _charts(recipe.epochs, rows),
        "export_columns": EXPORT_COLUMNS,
    }
    if record.ended:
        detector = detection.load(workdir)
        page["parts"] = _count_parameters(detector)
        page |= wanted.describe_images(
            lambda: _describe_images(detector, recipe, Path(workdir), wanted)
        )
    return PageContent("detection.html", page, OF_IMAGES)


def _last_figures(rows):
    """AP, AP50 and AP75 of the last evaluation in the metrics, and its epoch; None without one."""
    if not (found := rows_with(rows, "ap")):
        return None
    row = found[-1]
    figures = {label: row.get(name, math.nan) for name, label in PRECISIONS.items()}
    return {"values": figures, "epoch": int(row["epoch"]), "images": None}


def _charts(epochs, rows):
    def columns(names):
        return {
            label: lambda row, name=name: row.get(name, math.nan) for name, label in names.items()
        }

    rates, precisions = columns({"learning_rate": "rate"}), columns(PRECISIONS)
    charts = (
        line_chart("Loss", rows, columns(LOSSES), epochs=epochs, may_be_log=True),
        line_chart("Average precision", rows, precisions, epochs=epochs, style=Style(form=".3f")),
        line_chart("Learning rate", rows, rates, epochs=epochs, style=Style(ticks=3)),
    )
    return [chart for chart in charts if chart]


def _count_parameters(detector):
    backbone = detector.backbone.count_params()
    parts = {
        "backbone": backbone,
        "pyramid and proposals": detector.proposer.count_params() - backbone,
        "box head": detector.head.count_params(),
    }
    return {"rows": parts, "total": sum(parts.values())}


def _describe_images(detector, recipe, workdir, wanted):
    name, division = wanted.dataset or recipe.dataset, read_division(workdir, recipe)
    opened = load_boxes_for_run(name, wanted.split, wanted.data_dir, recipe.dataset, division)
    images = opened.images.with_classes(detector.class_names)
    found = list(track(detector.detect(images.images), wanted.progress, "detecting", len(images)))
    precision = compute(images.to_coco(), to_results(found, images.ids, images.categories))
    figures = {name: precision.figures[name] for name in PRECISIONS.values()}
    return {
        "split": WORDS[opened.split],
        "figures": {"values": figures, "images": len(images), "epoch": None},
        "precision": {
            "charts": _precision_charts(precision),
            "figures": {n.replace("_", " "): v for n, v in precision.figures.items()},
        },
        "classes": _classes(precision.by_class, images),
        "scenes": _scenes(found, images) if wanted.thumbnails else [],
        "mistakes": _mistakes(found, images, wanted.thumbnails),
    }


def _precision_charts(precision):
    """Precision by recall: the mean over classes at several IoU thresholds, and some classes."""
    values, recall = precision.precision, np.linspace(0, 1, precision.precision.shape[1])
    known, names = known_classes(precision.by_class), list(precision.by_class)
    if not known:
        return []
    means = {f"IoU {n:g}": curve.tolist() for n, curve in mean_curves(values, known).items()}
    shown = best_and_worst(values, known, CURVES)
    classes = {names[k]: values[0][:, k].tolist() for k in shown}
    charts = {"Mean over classes": means, "Best and worst classes at IoU 0.5": classes}
    axes = Axis(0.0, 1.0), Axis(0.0, 1.02)
    points = [round(float(each), 2) for each in recall]
    return [
        make_chart(title, "recall", points, curves, axes, Style(form=".3f", averages=True))
        for title, curves in charts.items()
    ]


def _classes(by_class, images):
    """(name, objects, AP or None) of each class, the best first."""
    counts = count_objects(images)
    rows = [(n, counts[n], ap if math.isfinite(ap) else None) for n, ap in by_class.items()]
    return sorted(rows, key=lambda row: -1 if row[2] is None else row[2], reverse=True)


class Overlay(NamedTuple):
    """A box on a picture, in percent of its sides, with a text."""

    left: float
    top: float
    width: float
    height: float
    text: str


def _overlay(box, size, text):
    height, width = size
    x1, y1, x2, y2 = (
        100 * float(value) / side for value, side in zip(box, (width, height) * 2, strict=True)
    )
    return Overlay(*(round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)), text)


class Scene(NamedTuple):
    """An image with its detections and its objects."""

    name: str
    picture: Picture
    found: list[Overlay]
    objects: list[Overlay]


def _scenes(found, images):
    """Images with objects or detections, evenly spread over the dataset."""
    filled = [
        i
        for i, (each, truth) in enumerate(zip(found, images.truths, strict=True))
        if len(truth.boxes) or (each.scores >= SHOWN_SCORE).any()
    ]
    scenes = []
    for index in (filled[place] for place in select_evenly(len(filled), SCENES)):
        image, each, truth = _read(images, index), found[index], images.truths[index]
        size = image.shape[:2]
        rows = zip(each.boxes, each.scores, each.names, strict=True)
        boxes = [_overlay(b, size, f"{n} {s:.2f}") for b, s, n in rows if s >= SHOWN_SCORE]
        names = (images.class_names[label] for label in truth.classes)
        objects = [_overlay(b, size, n) for b, n in zip(truth.boxes, names, strict=True)]
        scenes.append(Scene(images.name_of(index), thumbnail(image, SIDE), boxes, objects))
    return scenes


def _read(images, index):
    return np.clip(np.round(images.read(index)), 0, 255).astype("uint8")


def _mistakes(found, images, thumbnails) -> list[dict[str, Any]]:
    """Each kind of mistakes, with how many there are and the most confident ones."""
    mistakes, kinds = find_mistakes(found, images.truths), []
    for kind, meaning in KINDS.items():
        own = [each for each in mistakes if each.kind == kind]
        shown = [
            (
                each,
                _name(each, images),
                thumbnail(crop_mistake(each, _read(images, each.image)), SIDE),
            )
            for each in own[: MISTAKES if thumbnails else 0]
        ]
        kinds.append({"name": kind, "meaning": meaning, "count": len(own), "shown": shown})
    return kinds if mistakes else []


def _name(mistake, images):
    """The names of the class that was found and of the true one, "" where there is none."""
    names = images.class_names
    found, true = (names[i] if i >= 0 else "" for i in (mistake.label, mistake.truth_label))
    return {"found": found, "true": true, "image": images.name_of(mistake.image)}
