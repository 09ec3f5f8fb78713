"""Exported files, and the figures of classes, as tables."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from keras_senet.cli.tables import console, make_table, show
from keras_senet.evaluation.tables import ClassRow
from keras_senet.runs import PER_CLASS
from keras_senet.runs.splits import WORDS

MOST_CLASSES = 20  # with more, so many of the lowest accuracies are shown


def export_table(reports: Iterable[Any]) -> Table:
    """The reports as a table."""
    reports = list(reports)
    columns = ["file", "KiB", "max abs. error", "relative", "sensitivity", "top-1 agreement"]
    evaluated = [each for each in reports if each.accuracy is not None]
    if evaluated:
        columns += ["accuracy in Keras", "in the file", "images"]
    table = make_table(_title(evaluated), *columns, "ms/image")
    for report in reports:
        accuracies = [report.keras_accuracy, report.accuracy] if evaluated else []
        table.add_row(
            Path(report.path).name,
            f"{report.bytes / 1024:,.0f}",
            f"{report.max_abs_error:.1e}",
            f"{report.relative_error:.1e}",
            "-" if report.sensitivity is None else f"{report.sensitivity:.1e}",
            f"{100 * report.top1_agreement:.2f}%",
            *("-" if each is None else f"{100 * each:.2f}%" for each in accuracies),
            *([f"{report.evaluated_images or 0:,}"] if evaluated else ()),
            f"{report.latency_ms:.2f}",
        )
    return table


def _title(evaluated):
    split = evaluated[0].evaluated_split if evaluated else None
    words = f"; accuracy on {WORDS.get(split, split)} images" if split else ""
    return f"Exports, compared with Keras{words}"


def show_classes(rows: Sequence[ClassRow], balanced_accuracy: float, split: str) -> None:
    """Prints the accuracy of each class on a split, or of the lowest ones, and their mean."""
    shown = rows
    if len(rows) > MOST_CLASSES:
        known = [row for row in rows if row.top1 is not None]
        shown = sorted(known, key=lambda row: row.top1)[:MOST_CLASSES]
    table = make_table(
        f"Classes, {WORDS[split]} images", "class", "images", "top-1", "most confused with"
    )
    for row in shown:
        top1 = "no images" if row.top1 is None else f"{100 * row.top1:.2f}%"
        table.add_row(row.name, f"{row.images:,}", top1, row.most_confused_with)
    show(table)
    empty, rest = sum(not row.images for row in rows), len(rows) - len(shown)
    text = f"balanced accuracy, the mean over classes: {100 * balanced_accuracy:.2f}%"
    text += f"; classes without images: {empty:,}" if empty else ""
    text += f"; classes that are not shown: {rest:,}, all are in {PER_CLASS}" if rest else ""
    console.print(text)
