"""write_page(): reads a run, asks its network, and fills the template."""

import base64
import hashlib
import math
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from keras_senet import data
from keras_senet.data import Augmentation
from keras_senet.extras import require
from keras_senet.fields import meanings
from keras_senet.files import check_folder, write_atomically
from keras_senet.recipes.recipe import NOT_FLAGS, Recipe
from keras_senet.recipes.se_text import write_se
from keras_senet.report.answers import answers
from keras_senet.report.charts import Axis, line_chart
from keras_senet.report.record import read_record
from keras_senet.runs.splits import WORDS, best_row, chosen_on, evaluated
from keras_senet.training.network import describe
from keras_senet_cli import __version__

NUMBERED = 20  # classes: with more the confusion matrix is a picture
ALL_SHOWN = 30  # classes: with more the worst and the best are shown, and the others on demand
EXTREMES = 10  # so many of them
LISTED = 2000  # classes, at most, for the size of the page
EPOCHS = 300  # rows of the table of epochs, at most


class Written(NamedTuple):
    """Where a page is, and why it lacks what needs images; "" if it does not."""

    path: Path
    missing: str


def write_page(
    workdir,
    output=None,
    *,
    dataset=None,
    split="test",
    data_dir=None,
    evaluation=True,
    gates=True,
    thumbnails=True,
    batch_size=128,
    progress=False,
):
    """One HTML file about a training run, without anything outside of it; returns `Written`.

    A run that has not ended has its recipe and its curves so far. If the dataset is not where the
    run had it, the page is without what needs images, and says why.

    Args:
        workdir: what training left.
        output: the file; None is report.html in `workdir`.
        dataset: a name or folder that the dataset has now; None is the run's own.
        split: "test", "val" or "train": the images that the network is asked about.
        data_dir: where tensorflow_datasets has its data.
        evaluation: whether the network is asked at all: confusions, classes and gates, and figures
        of its own. gates: whether the SE blocks' gates are measured, on up to 1,000 images.
        thumbnails: whether the page contains images of the dataset. batch_size: images a step.
        progress: whether to show a progress bar on the error stream; or the `rich` console for it.

    Raises:
        ValueError: for a wrong argument, a `dataset` or `data_dir` without the run's images among
        them, or if a file of
            the run is damaged.
        FileNotFoundError: if `workdir` holds no run.
        OSError: if the page cannot be written.
        MissingExtraError: without Jinja2, which the extra "analysis" has.
    """
    require("jinja2", "analysis")
    if split not in WORDS:
        raise ValueError(f"`split` must be 'train', 'val' or 'test'. Received: split={split!r}")
    record = read_record(workdir)
    output = Path(workdir, "report.html") if output is None else Path(output)
    _check_output(output)
    page = NOTHING | _of_record(record) | {"asked": WORDS[split]}
    if record.ended:
        model = _network(workdir)
        page |= _of_network(model)
        if evaluation:
            try:
                name = dataset or record.recipe.dataset
                images = data.load(name, split, data_dir, upright=model.preprocessing.upright)
                page["asked"] = WORDS[data.resolve_split(name, split, data_dir)]
                found = answers(
                    model, images, with_gates=gates, batch_size=batch_size, progress=progress
                )
                page |= _of_answers(found, images, thumbnails) | {"gates_asked": gates}
            except (ValueError, OSError, ImportError) as error:
                if dataset is not None or data_dir is not None:
                    raise
                page["missing"] = " ".join(str(error).split())
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(output, _rendered(page))
    except OSError as error:
        raise OSError(
            f"`output` cannot be written: {str(output)!r} ({error.strerror or error})"
        ) from error
    return Written(output, page["missing"])


def _check_output(path):
    """Raises OSError unless it seems possible to write the file: the long work comes first."""
    if path.is_dir():
        raise OSError(f"`output` must be a file, and is a folder: {str(path)!r}")
    check_folder(path.parent, "The folder of `output`")


def _network(workdir):
    from keras_senet.evaluation import load_run

    return load_run(workdir).model


# What each section shows, as plain data under the names that the template uses.

NOTHING = dict.fromkeys(
    ("complexity", "figures", "gates", "gates_asked", "missing", "pairs", "result"), ""
)


def _of_record(record):
    """The sections that need no network."""
    recipe, rows = record.recipe, record.rows
    last = rows[-1] if rows else {}
    return {
        "title": describe(recipe),
        "recipe": recipe,
        "fields": _fields(recipe),
        "record": record,
        "epochs": int(last.get("epoch", 0)),
        "steps": int(last.get("step", 0)),
        "figures": _last_figures(rows),
        "best": _best(rows),
        "chosen_on": WORDS[chosen_on(rows)],
        "charts": _charts(recipe, rows),
        "table": _every(rows, EPOCHS),
        "columns": [name for name in (rows[0] if rows else ()) if name not in ("step", "epoch")],
    }


class Field(NamedTuple):
    """A field of a recipe, with its default and what it means."""

    name: str
    value: object
    default: object
    meaning: str

    @property
    def is_default(self):
        return self.value == self.default


def _fields(recipe):
    """The fields of the recipe and of its augmentation, in their order."""
    documented = meanings(Recipe) | meanings(Augmentation)
    values, defaults = (
        each.flat() | {"se": write_se(each.se)} for each in (recipe, Recipe())
    )
    return [
        Field(name, value, defaults[name], documented[name].text)
        for name, value in values.items()
        if name not in NOT_FLAGS
    ]


def _last_figures(rows):
    """Top-1, top-5 and loss of the last evaluation in the metrics, each 0..1 or None, and its
    epoch.
    """
    split = chosen_on(rows)
    if not evaluated(rows, split):
        return None
    row = evaluated(rows, split)[-1]
    top5, loss = (
        v if math.isfinite(v := row.get(f"{split}_{name}", math.nan)) else None
        for name in ("top5", "loss")
    )
    return {
        "top1": row[f"{split}_accuracy"],
        "top5": top5,
        "loss": loss,
        "epoch": int(row["epoch"]),
        "images": None,
    }


def _best(rows):
    """The epoch that is the best on the images that it is chosen on, with its error there and, if
    known, on test.
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
    """Loss, error and learning rate over epochs, those of them that there are."""
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


def _every(rows, most):
    """At most so many of the rows, evenly, the last one among them."""
    every = math.ceil(len(rows) / most) if rows else 1
    return [row for i, row in enumerate(reversed(rows)) if i % every == 0][::-1]


def _of_network(model):
    """What the network costs; nothing if that cannot be counted."""
    from keras_senet.complexity import complexity

    try:
        counts = complexity(model)
    except ValueError as error:
        return {"complexity": None, "complexity_missing": str(error)}
    blocks = [
        layer for layer in counts.layers if layer.rescaled
    ]  # SE blocks alone have rescaled elements
    return {
        "complexity": counts,
        "stages": list(counts.stages()),
        "se_blocks": len(blocks),
        "se_parameters": sum(layer.parameters for layer in blocks),
        "se_multiply_adds": sum(layer.multiply_adds for layer in blocks),
    }


def _of_answers(found, dataset, thumbnails):
    """The sections that need images."""
    from keras_senet.evaluation import per_class, readable

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
        "gates": _gates(found.gates),
        "gate_images": found.gate_images,
    }


def _confusion(counts):
    """The matrix as cells for few classes, as a picture for many."""
    from keras_senet.report.pictures import confusion_picture

    if len(counts) > NUMBERED:
        uri, together = confusion_picture(counts)
        return {"uri": uri, "together": together}
    totals = counts.sum(axis=1)
    return {
        "uri": "",
        "counts": counts.tolist(),
        "parts": (counts / [[max(total, 1)] for total in totals]).tolist(),
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
    from keras_senet.report.pictures import thumbnail

    ((view,),) = found.evaluation.views
    images = found.evaluation.confusion.sum(axis=1)
    return [
        {
            "true": names[pair.true],
            "predicted": names[pair.predicted],
            "count": pair.count,
            "part": pair.count / images[pair.true],
            "mistakes": [
                (mistake.probability, *thumbnail(dataset, mistake.index, view))
                for mistake in pair.mistakes
            ]
            if thumbnails
            else [],
        }
        for pair in found.pairs
    ]


def _gates(blocks):
    """Stages of blocks with their places on an axis that is 0..1, or wider for gates that are no
    sigmoid.
    """
    if not blocks:
        return None
    values = [
        (gate.low, gate.mean, gate.high) for gate in blocks
    ]  # a few large gates take the mean above `high`
    axis = Axis(min(0.0, *map(min, values)), max(1.0, *map(max, values)))
    stages = [(stage, list(those)) for stage, those in groupby(blocks, key=lambda gate: gate.stage)]
    return {
        "blocks": blocks,
        "ticks": axis.ticks(),
        "stages": [
            {
                "name": stage,
                "mean": sum(gate.mean for gate in those) / len(those),
                "bars": [
                    (gate, *(axis.place(v) for v in (gate.low, gate.mean, gate.high)))
                    for gate in those
                ],
            }
            for stage, those in stages
        ],
    }


# From data to text.


def _rendered(page):
    """The page as text. Everything in it that comes from files is escaped, by the template engine
    alone.
    """
    jinja2 = require("jinja2", "analysis")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("keras_senet.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= FILTERS
    script, style = (
        require("markupsafe", "analysis").Markup(
            environment.loader.get_source(environment, name)[0].strip()
        )
        for name in ("page.js", "style.css")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html").render(
        page, script=script, style=style, digest=digest, version=__version__
    )


def _percent(part, decimals=2):
    """A part 0..1 in per cent; "–" for None."""
    return "–" if part is None else f"{100 * part:.{decimals}f}%"


def _number(value, form=".4f"):
    """ "–" for None and what is not finite."""
    return "–" if value is None or not math.isfinite(value) else f"{value:{form}}"


def _thousands(value):
    return "–" if value is None else f"{value:,.0f}"


def _short(value):
    """41.2 M, 272 k."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return (
                f"{value / size:.3g} {unit}"
                if value < 1000 * size
                else f"{value / size:,.0f} {unit}"
            )
    return f"{value:,}"


def _size(count):
    """Bytes in KiB or MiB."""
    if count is None:
        return "–"
    return f"{count / 2**20:,.1f} MiB" if count >= 2**20 else f"{count / 2**10:,.0f} KiB"


def _metric(value, name):
    """A figure of an epoch, by the name of its column."""
    if "accuracy" in name or "top" in name:
        return "–" if not math.isfinite(value) else _percent(value)
    return _number(value, ".3g" if name == "learning_rate" else ".4f")


def _density(part, right):
    """How dense the colour of a part of a class is, in per cent: text stays readable, small
    mistakes are seen.
    """
    return round(45 * part if right else 8 + 62 * part**0.5, 1)


def _value(value):
    """A field of a recipe as its flag takes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (tuple, list)):
        return ", ".join(f"{v:g}" for v in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"


FILTERS: Mapping = {
    "percent": _percent,
    "number": _number,
    "metric": _metric,
    "density": _density,
    "thousands": _thousands,
    "short": _short,
    "size": _size,
    "value": _value,
}
