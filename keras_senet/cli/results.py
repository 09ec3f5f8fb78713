"""Exported files as a table."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.table import Table

from keras_senet.cli.tables import make_table
from keras_senet.runs.splits import WORDS


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
    words = f"; accuracy on {WORDS[split]} images" if split else ""
    return f"Exports, compared with Keras{words}"
