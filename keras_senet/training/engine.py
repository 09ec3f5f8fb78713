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
    ):
        self.recipe = recipe
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
            engine=name,
            start=start and start.to_json(),
            writable=writable,
        )
        if start and not is_begun:
            self.workdir.notes.append(start.describe(self.train_set.class_names))
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
