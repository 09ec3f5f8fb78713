"""`report.json`: what commands found out about a network, and the exported files."""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.table import Table

from keras_senet.cli.tables import make_table
from keras_senet.files import write_atomically


def read_report(path: Path) -> dict[str, Any]:
    """What a `report.json` says; nothing without one.

    Raises:
        ValueError: if it is damaged.
    """
    try:
        return dict(json.loads(path.read_text())) if path.exists() else {}
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{str(path)!r} is damaged ({error}); remove it or choose another --output"
        ) from error


def write_report(path: Path, reports: Iterable[Any], **figures: Any) -> None:
    """`report.json`: some figures, and the fields of each ExportReport, in the place of an earlier
    one of its file.
    """
    exports = {
        each["path"]: each
        for each in figures.pop("exports", ())
        if isinstance(each, dict) and "path" in each
    }
    exports |= {report.path: dataclasses.asdict(report) for report in reports}
    content = figures | {"exports": list(exports.values())}
    write_atomically(path, json.dumps(content, indent=2) + "\n")


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
