"""What both training loops have in common."""

from pathlib import Path
from typing import Any

import keras

from keras_senet.plots.curves import training_curves
from keras_senet.recipes.recipe import Recipe
from keras_senet.runs.environment import environment
from keras_senet.runs.record import describe_recipe
from keras_senet.runs.tables import Row
from keras_senet.runs.workdir import WorkDir
from keras_senet.training.inputs import load_images
from keras_senet.training.logs import TensorBoard
from keras_senet.training.optimizer import make_rates


class Engine:
    """A recipe with its images and its work directory, which `train` trains in.

    Args:
        recipe: a `Recipe`.
        workdir: the folder of the run.
        data_dir: where tensorflow_datasets has its data.
        name: of the loop, as in `recipe.json`.
        tensorboard: whether to write event files for TensorBoard.
        writable: whether this process writes to the work directory.
        restart: whether the learning rate's schedule begins again where `recipe` has more epochs
            than the run in the work directory, which is extended.

    Attributes:
        began_at: the step of the run at which the last call of `train` began.
    """

    model: keras.Model

    def __init__(
        self,
        recipe: Recipe,
        workdir,
        data_dir,
        *,
        name: str,
        tensorboard=False,
        writable=True,
        restart=False,
    ):
        self.recipe, self.began_at = recipe, 0
        self.images = images = load_images(recipe, data_dir)
        self.train_set, self.test_set, self.split, self.final_set, self.data = images
        self.steps_per_epoch = self.data.steps_per_epoch
        self.workdir = WorkDir(
            workdir,
            recipe,
            environment(),
            images=images.by_split(),
            engine=name,
            writable=writable,
            count_begun=lambda: self._count_begun(Path(workdir)),
            restart=restart,
        )
        self.steps = recipe.epochs * self.steps_per_epoch
        self.tensorboard = TensorBoard(
            self.workdir.path / "tensorboard" if tensorboard and writable else None
        )

    def _count_begun(self, workdir: Path) -> int:
        """How many epochs of the run in a work directory were begun."""
        raise NotImplementedError

    def _make_schedule(self, steps_per_epoch: int) -> Any:
        """The learning rate as a function of the step; of a run that was extended just now, it also
        notes how that goes on.
        """
        last = self.workdir.segments[-1]
        schedule = make_rates(self.workdir.segments, steps_per_epoch)
        if self.workdir.extended:
            is_new = last.first and last.origin == last.first
            which = "a new schedule" if is_new else f"the schedule of {last.recipe.epochs} epochs"
            rate = float(schedule(last.first * steps_per_epoch))
            self.workdir.notes.append(
                f"from epoch {last.first + 1} on the learning rate is that of {which}, at first "
                f"{rate:.3g}"
            )
        return schedule

    @property
    def title(self) -> str:
        """The network and the dataset."""
        return describe_recipe(self.recipe)

    def _write_row(self, row: Row) -> None:
        self.workdir.metrics.append(row)
        self.tensorboard.write(row)

    def _save_results(self) -> None:
        """Writes the trained network and, if an epoch ended, the curves."""
        self.workdir.save_network(self.model)
        if rows := self.workdir.metrics.read():
            training_curves(rows, self.workdir.path / "curves.png", self.title)

    def _last_row(self) -> Row | None:
        rows = self.workdir.metrics.read()
        return rows[-1] if rows else None
