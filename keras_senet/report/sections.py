"""What each section of a page shows, as plain data under the names that the template uses."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras

from keras_senet.complexity import complexity
from keras_senet.recipes.flat import flat_fields
from keras_senet.report.charts import Style, line_chart, thin
from keras_senet.report.text import FILTERS
from keras_senet.runs.record import Record, describe_recipe
from keras_senet.runs.splits import WORDS, best_row, chosen_on
from keras_senet.runs.tables import rows_with

EPOCHS = 300  # rows of the table of epochs, at most


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

    def describe_images(self, describe: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What a function returns of the images, if they are wanted, or why the page lacks it. An
        error of images that were asked for is raised.
        """
        try:
            return describe() if self.evaluation else {}
        except (ValueError, OSError, ImportError) as error:
            if self.dataset is not None or self.data_dir is not None:
                raise
            return {"missing": " ".join(str(error).split())}


class PageContent(NamedTuple):
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
        "figures": _last_figures(rows),
        "best": _best(rows),
        "chosen_on": WORDS[chosen_on(rows)],
        "charts": _charts(recipe.epochs, rows),
        "export_columns": EXPORT_COLUMNS,
    }


def describe_run(record: Record) -> dict[str, Any]:
    """What the pages of all runs show of their metrics."""
    rows = record.rows
    last = rows[-1] if rows else {}
    return {
        "recipe": record.recipe,
        "fields": list_fields(record.recipe),
        "record": record,
        "epochs": int(last.get("epoch", 0)),
        "steps": int(last.get("step", 0)),
        "table": thin(rows, EPOCHS)[0],
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
    defaults, documented = type(recipe)().flat(), flat_fields(type(recipe))
    return [
        Field(name, value, defaults[name], documented[name].meaning.text)
        for name, value in recipe.flat().items()
        if name in documented
    ]


def _last_figures(rows):
    """The last evaluation's top-1, top-5 and loss, None where there is none, and its epoch."""
    split = chosen_on(rows)
    if not (found := rows_with(rows, f"{split}_accuracy")):
        return None
    row = found[-1]
    top5, loss = (row.get(f"{split}_{name}", math.nan) for name in ("top5", "loss"))
    return {
        "top1": row[f"{split}_accuracy"],
        "top5": top5 if math.isfinite(top5) else None,
        "loss": loss if math.isfinite(loss) else None,
        "epoch": int(row["epoch"]),
        "images": None,
    }


def _best(rows):
    """The best epoch's errors on the images that it is chosen on and, if known, on test images."""
    row, split = best_row(rows), chosen_on(rows)
    if row is None:
        return None
    test = row.get("test_accuracy", math.nan) if split != "test" else math.nan
    return {
        "epoch": row["epoch"],
        "error": 1 - row[f"{split}_accuracy"],
        "test_error": 1 - test if math.isfinite(test) else None,
    }


def _charts(epochs, rows):
    split = chosen_on(rows)
    named = (("training", ""), (WORDS[split], f"{split}_"))
    losses = {name: lambda row, p=prefix: row.get(f"{p}loss", math.nan) for name, prefix in named}
    errors = {
        name: lambda row, p=prefix: 100 * (1 - row.get(f"{p}accuracy", math.nan))
        for name, prefix in named
    }
    rates = {"rate": lambda row: row.get("learning_rate", math.nan)}
    charts = (
        line_chart("Loss", rows, losses, epochs=epochs, style=Style(form=".4f"), may_be_log=True),
        line_chart("Top-1 error", rows, errors, epochs=epochs, style=Style("%", ".2f")),
        line_chart("Learning rate", rows, rates, epochs=epochs, style=Style(ticks=3)),
    )
    return [chart for chart in charts if chart]


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
