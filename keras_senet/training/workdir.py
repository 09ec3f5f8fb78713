"""What a run leaves: a work directory with one recipe, a table of metrics, checkpoints."""

import csv
import dataclasses
import io
import json
import os
from pathlib import Path


class WorkDir:
    """The folder of one run, created if need be; `recipe.json` says which run it belongs to.

    Raises:
        OSError: if the folder cannot be written.
        ValueError: if it belongs to a run of another recipe; names the fields that differ.
    """

    def __init__(self, path, recipe, environment):
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._claim(dataclasses.asdict(recipe), environment)
        except OSError as error:
            raise OSError(f"The work directory {str(path)!r} cannot be written: {error.strerror or error}") from error
        self.metrics = self.path / "metrics.csv"
        self.checkpoints = self.path / "checkpoints"

    def _claim(self, recipe, environment):
        file = self.path / "recipe.json"
        if not file.exists():
            write_atomically(file, json.dumps({"recipe": recipe, "environment": environment}, indent=2) + "\n")
            return
        try:
            stored = dict(json.loads(file.read_text())["recipe"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{str(file)!r} is damaged ({error}); remove it or choose another directory") from error
        differing = [f for f in sorted(recipe.keys() | stored.keys()) if recipe.get(f) != stored.get(f)]
        if differing:
            fields = "; ".join(f"{f} is {stored.get(f)!r} there, {recipe.get(f)!r} here" for f in differing)
            raise ValueError(f"The work directory {str(self.path)!r} belongs to another recipe: {fields}")

    def append_metrics(self, row):
        """Adds a row to `metrics.csv`; the first one writes the header."""
        new = not self.metrics.exists()
        with self.metrics.open("a", newline="") as file:
            file.write(_table([row], header=new))

    def read_metrics(self):
        """The rows of `metrics.csv`, numbers as float."""
        if not self.metrics.exists():
            return []
        with self.metrics.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if None not in row.values()]  # a kill may cut the last one
        try:
            return [{name: float(value) for name, value in row.items()} for row in rows]
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{str(self.metrics)!r} is damaged ({error}); remove it, the run itself can go on"
            ) from error

    def forget_metrics_after(self, step):
        """Drops the rows of steps that a continued run will do again."""
        rows = self.read_metrics()
        kept = [row for row in rows if row["step"] <= step]
        if kept:
            write_atomically(self.metrics, _table(kept))
        else:
            self.metrics.unlink(missing_ok=True)


def _table(rows, header=True):
    """The rows as CSV; steps and epochs are whole numbers."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    if header:
        writer.writeheader()
    writer.writerows({name: int(v) if name in ("step", "epoch") else v for name, v in row.items()} for row in rows)
    return text.getvalue()


def write_atomically(path, text):
    """Writes the text so that the file is the old or the new one at any moment."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, newline="")
    os.replace(partial, path)
