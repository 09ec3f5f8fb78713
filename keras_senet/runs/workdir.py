"""The work directory of one run: which recipe, engine and images it belongs to."""

import contextlib
import dataclasses
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_senet.files import replacing, write_atomically
from keras_senet.recipes.recipe import Recipe
from keras_senet.runs import METRICS, NETWORK, RECIPE, STATES, WEIGHTS, listing
from keras_senet.runs.lock import locked
from keras_senet.runs.tables import Metrics, SkippedImages
from keras_senet.weights import save_weights

NOT_COMPARED = ("source", "result")


class WorkDir:
    """The folder of one run, created if need be; `recipe.json` says which run it belongs to.

    Args:
        path: the folder.
        recipe: of the run.
        environment: what `environment()` returns.
        images: the datasets of the run by the names of their splits; None does not compare them.
        class_names: of the run's classes, in the order of the network's output.
        engine: the name of the loop that trains.
        writable: whether this process may write: the first of several workers.

    Attributes:
        metrics: the `Metrics` of the run.
        skipped: its `SkippedImages`.
        checkpoints: the folder of the checkpoints.
        changed: what differs between this environment and the one that the run began in, as text;
            "" if nothing does.
        notes: what the user must know, lines of text.

    Raises:
        OSError: if the folder cannot be written, or another process trains in it.
        ValueError: if it belongs to a run of another recipe, naming the fields that differ, or of
            other images; or if it holds files of a run, but no recipe.
    """

    def __init__(
        self,
        path: str | Path,
        recipe: Recipe,
        environment: Mapping[str, Any],
        *,
        images: Mapping[str, Any] | None = None,
        class_names: Sequence[str] = (),
        engine: str = "trainer",
        writable: bool = True,
    ):
        self.path = Path(path)
        self.writable = writable
        self.changed, self.notes = "", []
        self.metrics = Metrics(self.path / METRICS)
        self.skipped = SkippedImages(self.path / "skipped.csv")
        self.checkpoints = self.path / STATES["trainer"]
        self._recipe_file = self.path / RECIPE
        self._spare = self.path / STATES[engine] / RECIPE
        self._listing_file = self._spare.with_name(listing.NAME)
        self._listings = {split: dataset.listing() for split, dataset in (images or {}).items()}
        content = {
            "recipe": dataclasses.asdict(recipe),
            "engine": engine,
            "environment": dict(environment),
            "class_names": list(class_names),
            "images": listing.fingerprint(images or {}, self._listings),
        }
        with self.locked():
            self._claim(recipe, content)

    def locked(self) -> contextlib.AbstractContextManager:
        """Within, no other process trains here; the workers of one run are one. Raises as
        `lock.locked` does.
        """
        return locked(self.path) if self.writable else contextlib.nullcontext()

    def _claim(self, recipe, content):
        """Begins the run of `content`, or compares it with the run that is here."""
        if not self._recipe_file.exists():
            self._check_empty()
            self._write_recipe(content)
            return
        there = self._read_recipe_file()
        try:
            stored = _compared(Recipe.from_json(there["recipe"]), there.get("engine", "trainer"))
            environment = dict(there.get("environment", {}))
            images = {split: dict(each) for split, each in there.get("images", {}).items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(error) from error
        if differences := _describe_differences(stored, _compared(recipe, content["engine"])):
            raise ValueError(
                f"The work directory {str(self.path)!r} belongs to another recipe: {differences}"
            )
        if content["class_names"] and "class_names" not in there:  # of an earlier version
            there["class_names"] = content["class_names"]
            self._write_recipe(there)
        if content["images"] and not images:
            self.notes.append("the images of the run were not recorded; they are from now on")
            self._write_recipe(there | {"images": content["images"]})
        elif content["images"]:
            self._compare_images(images, content["images"])
        self._compare_environments(environment, content["environment"])

    def _read_recipe_file(self):
        try:
            return dict(json.loads(self._recipe_file.read_text()))
        except (ValueError, TypeError) as error:
            raise self._damaged(error) from error

    def _write_recipe(self, content):
        if self.writable:
            write_atomically(self._recipe_file, json.dumps(content, indent=2) + "\n")

    def _damaged(self, error):
        remedy = "remove it or choose another directory"
        if self._spare.is_file():
            remedy = self._describe_restoring()
        return ValueError(f"{str(self._recipe_file)!r} is damaged ({error}); {remedy}")

    def _check_empty(self):
        """Raises ValueError for files of a run of unknown settings, which is neither continued nor
        overwritten.
        """
        folders = [self.path / name for name in STATES.values()]
        found = [path for path in folders if path.is_dir() and any(path.iterdir())]
        found += [path for name in (NETWORK, METRICS) if (path := self.path / name).exists()]
        if not found:
            return
        remedy = "put its own one back, or choose another directory"
        if self._spare.is_file():
            remedy = self._describe_restoring()
        raise ValueError(
            f"The work directory {str(self.path)!r} holds a run "
            f"({', '.join(path.name for path in found)}) whose {RECIPE} is missing; {remedy}"
        )

    def _describe_restoring(self):
        copy = shlex.join(["cp", str(self._spare), str(self._recipe_file)])
        return f"restore it with `{copy}`, or choose another directory"

    def _compare_images(self, before, now):
        if before == now:
            return
        try:
            listings = listing.unpack(self._listing_file.read_bytes())
        except (OSError, ValueError):
            listings = {}  # only counts are compared
        changes = listing.describe_changes(before, now, listings, self._listings)
        raise ValueError(
            f"The images changed since the run in {str(self.path)!r} began: {changes}. "
            "Put them back, or begin a run in another directory"
        )

    def _compare_environments(self, before, now):
        known = {name: value for name, value in now.items() if name in before}
        self.changed = _describe_differences(before, known)
        if self.changed:
            self.notes.append(f"the last bits may differ from the run's beginning: {self.changed}")
        if unknown := sorted(now.keys() - before.keys()):  # to the version that began it
            self.notes.append(
                "the last bits may differ from the run's beginning: "
                f"{', '.join(unknown)} not recorded then"
            )

    def begin_at(self, step: int) -> None:
        """Prepares for the steps after this one: drops later rows of the metrics, and copies the
        recipe and the names of the images to the folder of what is continued from.
        """
        self.metrics.drop_after(step)
        self._spare.parent.mkdir(exist_ok=True)
        write_atomically(self._spare, self._recipe_file.read_text())
        if self._listings and not self._listing_file.is_file():
            write_atomically(self._listing_file, listing.pack(self._listings))
        self._listings = {}

    def save_network(self, model: keras.Model) -> None:
        """Writes the trained network: `model.keras` and `model.weights.h5`."""
        with replacing(self.path / NETWORK) as partial:
            model.save(partial)
        save_weights(model, self.path / WEIGHTS)


def _compared(recipe, engine):
    """The fields that tell runs apart, those of the augmentation among them."""
    fields = {name: value for name, value in recipe.flat().items() if name not in NOT_COMPARED}
    return fields | {"engine": engine}


def _describe_differences(there, here):
    names = [
        name for name in sorted(here.keys() | there.keys()) if there.get(name) != here.get(name)
    ]
    return "; ".join(
        f"{name} is {there.get(name)!r} there, {here.get(name)!r} here" for name in names
    )
