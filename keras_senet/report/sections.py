"""What each section of a page shows, as plain data under the names that the template uses."""

import math
from collections.abc import Callable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_senet.analysis.grad_cam import grad_cam
from keras_senet.complexity import complexity
from keras_senet.data import Dataset, Encoded
from keras_senet.evaluation import per_class
from keras_senet.imagenet import readable
from keras_senet.recipes.flat import flat_meanings
from keras_senet.report.charts import Axis, line_chart
from keras_senet.report.pictures import confusion_picture, heat_thumbnail, show, thumbnail
from keras_senet.report.predictions import Prediction, Predictions, as_input
from keras_senet.report.text import FILTERS
from keras_senet.runs.record import Record, describe_recipe
from keras_senet.runs.splits import WORDS, best_row, chosen_on, evaluated

NUMBERED = 20  # classes: with more the confusion matrix is a picture
ALL_SHOWN = 30  # classes: with more the worst and the best are shown, and the others on demand
EXTREMES = 10  # so many of them
LISTED = 2000  # classes, at most, for the size of the page
EPOCHS = 300  # rows of the table of epochs, at most
SUSPECTS = 24  # likely wrong labels in the page, at most; `suspects.csv` has all


class Wanted(NamedTuple):
    """What is asked of a page, as `write_page` takes it."""

    dataset: str | Path | None
    split: str
    data_dir: str | None
    evaluation: bool
    gates: bool
    thumbnails: bool
    batch_size: int
    progress: Any

    def explain(self, error: Exception) -> str:
        """Why a page lacks what needs images: in one line. An error of images that were asked for
        is raised.
        """
        if self.dataset is not None or self.data_dir is not None:
            raise error
        return " ".join(str(error).split())


class Content(NamedTuple):
    """What a page shows.

    template   its file
    page       the values of the names in it
    of_images  what is not there without images
    files      those next to the page, as texts
    suspects   how many likely wrong labels are listed in them
    """

    template: str
    page: dict[str, Any]
    of_images: str
    files: Mapping[str, str] = {}
    suspects: int = 0


def describe_record(record: Record) -> dict[str, Any]:
    """The sections that need no network."""
    recipe, rows = record.recipe, record.rows
    return describe_run(record) | {
        "title": describe_recipe(recipe),
        "fields": list_fields(recipe),
        "figures": _last_figures(rows),
        "best": _best(rows),
        "chosen_on": WORDS[chosen_on(rows)],
        "charts": _charts(recipe, rows),
        "export_columns": EXPORT_COLUMNS,
    }


def describe_run(record: Record) -> dict[str, Any]:
    """What the pages of all runs show of their metrics."""
    rows = record.rows
    last = rows[-1] if rows else {}
    return {
        "recipe": record.recipe,
        "record": record,
        "epochs": int(last.get("epoch", 0)),
        "steps": int(last.get("step", 0)),
        "table": _sample(rows, EPOCHS),
        "columns": [name for name in (rows[0] if rows else ()) if name not in ("step", "epoch")],
    }


class ExportColumn(NamedTuple):
    """A column of the table of exported files: its name, the field, and its value as text."""

    name: str
    field: str
    show: Callable[[Any], str]


EXPORT_COLUMNS = (
    ExportColumn("size", "bytes", FILTERS["size"]),
    ExportColumn("max abs. error", "max_abs_error", lambda v: FILTERS["number"](v, ".1e")),
    ExportColumn("relative error", "relative_error", lambda v: FILTERS["number"](v, ".1e")),
    ExportColumn("sensitivity", "sensitivity", lambda v: FILTERS["number"](v, ".1e")),
    ExportColumn("top-1 agreement", "top1_agreement", FILTERS["percent"]),
    ExportColumn("accuracy", "accuracy", FILTERS["percent"]),
    ExportColumn("in Keras", "keras_accuracy", FILTERS["percent"]),
    ExportColumn("ms/image", "latency_ms", lambda v: FILTERS["number"](v, ".2f")),
    ExportColumn("memory", "peak_memory", FILTERS["size"]),
)


class Field(NamedTuple):
    """A field of a recipe, with its default and what it means."""

    name: str
    value: object
    default: object
    meaning: str

    @property
    def is_default(self) -> bool:
        """Whether it has its default."""
        return self.value == self.default


def list_fields(recipe: Any) -> list[Field]:
    """The fields of a recipe by the names of their flags, in their order."""
    defaults, documented = type(recipe)().flat(), flat_meanings(type(recipe))
    return [
        Field(name, value, defaults[name], documented[name].text)
        for name, value in recipe.flat().items()
        if name in documented
    ]


def _last_figures(rows):
    """Top-1, top-5 and loss of the last evaluation in the metrics, None where there is none, and
    its epoch.
    """
    split = chosen_on(rows)
    if not evaluated(rows, split):
        return None
    row = evaluated(rows, split)[-1]
    top5, loss = (row.get(f"{split}_{name}", math.nan) for name in ("top5", "loss"))
    return {
        "top1": row[f"{split}_accuracy"],
        "top5": top5 if math.isfinite(top5) else None,
        "loss": loss if math.isfinite(loss) else None,
        "epoch": int(row["epoch"]),
        "images": None,
    }


def _best(rows):
    """The best epoch, with its error on the images that it is chosen on and, if known, on test
    images.
    """
    row, split = best_row(rows), chosen_on(rows)
    if row is None:
        return None
    test = row.get("test_accuracy", math.nan) if split != "test" else math.nan
    return {
        "epoch": row["epoch"],
        "error": 1 - row[f"{split}_accuracy"],
        "test_error": 1 - test if math.isfinite(test) else None,
    }


def _charts(recipe, rows):
    """Loss, error and learning rate over epochs, where there are values."""
    split = chosen_on(rows)
    named = (("training", ""), (WORDS[split], f"{split}_"))
    losses = {name: lambda row, p=prefix: row.get(f"{p}loss", math.nan) for name, prefix in named}
    errors = {
        name: lambda row, p=prefix: 100 * (1 - row.get(f"{p}accuracy", math.nan))
        for name, prefix in named
    }
    rates = {"rate": lambda row: row.get("learning_rate", math.nan)}
    charts = (
        line_chart("Loss", rows, losses, epochs=recipe.epochs, form=".4f", may_be_log=True),
        line_chart("Top-1 error", rows, errors, epochs=recipe.epochs, unit="%", form=".2f"),
        line_chart("Learning rate", rows, rates, epochs=recipe.epochs, ticks=3),
    )
    return [chart for chart in charts if chart]


def _sample(rows, most):
    """At most so many of the rows, evenly, the last one among them."""
    every = math.ceil(len(rows) / most) if rows else 1
    return [row for i, row in enumerate(reversed(rows)) if i % every == 0][::-1]


def describe_network(model: keras.Model) -> dict[str, Any]:
    """What the network costs; nothing if that cannot be counted."""
    try:
        counts = complexity(model)
    except ValueError as error:
        return {"complexity": None, "complexity_missing": str(error)}
    blocks = [layer for layer in counts.layers if layer.rescaled]  # only SE blocks rescale
    return {
        "complexity": counts,
        "stages": list(counts.stages()),
        "se_blocks": len(blocks),
        "se_parameters": sum(layer.parameters for layer in blocks),
        "se_multiply_adds": sum(layer.multiply_adds for layer in blocks),
    }


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
    """The confused pairs with their classes' names and, if they may be shown, images."""
    ((view,),) = found.evaluation.views
    images = found.evaluation.confusion.sum(axis=1)
    pairs = []
    for pair in found.pairs:
        shown = pair.mistakes if thumbnails else ()
        pictures = [
            (each.probability, thumbnail(show(dataset, each.index, view))) for each in shown
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
        images = [show(dataset, each.index, view) for each in predictions]
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
    """The likely wrong labels that the page shows, with pictures if it may, and how many there
    are.
    """
    ((view,),) = found.evaluation.views
    rows = []
    for each in found.suspects[:SUSPECTS]:
        picture = thumbnail(show(dataset, each.index, view)) if thumbnails else None
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
    """Stages of blocks with their places on an axis that is 0..1, or wider for gates that are not
    sigmoids.
    """
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
