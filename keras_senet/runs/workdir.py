"""The work directory of one run: which recipe, engine and images it belongs to."""

import contextlib
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_senet.files import names_damage, replacing, write_atomically
from keras_senet.runs import (
    CLASSIFICATION,
    METRICS,
    NETWORK,
    RECIPE,
    STATES,
    WEIGHTS,
    history,
    listing,
)
from keras_senet.runs.lock import locked
from keras_senet.runs.tables import Metrics, SkippedImages
from keras_senet.weights import save_weights

NOT_COMPARED = ("source", "result", "chosen")
OF_IMAGES = ("dataset", "validation_fraction", "seed")  # fields that say which images a run has


class WorkDir:
    """The folder of one run, created if need be; `recipe.json` says which run it belongs to.

    Args:
        path: the folder.
        recipe: of the run.
        environment: what `environment()` returns.
        images: the datasets of the run by the names of their splits; None does not compare them.
        class_names: of the run's classes, in the order of the network's output.
        task: what is trained; `recipe.json` has it unless that is classification.
        engine: the name of the loop that trains.
        start: what the weights are that the run begins from, as plain data; None if they are
            random.
        writable: whether this process may write: the first of several workers.
        count_begun: returns how many epochs of the run have begun; with it, a recipe with more
            epochs extends the run.
        restart: whether the schedule of the learning rate then begins again; only then may the
            rate and its schedule differ, too.

    Attributes:
        segments: the recipes that the run follows, a `Segment` each; the last one has `recipe`.
        extended: whether the run was extended just now.
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

    extended = False
    changed = ""

    def __init__(
        self,
        path: str | Path,
        recipe: Any,
        environment: Mapping[str, Any],
        *,
        images: Mapping[str, Any] | None = None,
        class_names: Sequence[str] = (),
        task: str = CLASSIFICATION,
        engine: str = "trainer",
        start: Mapping[str, Any] | None = None,
        writable: bool = True,
        count_begun: Callable[[], int] | None = None,
        restart: bool = False,
    ):
        self.path = Path(path)
        self.writable, self._count_begun, self._restart = writable, count_begun, restart
        self.segments, self.notes = [history.Segment(recipe)], []
        self.metrics = Metrics(self.path / METRICS)
        self.skipped = SkippedImages(self.path / "skipped.csv")
        self.checkpoints = self.path / STATES["trainer"]
        self._recipe_file, self._spare = self.path / RECIPE, self.path / STATES[engine] / RECIPE
        self._listing_file = self._spare.with_name(listing.NAME)
        self._listings = {split: dataset.listing() for split, dataset in (images or {}).items()}
        content = {
            **history.to_json(self.segments),
            "engine": engine,
            "environment": dict(environment),
            "class_names": list(class_names),
            "images": listing.fingerprint(images or {}, self._listings),
            **({"start": dict(start)} if start else {}),
            **({"task": task} if task != CLASSIFICATION else {}),
        }
        if restart and not self._recipe_file.exists():
            raise ValueError(
                f"`restart` is for a run with fewer epochs, and {str(self.path)!r} holds none. "
                "Received: restart=True"
            )
        with self.locked():
            self._claim(recipe, content)

    def locked(self) -> contextlib.AbstractContextManager:
        """Within, only the workers of one run train here. Raises as `lock.locked` does."""
        return locked(self.path) if self.writable else contextlib.nullcontext()

    def _claim(self, recipe, content):
        """Begins the run of `content`, or compares it with the run that is here."""
        if not self._recipe_file.exists():
            self._check_empty()
            self._write_recipe(content)
            return
        there = self._read_recipe_file()
        if (kind := there.get("task", CLASSIFICATION)) != content.get("task", CLASSIFICATION):
            raise ValueError(f"The work directory {str(self.path)!r} belongs to a run of {kind}")
        with self._names_damage():
            segments = history.from_json(there, type(recipe))
            engine = there.get("engine", "trainer")
            environment = dict(there.get("environment", {}))
            images = {split: dict(each) for split, each in there.get("images", {}).items()}
        stored = _compared(segments[-1].recipe, engine)
        given = _compared(recipe, content["engine"])
        if given.get("pipeline") == "auto":
            given["pipeline"] = stored["pipeline"]  # that of a run is decided once
        self.segments = segments
        if images and content["images"] and all(stored.get(n) == given.get(n) for n in OF_IMAGES):
            # First: the batch size may only differ as it was lowered to the number of images.
            self._compare_images(images, content["images"])
        extends = self._is_extension(stored, given)
        updated = dict(there)
        if extends:
            self._extend(recipe)
            updated |= history.to_json(self.segments)
        if content["images"] and not images:
            self.notes.append("the images of the run were not recorded; they are from now on")
            updated["images"] = content["images"]
        if content["class_names"] and "class_names" not in there:  # of an earlier version
            updated["class_names"] = content["class_names"]
        self._compare_environments(environment, content["environment"])
        if updated != there:
            self._write_recipe(updated)

    def _is_extension(self, stored, given):
        """Whether the recipe that is given extends the run; raises ValueError if it is another."""
        before, after = stored["epochs"], given["epochs"]
        differing = _differing(stored, given)
        may_change = {"epochs", *(history.RESTARTED if self._restart else ())}
        if self._count_begun and after > before and may_change.issuperset(differing):
            return True
        if differing:
            hint = ""
            if self._count_begun and differing == ["epochs"]:
                hint = "; a run can have more epochs than it had, not fewer"
            elif self._count_begun and {"epochs", *history.RESTARTED}.issuperset(differing):
                hint = "; with more epochs and a restart, the learning rate and its schedule may"
                hint += " change"
            raise ValueError(
                f"The work directory {str(self.path)!r} belongs to another recipe: "
                f"{_describe_differences(stored, given)}{hint}"
            )
        # Else: the same command again
        if self._restart and not self.segments[-1].origin and self._count():
            raise ValueError(
                f"`restart` is for more epochs than the {before} of the run in "
                f"{str(self.path)!r}. Received: epochs={after}"
            )
        return False

    def _count(self):
        return self._count_begun() if self._count_begun else 0

    def _extend(self, recipe):
        begun = self._count()
        if not begun and self.metrics.read():
            raise ValueError(
                f"The run in {str(self.path)!r} cannot be extended: it has no checkpoint"
            )
        before = self.segments[-1].recipe.epochs
        self.segments = history.extend(self.segments, recipe, begun, self._restart)
        self.extended = True
        self.notes.append(f"extended from {before} to {recipe.epochs} epochs")

    def _read_recipe_file(self):
        with self._names_damage():
            return dict(json.loads(self._recipe_file.read_text()))

    def _write_recipe(self, content):
        if self.writable:
            write_atomically(self._recipe_file, json.dumps(content, indent=2) + "\n")

    def _names_damage(self):
        remedy = self._find_remedy("remove it or choose another directory")
        return names_damage(self._recipe_file, remedy)

    def _check_empty(self):
        """Raises ValueError for files of an unknown run, neither continued nor overwritten."""
        folders = [self.path / name for name in STATES.values()]
        found = [path for path in folders if path.is_dir() and any(path.iterdir())]
        found += [path for name in (NETWORK, METRICS) if (path := self.path / name).exists()]
        if not found:
            return
        remedy = self._find_remedy("put its own one back, or choose another directory")
        raise ValueError(
            f"The work directory {str(self.path)!r} holds a run "
            f"({', '.join(path.name for path in found)}) whose {RECIPE} is missing; {remedy}"
        )

    def _find_remedy(self, without):
        """How to restore the recipe from its copy; without one, what is given."""
        if not self._spare.is_file():
            return without
        copy = shlex.join(["cp", str(self._spare), str(self._recipe_file)])
        return f"restore it with `{copy}`, or choose another directory"

    def _compare_images(self, before, now):
        if "test" not in before:  # runs of earlier versions that were evaluated on test images
            now = {split: images for split, images in now.items() if split != "test"}
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
        there, here = ({n: each[n] for n in before.keys() & now.keys()} for each in (before, now))
        self.changed = _describe_differences(there, here)
        reasons = [self.changed] if self.changed else []
        unknown = sorted(now.keys() - before.keys())  # to the version that began it
        if unknown and there.get("backend") == here.get("backend"):  # another one has other names
            reasons.append(f"{', '.join(unknown)} not recorded then")
        if reasons:
            said = "; ".join(reasons)
            self.notes.append(f"the last bits may differ from the run's beginning: {said}")

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


def _differing(there, here):
    names = sorted(here.keys() | there.keys())
    return [name for name in names if there.get(name) != here.get(name)]


def _describe_differences(there, here):
    return "; ".join(
        f"{name} is {there.get(name)!r} there, {here.get(name)!r} here"
        for name in _differing(there, here)
    )
