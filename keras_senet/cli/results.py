"""Exported files, and the figures of classes, as tables."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rich.table import Table

from keras_senet.cli.tables import console, make_table, say, show, status
from keras_senet.evaluation.tables import ClassRow
from keras_senet.files import check_folder
from keras_senet.runs import PER_CLASS, REPORT
from keras_senet.runs.results import add_exports, read_report
from keras_senet.runs.splits import WORDS
from keras_senet_cli import quiet

MOST_CLASSES = 20  # with more, so many of the lowest figures are shown
T = TypeVar("T")


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


def check_exports(plan: Iterable[Any], folder: Path, overwrite: bool) -> None:
    """Raises OSError or ValueError unless the files and their report can be written: before the
    long work.
    """
    check_folder(folder, "--output")
    read_report(folder / REPORT)
    for each in plan:
        each.check_free(folder, overwrite)


def write_exports(
    plan: Sequence[Any], folder: Path, write: Callable, measure: Callable | None = None
) -> list[Any]:
    """The reports of `write(file)`, completed by `measure(file, report)`, of each file of a plan,
    which are added to the folder's `report.json` one by one.
    """
    reports = []
    for number, each in enumerate(plan, 1):
        with status(f"exporting {each.name}, {number} of {len(plan)}"), quiet():
            report = write(each)
        reports.append(measure(each, report) if measure else report)
        add_exports(folder / REPORT, reports[-1:])
    return reports


def say_how_to_run() -> None:
    """Says where exported files' README is."""
    from keras_senet import export

    say(f"how to run them: {Path(export.__file__).with_name('README.md')}")


def _title(evaluated):
    split = evaluated[0].evaluated_split if evaluated else None
    words = f"; accuracy on {WORDS.get(split, split)} images" if split else ""
    return f"Exports, compared with Keras{words}"


def choose_lowest(rows: Sequence[T], figure_of: Callable[[T], float | None]) -> Sequence[T]:
    """The rows of classes that are shown: all, or of more than 20 those with the lowest figures."""
    if len(rows) <= MOST_CLASSES:
        return rows
    known = [row for row in rows if figure_of(row) is not None]
    return sorted(known, key=figure_of)[:MOST_CLASSES]


def show_classes(rows: Sequence[ClassRow], balanced_accuracy: float, split: str) -> None:
    """Prints the accuracy of each class on a split, or of the lowest ones, and their mean."""
    shown = choose_lowest(rows, lambda row: row.top1)
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
