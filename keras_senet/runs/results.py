"""`report.json` of a work directory: figures of its network, and its exported files."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from keras_senet.files import names_damage, write_atomically
from keras_senet.runs import REPORT

REMEDY = "remove it or choose another folder: it holds results only, and no network"


class Export(NamedTuple):
    """An exported file as `report.json` lists it: the fields of `ExportReport`, `path` without its
    folder. The accuracy of a detector is its AP.

    Figures that are not there are None.
    """

    name: str
    format: str
    quantization: str | None
    bytes: float | None
    max_abs_error: float | None
    relative_error: float | None
    sensitivity: float | None
    top1_agreement: float | None
    latency_ms: float | None
    peak_memory: float | None
    accuracy: float | None
    keras_accuracy: float | None
    score_error: float | None = None


def read_report(path: Path) -> dict[str, Any]:
    """The content of a `report.json`; nothing without one.

    Raises:
        ValueError: if it is damaged.
    """
    if not path.exists():
        return {}
    with names_damage(path, REMEDY):
        report = json.loads(path.read_text())
        if not isinstance(report, dict) or not isinstance(report.get("exports", []), list):
            raise ValueError("it is not a JSON object, or its `exports` are not a list")
        return report


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Writes a `report.json`."""
    write_atomically(path, json.dumps(report, indent=2) + "\n")


def update_report(path: Path, content: Mapping[str, Any]) -> None:
    """Adds fields to a `report.json`, in place of earlier ones of their names."""
    write_report(path, read_report(path) | content)


def add_exports(path: Path, exports: Iterable[Any]) -> None:
    """Adds the fields of `ExportReport`s to a `report.json`, in place of earlier ones of a file."""
    report = read_report(path)
    listed = [each for each in report.pop("exports", ()) if isinstance(each, dict)]
    merged = {each["path"]: each for each in listed if isinstance(each.get("path"), str)}
    merged |= {export.path: dataclasses.asdict(export) for export in exports}
    write_report(path, report | {"exports": list(merged.values())})


def list_exports(folder: Path) -> list[Export]:
    """The exports in a run's own report and in that of `exports/`, where `keras-senet export` has
    it.

    Of two with one name the newer report's counts.

    Raises:
        ValueError: if a report is damaged.
    """
    reports = [path for path in (folder / REPORT, folder / "exports" / REPORT) if path.is_file()]
    reports.sort(key=lambda path: path.stat().st_mtime)
    found = [export for path in reports for export in _read_exports(path)]
    return list({export.name: export for export in found}.values())


def _read_exports(path: Path) -> list[Export]:
    report = read_report(path)
    with names_damage(path, REMEDY):
        return [_parse_export(entry) for entry in report.get("exports", [])]


def _parse_export(entry) -> Export:
    figures = {name: entry.get(name) for name in Export._fields[3:]}
    for name, value in figures.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise ValueError(f"{name} of an export must be a number, and is {value!r}")
    quantization = entry.get("quantization")
    return Export(
        Path(str(entry["path"])).name,
        str(entry["format"]),
        quantization and str(quantization),
        **figures,
    )
