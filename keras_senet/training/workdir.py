"""What a run leaves: a work directory with one recipe, a table of metrics, checkpoints."""

import csv
import dataclasses
import io
import json
import math
import os
from pathlib import Path

from keras_senet.training.recipe import Recipe

NOT_COMPARED = ("source", "result")


class WorkDir:
    """The folder of one run, created if need be; `recipe.json` says which run it belongs to.

    Attributes:
        changed: what of the environment differs from the one that the run was begun in, as text; else "".

    Raises:
        OSError: if the folder cannot be written.
        ValueError: if it belongs to a run of another recipe; names the fields that differ.
    """

    def __init__(self, path, recipe, environment, *, engine="trainer", writable=True):
        self.path = Path(path)
        self.writable = writable
        self.changed = ""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._claim(recipe, engine, environment)
        except OSError as error:
            raise OSError(f"The work directory {str(path)!r} cannot be written: {error.strerror or error}") from error
        self.metrics = self.path / "metrics.csv"
        self.skipped = self.path / "skipped.csv"
        self.checkpoints = self.path / "checkpoints"

    def _claim(self, recipe, engine, environment):
        file = self.path / "recipe.json"
        content = {"recipe": dataclasses.asdict(recipe), "engine": engine, "environment": environment}
        if not file.exists():
            if self.writable:
                write_atomically(file, json.dumps(content, indent=2) + "\n")
            return
        try:
            there = json.loads(file.read_text())
            stored = _compared(Recipe.from_json(there["recipe"])) | {"engine": there.get("engine", "trainer")}
            before = dict(there.get("environment", {}))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{str(file)!r} is damaged ({error}); remove it or choose another directory") from error
        wanted = _compared(recipe) | {"engine": engine}
        fields = _differences(stored, wanted)
        if fields:
            raise ValueError(f"The work directory {str(self.path)!r} belongs to another recipe: {fields}")
        self.changed = _differences(before, environment)

    def read_skipped(self):
        """The images that were left out: index -> file and reason."""
        if not self.skipped.exists():
            return {}
        with self.skipped.open(newline="") as file:
            try:
                return {int(row["index"]): row["reason"] for row in csv.DictReader(file)}
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{str(self.skipped)!r} is damaged ({error}); remove it, the run can go on") from error

    def write_skipped(self, skipped):
        """Lists the images that are left out."""
        rows = [{"index": index, "reason": reason} for index, reason in sorted(skipped.items())]
        write_atomically(self.skipped, _table(rows))

    def append_metrics(self, row):
        """Adds a row to `metrics.csv`; the first one writes the header.

        Where a run was begun with other columns, such as by an earlier version, all rows get those of both.
        """
        rows = self.read_metrics()
        if rows and rows[0].keys() != row.keys():
            columns = dict.fromkeys([*rows[0], *row], math.nan)
            self.write_metrics([columns | each for each in (*rows, row)])
            return
        new = not self.metrics.exists()
        with self.metrics.open("a", newline="") as file:
            file.write(_table([row], header=new))

    def write_metrics(self, rows):
        """Replaces all rows."""
        write_atomically(self.metrics, _table(rows))

    def read_metrics(self):
        """The rows of `metrics.csv`, numbers as float."""
        return read_metrics(self.metrics)

    def forget_metrics_after(self, step):
        """Drops the rows of steps that a continued run will do again."""
        rows = self.read_metrics()
        kept = [row for row in rows if row["step"] <= step]
        if kept:
            self.write_metrics(kept)
        else:
            self.metrics.unlink(missing_ok=True)


def read_run(path):
    """The recipe and the rows of the metrics of a work directory.

    Raises:
        ValueError: if one of its files is damaged, or FileNotFoundError if there is none.
    """
    return read_recipe(path), read_metrics(Path(path) / "metrics.csv")


def read_recipe(path):
    """The recipe of a work directory. Raises as `read_run` does."""
    file = Path(path) / "recipe.json"
    try:
        return Recipe.from_json(json.loads(file.read_text())["recipe"])
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{str(path)!r} holds no training run: there is no recipe.json") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{str(file)!r} is damaged ({error})") from error


def read_metrics(path):
    """The rows of a `metrics.csv`, numbers as float; none if it is not there."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if None not in row.values()]  # a kill may cut the last one
    try:
        return [{name: float(value) for name, value in row.items()} for row in rows]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} is damaged ({error}); remove it, the run itself can go on") from error


def _compared(recipe):
    """The fields that make a recipe another one, those of its augmentation among them."""
    return {name: value for name, value in recipe.flat().items() if name not in NOT_COMPARED}


def _differences(there, here):
    differing = [name for name in sorted(here.keys() | there.keys()) if there.get(name) != here.get(name)]
    return "; ".join(f"{name} is {there.get(name)!r} there, {here.get(name)!r} here" for name in differing)


def _table(rows, header=True):
    """The rows as CSV; steps and epochs are whole numbers."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    if header:
        writer.writeheader()
    writer.writerows({name: int(v) if name in ("step", "epoch") else v for name, v in row.items()} for row in rows)
    return text.getvalue()


def check_folder(folder, argument):
    """Raises OSError unless files can be written to a folder, which need not exist: before long work, it makes none."""
    there = next(each for each in (folder, *folder.parents) if os.path.exists(each))
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return
    reason = f"no permission for {str(there)!r}" if there.is_dir() else f"{str(there)!r} is no folder"
    raise OSError(f"{argument} cannot be written: {str(folder)!r} ({reason})")


def write_atomically(path, text):
    """Writes the text so that the file is the old or the new one at any moment."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, newline="")
    os.replace(partial, path)
