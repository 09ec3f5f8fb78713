"""What the sections that need images show, as plain data under the names that the template uses."""

from itertools import groupby
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_senet.analysis.grad_cam import grad_cam
from keras_senet.data import Dataset, Encoded
from keras_senet.evaluation import per_class
from keras_senet.imagenet import readable
from keras_senet.report.charts import Axis
from keras_senet.report.pictures import confusion_picture, heat_thumbnail, render_view, thumbnail
from keras_senet.report.predictions import Prediction, Predictions, as_input

NUMBERED = 20  # classes: with more the confusion matrix is a picture
ALL_SHOWN = 30  # classes: with more the worst and the best are shown, and the others on demand
EXTREMES = 10  # so many of them
LISTED = 2000  # classes, at most, for the size of the page
SUSPECTS = 24  # likely wrong labels in the page, at most; `suspects.csv` has all


def describe_predictions(
    found: Predictions, model: keras.Model, dataset: Dataset | Encoded, thumbnails: bool
) -> dict[str, Any]:
    """The sections that need images."""
    result, names = found.evaluation, readable(dataset.class_names)
    figures = {
        "top1": result.top1,
        "top5": result.top5 if len(names) > 5 else None,
        "loss": result.loss,
    }
    return {
        "figures": figures | {"images": int(result.images.sum()), "epoch": None},
        "result": result,
        "names": names,
        "confusion": _confusion(result.confusion),
        "classes": _classes(per_class(result, dataset.class_names)),
        "pairs": _pairs(found, dataset, names, thumbnails),
        "looks": _looks(found, model, dataset, names) if thumbnails else [],
        "suspects": _suspects(found, dataset, names, thumbnails),
        "gates": _gates(found.gates),
        "gate_images": found.gate_images,
    }


def _confusion(counts):
    """The matrix as cells for few classes, as a picture for many."""
    if len(counts) > NUMBERED:
        uri, together = confusion_picture(counts)
        return {"uri": uri, "together": together}
    totals = counts.sum(axis=1)
    return {
        "uri": "",
        "counts": counts.tolist(),
        "fractions": (counts / [[max(total, 1)] for total in totals]).tolist(),
    }


def _classes(rows):
    """All rows where they are few; else the worst, the best, and all on demand, the worst first."""
    if len(rows) <= ALL_SHOWN:
        return {"shown": [("", rows)], "rest": [], "cut": 0}
    ranked = sorted((row for row in rows if row.images), key=lambda row: row.top1)
    ranked += [row for row in rows if not row.images]
    best = [row for row in ranked if row.images][::-1][:EXTREMES]
    shown = [("Most often wrong", ranked[:EXTREMES]), ("Most often right", best)]
    return {"shown": shown, "rest": ranked[:LISTED], "cut": max(0, len(ranked) - LISTED)}


def _pairs(found, dataset, names, thumbnails):
    ((view,),) = found.evaluation.views
    images = found.evaluation.confusion.sum(axis=1)
    pairs = []
    for pair in found.pairs:
        shown = pair.mistakes if thumbnails else ()
        pictures = [
            (each.probability, thumbnail(render_view(dataset, each.index, view))) for each in shown
        ]
        pairs.append(
            {
                "true": names[pair.true],
                "predicted": names[pair.predicted],
                "count": pair.count,
                "fraction": pair.count / images[pair.true],
                "mistakes": pictures,
            }
        )
    return pairs


def _looks(found, model, dataset, names):
    """(heading, named predictions with their picture without and with the heat map of Grad-CAM) of
    confident mistakes and of hits; nothing for a network that has no feature maps.
    """
    ((view,),) = found.evaluation.views
    groups = {"Most confident mistakes": found.mistakes, "Most confident hits": found.hits}
    looks = []
    for heading, predictions in groups.items():
        if not predictions:
            continue
        images = [render_view(dataset, each.index, view) for each in predictions]
        shown = as_input(model, np.stack(images))
        try:
            heats = grad_cam(model, shown, [each.predicted for each in predictions])
        except ValueError:
            return []
        pictures = [
            (thumbnail(image), heat_thumbnail(image, heat))
            for image, heat in zip(images, heats, strict=True)
        ]
        named = [_name(each, dataset, names) for each in predictions]
        looks.append((heading, list(zip(named, pictures, strict=True))))
    return looks


class Named(NamedTuple):
    """A `Prediction` with the names of its file and its classes."""

    name: str
    true: str
    predicted: str
    true_probability: float
    probability: float


def _name(each: Prediction, dataset, names):
    return Named(
        dataset.name_of(each.index),
        names[each.true],
        names[each.predicted],
        each.true_probability,
        each.probability,
    )


def _suspects(found, dataset, names, thumbnails):
    """The likely wrong labels on the page, with pictures if it may, and how many there are."""
    ((view,),) = found.evaluation.views
    rows = []
    for each in found.suspects[:SUSPECTS]:
        picture = thumbnail(render_view(dataset, each.index, view)) if thumbnails else None
        rows.append((_name(each, dataset, names), picture))
    return {"rows": rows, "count": len(found.suspects)}


def suspect_rows(found: Predictions, dataset: Dataset | Encoded) -> list[dict[str, Any]]:
    """The rows of `suspects.csv`, in the order of suspicion."""
    names = dataset.class_names
    return [
        {
            "file": dataset.name_of(each.index),
            "label": names[each.true],
            "predicted": names[each.predicted],
            "label_probability": f"{each.true_probability:.6g}",
            "predicted_probability": f"{each.probability:.6g}",
        }
        for each in found.suspects
    ]


def _gates(blocks):
    """Stages of blocks with their places on an axis of 0..1, or wider for other gates."""
    if not blocks:
        return None
    # A few large gates move the mean above `high`.
    values = [(gate.low, gate.mean, gate.high) for gate in blocks]
    axis = Axis(min(0.0, *map(min, values)), max(1.0, *map(max, values)))
    stages = []
    for name, group in groupby(blocks, key=lambda gate: gate.stage):
        gates = list(group)
        mean = sum(gate.mean for gate in gates) / len(gates)
        bars = [(gate, *map(axis.place, (gate.low, gate.mean, gate.high))) for gate in gates]
        stages.append({"name": name, "mean": mean, "bars": bars})
    return {"blocks": blocks, "ticks": axis.ticks(), "stages": stages}
