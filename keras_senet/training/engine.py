"""What both training loops have in common."""

import contextlib
from pathlib import Path

import keras

from keras_senet.plots.curves import training_curves
from keras_senet.recipes.recipe import Recipe
from keras_senet.runs.environment import environment
from keras_senet.runs.record import describe_recipe
from keras_senet.runs.tables import Row
from keras_senet.runs.workdir import WorkDir
from keras_senet.training.inputs import load_images
from keras_senet.training.logs import TensorBoard
from keras_senet.training.network import make_network
from keras_senet.training.phases import make_rates
from keras_senet.training.start import read_start


class Engine:
    """A recipe with its images and its work directory, which `train` trains in.

    Args:
        recipe: a `Recipe`.
        workdir: the folder of the run.
        data_dir: where tensorflow_datasets has its data.
        name: of the loop, as in `recipe.json`.
        tensorboard: whether to write event files for TensorBoard.
        writable: whether this process writes to the work directory.
        scope: in which the network is built.
        is_begun: whether the run has something that it continues from: then its network begins
            from random weights, which that replaces.
        restart: whether the learning rate's schedule begins again where `recipe` has more epochs
            than the run in the work directory, which is extended.

    Attributes:
        began_at: the step of the run at which the last call of `train` began.
    """

    def __init__(
        self,
        recipe: Recipe,
        workdir: str | Path,
        data_dir: str | None,
        *,
        name: str,
        tensorboard: bool = False,
        writable: bool = True,
        scope: contextlib.AbstractContextManager | None = None,
        is_begun: bool,
        restart: bool = False,
    ):
        self.recipe, self.began_at = recipe, 0
        start = read_start(recipe, workdir)
        preprocessing = start and start.preprocessing
        self.images = images = load_images(recipe, data_dir, preprocessing)
        self.train_set, self.test_set, self.split, self.final_set, self.data = images
        self.steps_per_epoch = self.data.steps_per_epoch
        keras.utils.set_random_seed(recipe.seed)
        # Before there is a work directory: weights that do not fit leave none.
        with scope or contextlib.nullcontext():
            self.model = make_network(recipe, self.train_set, start and start.spec, preprocessing)
            if start and not is_begun:
                start.load_into(self.model, recipe, self.train_set.class_names)
        self.workdir = WorkDir(
            workdir,
            recipe,
            environment(),
            images=images.by_split(),
            class_names=self.train_set.class_names,
            engine=name,
            start=start and start.to_json(),
            writable=writable,
            count_begun=lambda: self._count_begun(Path(workdir)),
            restart=restart,
        )
        self.steps = recipe.epochs * self.steps_per_epoch
        if start and not is_begun:
            self.workdir.notes.append(start.describe(self.train_set.class_names))
        if self.workdir.extended:
            self.workdir.notes.append(self._describe_rates())
        self.tensorboard = TensorBoard(
            self.workdir.path / "tensorboard" if tensorboard and writable else None
        )

    def _count_begun(self, workdir: Path) -> int:
        """How many epochs of the run in a work directory were begun."""
        raise NotImplementedError

    def _describe_rates(self):
        """How the learning rate goes on in a run that was extended just now."""
        last = self.workdir.segments[-1]
        is_new = last.first and last.origin == last.first
        which = "a new schedule" if is_new else f"the schedule of {last.recipe.epochs} epochs"
        first = max(last.first, last.recipe.head_epochs)
        schedule = make_rates(self.workdir.segments, self.steps_per_epoch)
        rate = float(schedule((first - last.recipe.head_epochs) * self.steps_per_epoch))
        return (
            f"from epoch {first + 1} on the learning rate is that of {which}, at first {rate:.3g}"
        )

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
