"""Exported files as a table."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.table import Table

from keras_senet.cli.tables import make_table


def export_table(reports: Iterable[Any]) -> Table:
    """The reports as a table."""
    columns = ("file", "KiB", "max abs. error", "relative", "sensitivity", "top-1 agreement")
    table = make_table("Exports, compared with Keras", *columns, "ms/image")
    for report in reports:
        table.add_row(
            Path(report.path).name,
            f"{report.bytes / 1024:,.0f}",
            f"{report.max_abs_error:.1e}",
            f"{report.relative_error:.1e}",
            "-" if report.sensitivity is None else f"{report.sensitivity:.1e}",
            f"{100 * report.top1_agreement:.2f}%",
            f"{report.latency_ms:.2f}",
        )
    return table
