"""What a work directory says of its run, before its network is asked anything."""

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from keras_senet.recipes.recipe import Recipe
from keras_senet.runs.workdir import read_run


class Export(NamedTuple):
    """An exported file as `report.json` lists it: the fields of `ExportReport`, `path` without its
    folder.

    Figures that are not there are None.
    """

    name: str
    format: str
    quantization: str | None
    bytes: float | None
    max_abs_error: float | None
    relative_error: float | None
    top1_agreement: float | None
    latency_ms: float | None
    peak_memory: float | None


@dataclass(frozen=True)
class Record:
    """A run's recipe and metrics, its `exports`, and where it ran.

    engine       the name of the loop that trained it
    environment  threads and versions, by name
    rows         of the metrics, one an epoch
    ended        whether its network is there
    changed      when it was written to last
    """

    recipe: Recipe
    engine: str
    environment: dict[str, object]
    rows: list[dict[str, float]]
    exports: list[Export]
    ended: bool
    changed: datetime


def read_record(workdir):
    """The `Record` of a work directory.

    Raises:
        ValueError: if one of its files is damaged.
        FileNotFoundError: if it holds no run.
    """
    folder = Path(workdir)
    recipe, rows = read_run(folder)
    about = json.loads((folder / "recipe.json").read_text())
    written = [
        path
        for name in ("recipe.json", "metrics.csv", "model.keras")
        if (path := folder / name).is_file()
    ]
    return Record(
        recipe=recipe,
        engine=str(about.get("engine", "trainer")),
        environment=dict(about.get("environment") or {}),
        rows=[row for row in rows if math.isfinite(row["epoch"])],
        exports=_exports(folder),
        ended=all((folder / name).is_file() for name in ("model.keras", "model.weights.h5")),
        changed=datetime.fromtimestamp(max(path.stat().st_mtime for path in written), UTC),
    )


def _exports(folder):
    """The exports of the run's own report and of the one in `exports/`, where `keras-senet export`
    leaves it.

    Of two with one name the newer report's counts.
    """
    reports = [
        path for path in (folder / "report.json", folder / "exports/report.json") if path.is_file()
    ]
    reports.sort(key=lambda path: path.stat().st_mtime)
    return list({export.name: export for path in reports for export in _listed(path)}.values())


def _listed(path):
    try:
        entries = json.loads(path.read_text()).get("exports", [])
        return [_export(entry) for entry in entries]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{str(path)!r} is damaged ({error}); remove it, the run itself is elsewhere"
        ) from error


def _export(entry):
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
