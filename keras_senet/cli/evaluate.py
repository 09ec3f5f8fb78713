"""`keras-senet evaluate`: networks, ensembles and finished runs on a dataset."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from keras_senet import models
from keras_senet.cli.network import load_networks, open_images, results_folder
from keras_senet.cli.options import EvaluateOptions
from keras_senet.cli.results import show_classes
from keras_senet.cli.tables import console, print_left_out, show, show_json
from keras_senet.evaluation.accuracy import evaluate
from keras_senet.evaluation.protocols import PROTOCOLS, larger
from keras_senet.evaluation.tables import per_class, per_class_csv
from keras_senet.extras import require
from keras_senet.files import check_folder, write_atomically
from keras_senet.imagenet import readable
from keras_senet.plots.confusion import confusion_matrix
from keras_senet.progress import quiet_console
from keras_senet.runs import PER_CLASS
from keras_senet.runs.results import update_report
from keras_senet.weights import Checkpoint, resolve


def run(options: EvaluateOptions) -> None:
    """Accuracy of networks on a dataset; with a folder for it also as files."""
    loaded = load_networks(options)
    names, models = [each[:2] for each in loaded], [each.model for each in loaded]
    protocol, changes = _protocol(options)
    protocols = _protocols(protocol, changes, names)
    output = output_folder(options.output or results_folder(options.sources), "train")
    dataset_name, split, dataset = open_images(options, loaded[0], upright=_upright(models))
    with working(options.batch_size) as progress:
        result = evaluate(
            models,
            dataset,
            batch_size=options.batch_size,
            protocol=protocols,
            skip_corrupt=options.skip_corrupt,
            progress=progress,
        )
    report = {
        **_figures(result),
        "dataset": dataset_name,
        "split": split,
        "protocol": {"name": protocol, **changes},
        "networks": [
            {
                "model": name,
                "weights": weights,
                "views": [dataclasses.asdict(view) for view in views],
            }
            for (name, weights), views in zip(names, result.views, strict=True)
        ],
    }
    if options.json:
        show_json(report)
    else:
        _print(report, result, dataset.class_names)
    if output:
        _write(output, report, result, dataset.class_names)


def _upright(models):
    found = {model.preprocessing.upright for model in models}
    if len(found) > 1:
        raise ValueError(
            "The networks of an ensemble must agree on whether images are turned as EXIF says"
        )
    return found.pop()


@contextlib.contextmanager
def working(batch_size: int) -> Iterator[Console]:
    """A `quiet_console` for a progress bar.

    Raises:
        ValueError: if the batches take more memory than there is.
    """
    import tensorflow as tf

    with quiet_console() as errors:
        try:
            yield errors
        except tf.errors.ResourceExhaustedError as error:
            raise ValueError(
                f"--batch-size {batch_size} takes more memory than there is"
            ) from error


def output_folder(path: str | Path | None, extra: str) -> Path | None:
    """The folder for the results, or None; pictures need a library of the extra. It is made when
    there is something.

    Raises:
        OSError: if it cannot be written, which is known before the long work.
    """
    if path is None:
        return None
    require("matplotlib", extra)
    check_folder(Path(path), "--output")
    return Path(path)


def _protocol(options):
    changes = {
        "sizes": tuple(options.size),
        "short_sides": tuple(options.short_side),
        "crop": "ten" if options.ten_crop else None,
    }
    return options.protocol, {field: value for field, value in changes.items() if value}


def _protocols(protocol, changes, names):
    """Each network's protocol; None takes images of the network's size whole, by default."""
    if protocol == "own" and not changes:
        return None
    chosen = [_larger(*name) if protocol == "larger" else PROTOCOLS[protocol] for name in names]
    return [dataclasses.replace(each, **changes) for each in chosen]


def _larger(name, weights):
    found = resolve(weights, name) if name in models.__all__ else None
    if not isinstance(found, Checkpoint):
        raise ValueError(
            f"--protocol larger is for published weights. Received: --weights {weights}"
        )
    return larger(found)


def _figures(result):
    return {
        "accuracy": result.top1,
        "balanced_accuracy": result.balanced_accuracy,
        "top5": result.top5,
        "loss": result.loss if math.isfinite(result.loss) else None,  # JSON has no NaN
        "images": int(result.images.sum()),
        "classes": len(result.images),
        "not_finite": result.not_finite,
        "skipped": [{"name": each.name, "reason": each.reason} for each in result.skipped],
    }


def _print(report, result, class_names):
    table = Table("network", "shown", title=f"{report['dataset']}, {report['split']}")
    for name in ("images", "top-1", "top-5", "loss"):
        table.add_column(name, justify="right")
    figures = (
        f"{report['images']:,}",
        f"{100 * result.top1:.2f}%",
        f"{100 * result.top5:.2f}%",
        f"{result.loss:.4f}",
    )
    names = [f"{network['model']} {network['weights']}" for network in report["networks"]]
    shown = ["\n".join(map(str, views)) for views in result.views]
    for row in zip(names, shown, strict=True):
        table.add_row(*row, *(figures if len(names) == 1 else ()))
    if len(names) > 1:
        table.add_section()
        table.add_row(f"average of {len(names)}", "", *figures)
    show(table)
    rows = per_class(result, class_names)
    show_classes(rows, result.balanced_accuracy, report["split"])
    print_left_out(each.name for each in result.skipped)
    if result.not_finite:
        console.print(
            f"{result.not_finite} images have outputs that are not finite; they count as wrong"
        )


def _write(folder, report, result, class_names):
    """`report.json`, its other entries as training wrote them, `per_class.csv`, `confusion.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    title = (
        " + ".join(network["model"] for network in report["networks"]) + f" on {report['dataset']}"
    )
    confusion_matrix(result.confusion, readable(class_names), folder / "confusion.png", title)
    write_atomically(folder / PER_CLASS, per_class_csv(result, class_names))
    update_report(folder / "report.json", report)
    console.print(f"{folder}/: report.json, per_class.csv, confusion.png")
