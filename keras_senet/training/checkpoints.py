"""Checkpoints of a run: saved in time, restored exactly."""

import time

import tensorflow as tf


class Checkpoints:
    """The last `keep` checkpoints of a run, in `folder`.

    Args:
        folder: where they are.
        keep: how many.
        every_steps, every_minutes: how often `due` says so; 0 is never.
        objects: what is saved: models, optimizers, variables, by name.
    """

    def __init__(self, folder, *, keep, every_steps, every_minutes, **objects):
        self.folder = folder
        self.every_steps, self.every_minutes = every_steps, every_minutes
        self.state = {name: tf.Variable(0.0, dtype=tf.float64) for name in ("step", "loss", "correct")}
        self.checkpoint = tf.train.Checkpoint(**objects, state=self.state)
        self.manager = tf.train.CheckpointManager(self.checkpoint, str(folder), max_to_keep=keep)
        self.last_time = time.monotonic()

    def due(self, step):
        """Whether it is time to save behind this step."""
        by_steps = self.every_steps and step % self.every_steps == 0
        return bool(by_steps or (self.every_minutes and time.monotonic() - self.last_time >= 60 * self.every_minutes))

    @property
    def latest(self):
        return self.manager.latest_checkpoint

    def save(self, step, loss, correct):
        """Saves the objects and three numbers. TensorFlow writes new files and then names them: a kill leaves the old.

        Raises:
            OSError: if it cannot be written, such as when the disk is full; the last one stays.
        """
        for variable, value in zip(self.state.values(), (step, loss, correct), strict=True):
            variable.assign(value)
        before = self.latest
        try:
            self.manager.save(checkpoint_number=step)
        except tf.errors.OpError as error:
            raise OSError(
                f"{str(self.folder)!r} cannot be written: {error.message}. The last good checkpoint is {before}"
            ) from error
        self.last_time = time.monotonic()

    def restore(self):
        """(step, loss, correct) of the latest checkpoint, whose objects have then their values; zeros if there is none.

        Raises:
            ValueError: if it is damaged.
        """
        try:
            if self.latest:
                self.checkpoint.restore(self.latest).assert_consumed()
            elif self.folder.is_file() or (self.folder / "checkpoint").exists():
                raise ValueError("it names no checkpoint")
        except (tf.errors.OpError, AssertionError, IndexError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(f"{str(self.folder)!r} is damaged ({reason}); remove it to begin anew") from error
        step, loss, correct = (float(variable) for variable in self.state.values())
        return int(step), loss, correct
