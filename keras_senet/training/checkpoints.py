"""Checkpoints of a run: saved in time, found by their files, restored exactly."""

import re
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_senet.files import write_atomically

FILE = re.compile(r"ckpt-(\d+)\.(index|data-\d+-of-\d+)")


def list_steps(folder: Path) -> list[int]:
    """The steps of the checkpoints in a folder, damaged ones among them, from the first on."""
    matches = (FILE.fullmatch(file.name) for file in folder.glob("ckpt-*"))
    return sorted({int(match[1]) for match in matches if match})


class Checkpoints:
    """The last `keep` checkpoints of a run, in `folder`.

    Args:
        folder: where they are.
        keep: how many.
        every_steps, every_minutes: how often `due` says so; 0 is never.
        sums: the names of the numbers that are saved besides the step.
        objects: what is saved: models, optimizers, variables, by name.

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
        sums: Sequence[str],
        **objects: Any,
    ):
        self.folder, self.keep = folder, keep
        self.every_steps, self.every_minutes = every_steps, every_minutes
        self.state = {name: tf.Variable(0.0, dtype=tf.float64) for name in ("step", *sums)}
        self.checkpoint = tf.train.Checkpoint(**objects, state=self.state)
        _ = self.checkpoint.save_counter  # creates it: `tf.train.CheckpointManager` saves it
        self.damaged: dict[Path, str] = {}
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
        """The paths of the checkpoints, without endings, by step.

        Their files are what counts: the list that TensorFlow keeps of them may be lost.
        """
        return [self.folder / f"ckpt-{step}" for step in list_steps(self.folder)]

    def save(self, step: int, sums: Mapping[str, float]) -> None:
        """Saves the objects and the numbers; a kill or a full disk leaves the earlier checkpoints
        as they are.

        Raises:
            OSError: if it cannot be written, such as when the disk is full.
        """
        for name, value in {"step": step, **sums}.items():
            self.state[name].assign(value)
        before, path = self.latest, self.folder / f"ckpt-{step}"
        try:
            self.checkpoint.write(str(path))
            self._sweep()
        except (tf.errors.OpError, OSError) as error:
            reason = getattr(error, "message", error)  # TensorFlow's errors have one
            raise OSError(
                f"{str(self.folder)!r} cannot be written: {reason}. "
                f"The last good checkpoint is {before}"
            ) from error
        self.last_time = time.monotonic()

    def _sweep(self):
        """Removes all but the newest, and says in the file `checkpoint` which these are, for
        TensorFlow's functions.
        """
        found = self._found()
        kept = found[-self.keep :]
        every = "".join(f'all_model_checkpoint_paths: "{path.name}"\n' for path in kept)
        write_atomically(
            self.folder / "checkpoint", f'model_checkpoint_path: "{kept[-1].name}"\n{every}'
        )
        for path in found[: -self.keep]:
            # The index first: without it there is no checkpoint.
            for file in sorted(_files(path), reverse=True):
                file.unlink(missing_ok=True)

    def restore(self) -> tuple[int, dict[str, float]]:
        """The step and the sums of the newest checkpoint that is whole, whose values the objects
        have then.

        Zeros if there never was one: one whose writing was interrupted is none.

        Raises:
            ValueError: if there are checkpoints, and all are damaged.
        """
        self.damaged = {}
        for path in reversed(self._found()):
            try:
                self.checkpoint.restore(str(path)).assert_consumed()
            except (tf.errors.OpError, AssertionError, IndexError, ValueError) as error:
                if not _temporary_folder(path).exists():
                    self.damaged[path] = str(error).partition("\n")[0]
            else:
                sums = {name: float(variable) for name, variable in self.state.items()}
                return int(sums.pop("step")), sums
        reason = next(iter(self.damaged.values()), "it names no checkpoint")
        if self.damaged or self.folder.is_file() or (self.folder / "checkpoint").exists():
            raise ValueError(
                f"{str(self.folder)!r} is damaged ({reason}); remove it to begin again"
            )
        return 0, {name: 0.0 for name in self.state if name != "step"}

    def notes(self, step: int) -> list[str]:
        """What to say of the damaged checkpoints when the run continues at this step."""
        return [
            f"{str(path)!r} is damaged ({why}); continuing from step {step}"
            for path, why in self.damaged.items()
        ]

    def set_aside(self) -> None:
        """Renames the damaged checkpoints after the restored one, whose steps come again; removes
        unfinished ones.
        """
        restored = self.folder / f"ckpt-{int(self.state['step'])}"
        found = self._found()
        for path in found[found.index(restored) + 1 if restored in found else 0 :]:
            for file in _files(path):
                if path in self.damaged:
                    file.replace(file.with_name(f"damaged-{file.name}"))
                else:
                    file.unlink()
        for folder in self.folder.glob(_temporary_folder(self.folder / "ckpt-*").name):
            shutil.rmtree(folder)


def has_checkpoint(folder: Path) -> bool:
    """Whether there is a checkpoint, damaged or not, whose writing was not interrupted."""
    return any(
        not _temporary_folder(file.with_suffix("")).exists() for file in folder.glob("ckpt-*.index")
    )


def _temporary_folder(path):
    """The folder that TensorFlow writes a checkpoint to, and removes when the files are in their
    place.
    """
    return path.with_name(f"{path.name}_temp")


def _files(path):
    return [file for file in path.parent.glob(f"{path.name}.*") if FILE.fullmatch(file.name)]
