"""Checkpoints of a run, which no backend owns: saved in time, found by their files, restored
exactly.
"""

import json
import re
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_senet.runs.workdir import NOT_COMPARED
from keras_senet.training import tensorflow_checkpoints
from keras_senet.training.tensor_file import DamagedTensorsError, read_tensors, write_tensors

ENDING = "safetensors"
FILE = re.compile(rf"ckpt-(\d+)\.({ENDING}|index|data-\d+-of-\d+)")
ABOUT = "checkpoint"  # the text in each file


def list_steps(folder: Path) -> list[int]:
    """The steps of the checkpoints in a folder, damaged ones among them, from the first on."""
    matches = (FILE.fullmatch(file.name) for file in folder.glob("ckpt-*"))
    return sorted({int(match[1]) for match in matches if match})


class Checkpoints:
    """The last `keep` checkpoints of a run, in `folder`: safetensors files of the values of
    variables by their names.

    Args:
        folder: where they are.
        keep: how many.
        every_steps, every_minutes: how often `due` says so; 0 is never.
        recipe_at: returns the recipe that the run follows up to a step; a checkpoint of another
            one is refused.
        objects: what is saved: models, optimizers, lists of variables, by name.

    Attributes:
        damaged: path -> what is wrong with it, of the checkpoints that `restore` could not read.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: int,
        every_steps: int,
        every_minutes: float,
        recipe_at: Callable[[int], Any] | None = None,
        **objects: Any,
    ):
        self.folder, self.keep = folder, keep
        self.every_steps, self.every_minutes = every_steps, every_minutes
        self.recipe_at = recipe_at
        self.objects, self.variables = objects, _name_variables(objects)
        self.damaged: dict[Path, str] = {}
        self.restored = 0
        self.last_time = time.monotonic()

    def due(self, step: int) -> bool:
        """Whether it is time to save after this step."""
        by_steps = self.every_steps and step % self.every_steps == 0
        seconds = time.monotonic() - self.last_time
        return bool(by_steps or (self.every_minutes and seconds >= 60 * self.every_minutes))

    @property
    def latest(self) -> str | None:
        """The path of the last checkpoint, without ending; None without one."""
        found = self._found()
        return str(found[-1]) if found else None

    def _found(self):
        return [self.folder / f"ckpt-{step}" for step in list_steps(self.folder)]

    def save(self, step: int, sums: Mapping[str, float]) -> None:
        """Saves the variables and the sums of the epoch so far; a kill or a full disk leaves the
        earlier checkpoints as they are.

        Raises:
            OSError: if it cannot be written, such as when the disk is full.
        """
        before = self.latest
        about = {
            "step": step,
            "sums": dict(sums),
            "about": self._recipe_of(step),
            "backend": keras.backend.backend(),
        }
        arrays = {name: np.asarray(variable) for name, variable in self.variables.items()}
        try:
            self.folder.mkdir(exist_ok=True)
            path = self.folder / f"ckpt-{step}.{ENDING}"
            write_tensors(path, arrays, {ABOUT: json.dumps(about)})
            self._sweep()
        except OSError as error:
            raise OSError(
                f"{str(self.folder)!r} cannot be written: {error}. "
                f"The last good checkpoint is {before}"
            ) from error
        self.last_time = time.monotonic()

    def _sweep(self):
        """Removes all but the newest."""
        for path in self._found()[: -self.keep]:
            # The index of TensorFlow's first: without it there is no checkpoint.
            for file in sorted(_files(path), reverse=True):
                file.unlink(missing_ok=True)
        if not any(self.folder.glob("ckpt-*.index")):
            (self.folder / "checkpoint").unlink(missing_ok=True)  # TensorFlow's list of them

    def restore(self) -> tuple[int, dict[str, float]]:
        """(step, sums) of the newest checkpoint that is whole, whose values the variables have
        then.

        0 and no sums if there never was one: one whose writing was interrupted is none.

        Raises:
            ValueError: if there are checkpoints, and all are damaged; or for one of another run.
        """
        self.damaged, self.restored = {}, 0
        for path in reversed(self._found()):
            try:
                self.restored, sums = self._read(path)
            except (DamagedTensorsError, OSError) as error:
                if not tensorflow_checkpoints.is_unfinished(path):
                    self.damaged[path] = str(error)
            else:
                return self.restored, sums
        reason = next(iter(self.damaged.values()), "it names no checkpoint")
        if self.damaged or self.folder.is_file() or (self.folder / "checkpoint").exists():
            raise ValueError(
                f"{str(self.folder)!r} is damaged ({reason}); remove it to begin again"
            )
        return 0, {}

    def _read(self, path):
        file = path.with_name(f"{path.name}.{ENDING}")
        if not file.exists():
            return tensorflow_checkpoints.restore_checkpoint(path, self.objects)
        arrays, texts = read_tensors(file)
        content = json.loads(texts[ABOUT])
        self._compare(path, content["about"], self._recipe_of(content["step"]), arrays)
        for name, variable in self.variables.items():
            variable.assign(arrays[name])
        return content["step"], content["sums"]

    def _recipe_of(self, step):
        """The recipe that the run follows up to a step, as plain data."""
        return _describe_recipe(self.recipe_at(step)) if self.recipe_at else {}

    def _compare(self, path, about, own, arrays):
        """Raises ValueError for a checkpoint of another run."""
        there = about | {name: _describe(array) for name, array in arrays.items()}
        here = own | {name: _describe(each) for name, each in self.variables.items()}
        # Versions of this package may have other fields.
        for name in (*sorted(about.keys() & own.keys()), *self.variables, *arrays):
            if there.get(name) != here.get(name):
                raise ValueError(
                    f"{str(path)!r} is of another run: {name} is {there.get(name)!r} there, "
                    f"{here.get(name)!r} here"
                )

    def notes(self, step: int) -> list[str]:
        """What to say of the damaged checkpoints when the run continues at this step."""
        return [
            f"{str(path)!r} is damaged ({why}); continuing from step {step}"
            for path, why in self.damaged.items()
        ]

    def set_aside(self) -> None:
        """Renames the damaged checkpoints after the restored one; removes unfinished ones."""
        restored = self.folder / f"ckpt-{self.restored}"
        found = self._found()
        for path in found[found.index(restored) + 1 if restored in found else 0 :]:
            for file in _files(path):
                if path in self.damaged:
                    file.replace(file.with_name(f"damaged-{file.name}"))
                else:
                    file.unlink()
        for file in self.folder.glob(f".partial-*.{ENDING}"):
            file.unlink()
        for folder in self.folder.glob("ckpt-*_temp"):
            shutil.rmtree(folder)


def has_checkpoint(folder: Path) -> bool:
    """Whether there is a checkpoint, damaged or not, whose writing was not interrupted."""
    indices = folder.glob("ckpt-*.index")
    return any(folder.glob(f"ckpt-*.{ENDING}")) or any(
        not tensorflow_checkpoints.is_unfinished(file.with_suffix("")) for file in indices
    )


def _files(path):
    return [file for file in path.parent.glob(f"{path.name}.*") if FILE.fullmatch(file.name)]


def _name_variables(objects: Mapping[str, Any]) -> dict[str, keras.Variable]:
    """The objects' variables by "object/path"; a number tells equal names apart."""
    named = {}
    for owner, value in objects.items():
        for path, variable in _paths(value):
            name, n = f"{owner}/{path}", 1
            while name in named:
                n += 1
                name = f"{owner}/{path}~{n}"
            named[name] = variable
    return named


def _paths(value: Any) -> Iterable[tuple[str, keras.Variable]]:
    if isinstance(value, keras.Model):
        return [(variable.path, variable) for variable in value.weights]
    if isinstance(value, keras.Optimizer):
        # Without the optimizer's own name, which counts those that a process has made
        return [(v.path.partition("/")[2] or v.path, v) for v in value.variables]
    return [(variable.path, variable) for variable in value]


def _describe_recipe(recipe):
    """The fields that tell runs apart, as plain data: one with more epochs is the same."""
    changing = {"epochs", *NOT_COMPARED}
    fields = {name: value for name, value in recipe.flat().items() if name not in changing}
    return json.loads(json.dumps(fields, default=repr))


def _describe(array):
    """Type and shape; the integers of backends differ in size."""
    kind = keras.backend.standardize_dtype(array.dtype)
    return f"{'integer' if 'int' in kind else kind} {list(array.shape)}"
