"""Evaluations in training: of each epoch, and of the best one at the end."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import keras

from keras_senet.runs.splits import WORDS
from keras_senet.runs.tables import Row, best_by, rows_with
from keras_senet.runs.workdir import WorkDir
from keras_senet.training.average import Average
from keras_senet.training.task import Task


class Validation:
    """Evaluates a network that is trained, and keeps the weights of its best epoch.

    Args:
        task: what is trained.
        model: the network.
        average: of its weights, which is evaluated in their place; or None.
        workdir: where the metrics and the best weights are.
        evaluate: returns the figures of a split as columns of the metrics.
    """

    def __init__(
        self,
        task: Task,
        model: keras.Model,
        average: Average | None,
        workdir: WorkDir,
        evaluate: Callable[[str], Row],
    ):
        self.task, self.model, self.average, self.workdir = task, model, average, workdir
        self.images, self.evaluate = task.images, evaluate

    @property
    def _best_file(self) -> Path:
        return self.workdir.path / self.task.best

    def describe(self) -> str:
        """Which images the best epoch is chosen on."""
        count = len(self.images.evaluation)
        if self.images.split != "val":
            return (
                "there are no validation images: the best epoch is chosen on the "
                f"{count:,} {WORDS[self.images.split]} images"
            )
        once = ""
        if self.images.test is not None:
            once = f"; the {len(self.images.test):,} test images are evaluated once, at the end"
        return f"the best epoch is chosen on the {count:,} validation images{once}"

    def evaluate_epoch(self, is_due: bool) -> Row:
        """The figures of an epoch as columns of the metrics, NaN where it is not evaluated.

        The weights are kept if they are the best ones so far.
        """
        split = self.images.split
        columns = self.task.missing("test") if self.images.test is not None else {}
        if not is_due:
            return self.task.missing(split) | columns
        best = best_by(self.workdir.metrics.read(), self.task.score)
        with self.average.applied() if self.average else contextlib.nullcontext():
            figures = self.evaluate(split)
            if best is None or not best[self.task.score] >= figures[self.task.score]:
                self.task.save_weights(self.model, self._best_file)
        return figures | columns

    def test_best(self) -> None:
        """Evaluates the best weights on the test images, once; the figures go into their row."""
        rows = self.workdir.metrics.read()
        best = best_by(rows, self.task.score)
        if best is None or not self._best_file.exists():
            return
        if any(rows_with([best], name) for name in self.task.missing("test")):
            return
        trained = self.model.get_weights()
        self.model.load_weights(self._best_file)
        best |= self.evaluate("test")
        self.model.set_weights(trained)
        self.workdir.metrics.write(rows)
