"""What both training loops have in common."""

import keras

from keras_senet.plots.curves import training_curves
from keras_senet.recipes.recipe import Recipe
from keras_senet.runs.environment import environment
from keras_senet.runs.record import describe_recipe
from keras_senet.runs.tables import Row
from keras_senet.runs.workdir import WorkDir
from keras_senet.training.inputs import load_images
from keras_senet.training.logs import TensorBoard


class Engine:
    """A recipe with its images and its work directory, which `train` trains in.

    Args:
        recipe: a `Recipe`.
        workdir: the folder of the run.
        data_dir: where tensorflow_datasets has its data.
        name: of the loop, as in `recipe.json`.
        tensorboard: whether to write event files for TensorBoard.
        writable: whether this process writes to the work directory.
    """

    model: keras.Model

    def __init__(
        self, recipe: Recipe, workdir, data_dir, *, name: str, tensorboard=False, writable=True
    ):
        self.recipe = recipe
        self.images = images = load_images(recipe, data_dir)
        self.train_set, self.test_set, self.split, self.final_set, self.data = images
        self.steps_per_epoch = self.data.steps_per_epoch
        self.workdir = WorkDir(
            workdir,
            recipe,
            environment(),
            images=images.by_split(),
            class_names=self.train_set.class_names,
            engine=name,
            writable=writable,
        )
        self.tensorboard = TensorBoard(
            self.workdir.path / "tensorboard" if tensorboard and writable else None
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
