"""What a run leaves: a work directory with one recipe, a table of metrics, checkpoints."""

import contextlib
import csv
import dataclasses
import io
import json
import math
import shlex
from pathlib import Path

from keras_senet.files import replacing, write_atomically
from keras_senet.recipes.recipe import Recipe
from keras_senet.runs import listing as image_lists
from keras_senet.runs.lock import locked

NOT_COMPARED = ("source", "result")
STATES = {"trainer": "checkpoints", "fit": "backup"}  # the folder of what an engine continues from


class WorkDir:
    """The folder of one run, created if need be; `recipe.json` says which run it belongs to.

    Args:
        path: the folder.
        recipe: of the run.
        environment: what `environment()` says.
        images: the datasets of the run by the names of their splits; None does not compare them.
        engine: the name of the loop that trains.
        writable: whether this process may write: the first of several workers.

    Attributes:
        changed: what of the environment differs from the one that the run was begun in, as text;
        else "". notes: what the user is to know, lines of text.

    Raises:
        OSError: if the folder cannot be written, or another process trains in it.
        ValueError: if it belongs to a run of another recipe, names the fields that differ; or with
        other images; or
            if there is what a run leaves, but no recipe.
    """

    def __init__(self, path, recipe, environment, *, images=None, engine="trainer", writable=True):
        self.path = Path(path)
        self.writable = writable
        self.changed = ""
        self.notes = []
        self.metrics = self.path / "metrics.csv"
        self.skipped = self.path / "skipped.csv"
        self.checkpoints = self.path / "checkpoints"
        self._recipe_file = self.path / "recipe.json"
        self._spare = self.path / STATES[engine] / "recipe.json"
        self._listing_file = self._spare.with_name(image_lists.NAME)
        self._listings = {split: dataset.listing() for split, dataset in (images or {}).items()}
        content = {
            "recipe": dataclasses.asdict(recipe),
            "engine": engine,
            "environment": environment,
            "images": image_lists.fingerprint(images or {}, self._listings),
        }
        with self.locked():
            self._claim(recipe, content)

    def locked(self):
        """Within, no other process trains here; the workers of one run are one. Raises as
        `lock.locked` does.
        """
        return locked(self.path) if self.writable else contextlib.nullcontext()

    def _claim(self, recipe, content):
        if not self._recipe_file.exists():
            self._refuse_without_recipe()
            if self.writable:
                self._record(content)
            return
        there = self._read_about()
        try:
            stored = _compared(Recipe.from_json(there["recipe"])) | {
                "engine": there.get("engine", "trainer")
            }
            before = dict(there.get("environment", {}))
            images_before = {split: dict(each) for split, each in there.get("images", {}).items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(error) from error
        fields = _differences(stored, _compared(recipe) | {"engine": content["engine"]})
        if fields:
            raise ValueError(
                f"The work directory {str(self.path)!r} belongs to another recipe: {fields}"
            )
        images, environment = content["images"], content["environment"]
        if images and not images_before:
            self.notes.append(
                "the images that it was begun with were not recorded; today's are, from now on"
            )
            if self.writable:
                self._record(there | {"images": images})
        elif images:
            self._compare_images(images_before, images)
        self.changed = _differences(
            before, {name: value for name, value in environment.items() if name in before}
        )
        if self.changed:
            self.notes.append(f"not to the last bit as it was begun: {self.changed}")
        unknown = sorted(environment.keys() - before.keys())  # to the version that began it
        if unknown:
            self.notes.append(
                f"perhaps not to the last bit as it was begun: {', '.join(unknown)} not recorded then"
            )

    def _read_about(self):
        try:
            return dict(json.loads(self._recipe_file.read_text()))
        except (ValueError, TypeError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error):
        if self._spare.is_file():
            return ValueError(
                f"{str(self._recipe_file)!r} is damaged ({error}); {self._how_to_restore()}"
            )
        return ValueError(
            f"{str(self._recipe_file)!r} is damaged ({error}); remove it or choose another directory"
        )

    def _refuse_without_recipe(self):
        """What a run of unknown settings left is neither continued nor written over."""
        folders = [
            path
            for name in STATES.values()
            if (path := self.path / name).is_dir() and any(path.iterdir())
        ]
        files = [
            path for name in ("model.keras", "metrics.csv") if (path := self.path / name).exists()
        ]
        if not folders and not files:
            return
        there = ", ".join(path.name for path in (*folders, *files))
        how = (
            self._how_to_restore()
            if self._spare.is_file()
            else "put its own one back, or choose another directory"
        )
        raise ValueError(
            f"The work directory {str(self.path)!r} holds a run ({there}) whose recipe.json is missing; {how}"
        )

    def _how_to_restore(self):
        copy = shlex.join(["cp", str(self._spare), str(self._recipe_file)])
        return f"restore it with `{copy}`, or choose another directory"

    def _record(self, content):
        write_atomically(self._recipe_file, json.dumps(content, indent=2) + "\n")

    def _compare_images(self, before, now):
        if before == now:
            return
        try:
            listings = image_lists.unpack(self._listing_file.read_bytes())
        except (OSError, ValueError):
            listings = {}  # counts must do
        changes = image_lists.describe_changes(before, now, listings, self._listings)
        raise ValueError(
            f"The images changed since the run in {str(self.path)!r} began: {changes}. "
            "Put them back, or begin a run in another directory"
        )

    def begin_at(self, step):
        """Gets ready for the steps after this one: a table that ends there, and beside what is
        continued from a copy of the recipe and the names of the images."""
        self.forget_metrics_after(step)
        self._spare.parent.mkdir(exist_ok=True)
        write_atomically(self._spare, self._recipe_file.read_text())
        if self._listings and not self._listing_file.is_file():
            with replacing(self._listing_file) as partial:
                partial.write_bytes(image_lists.pack(self._listings))
        self._listings = {}

    def read_skipped(self):
        """The images that were left out: index -> file and reason."""
        if not self.skipped.exists():
            return {}
        with self.skipped.open(newline="") as file:
            try:
                return {int(row["index"]): row["reason"] for row in csv.DictReader(file)}
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{str(self.skipped)!r} is damaged ({error}); remove it, the run can go on"
                ) from error

    def write_skipped(self, skipped):
        """Lists the images that are left out."""
        rows = [{"index": index, "reason": reason} for index, reason in sorted(skipped.items())]
        write_atomically(self.skipped, _table(rows))

    def append_metrics(self, row):
        """Adds a row to `metrics.csv`; the first one writes the header.

        Where a run was begun with other columns, such as by an earlier version, all rows get those
        of both.
        """
        rows = self.read_metrics()
        if rows and rows[0].keys() != row.keys():
            columns = dict.fromkeys([*rows[0], *row], math.nan)
            self.write_metrics([columns | each for each in (*rows, row)])
            return
        before = _whole_lines(self.metrics)
        write_atomically(self.metrics, before + _table([row], header=not before))

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
        raise FileNotFoundError(
            f"{str(path)!r} holds no training run: there is no recipe.json"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{str(file)!r} is damaged ({error})") from error


def read_engine(path):
    """The loop that trains in a work directory: that of the run there, else the package's own."""
    try:
        about = json.loads((Path(path) / "recipe.json").read_text())
        return about.get("engine", "trainer")
    except (OSError, ValueError, AttributeError):  # which `WorkDir` is to refuse
        return "trainer"


def read_metrics(path):
    """The rows of a `metrics.csv`, numbers as float; none if it is not there.

    A last line that a kill cut is dropped, as part of a number is another number.

    Raises:
        ValueError: if anything else is wrong with it.
    """
    try:
        table = csv.DictReader(io.StringIO(_whole_lines(path), newline=""), strict=True)
        if not {"step", "epoch"} <= set(table.fieldnames or ("step", "epoch")):
            raise ValueError("it has no columns 'step' and 'epoch'")
        return [{name: float(value) for name, value in row.items()} for row in table]
    except (TypeError, ValueError, csv.Error) as error:
        raise ValueError(
            f"{str(path)!r} is damaged: {error}; remove it, the run itself can go on"
        ) from error


def _whole_lines(path):
    """The text of a file up to the end of its last whole line; a power cut may leave zeros after
    it.
    """
    content = path.read_bytes().rstrip(b"\0") if path.exists() else b""
    return content[: content.rfind(b"\n") + 1].decode()


def _compared(recipe):
    """The fields that make a recipe another one, those of its augmentation among them."""
    return {name: value for name, value in recipe.flat().items() if name not in NOT_COMPARED}


def _differences(there, here):
    differing = [
        name for name in sorted(here.keys() | there.keys()) if there.get(name) != here.get(name)
    ]
    return "; ".join(
        f"{name} is {there.get(name)!r} there, {here.get(name)!r} here" for name in differing
    )


def _table(rows, header=True):
    """The rows as CSV; steps and epochs are whole numbers."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    if header:
        writer.writeheader()
    writer.writerows(
        {name: int(v) if name in ("step", "epoch") else v for name, v in row.items()}
        for row in rows
    )
    return text.getvalue()
