"""What both training loops have in common."""

import keras

from keras_senet.data.division import format_splits
from keras_senet.evaluation import Evaluation, per_class_csv
from keras_senet.evaluation.networks import Images
from keras_senet.files import write_atomically
from keras_senet.plots.curves import training_curves
from keras_senet.recipes.recipe import Recipe
from keras_senet.runs import PER_CLASS, SPLIT
from keras_senet.runs.environment import environment
from keras_senet.runs.load import is_run
from keras_senet.runs.record import describe_recipe, read_recipe
from keras_senet.runs.tables import Row
from keras_senet.runs.workdir import WorkDir
from keras_senet.training.inputs import load_images, lower_batch_size, make_batches
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
        lower_batch: whether a batch size above the number of training images is lowered.
        replicas: how many replicas share a batch.

    Attributes:
        evaluated: the split that was evaluated last, and its `Evaluation`; None before.
    """

    model: keras.Model
    evaluated: tuple[str, Evaluation] | None = None

    def __init__(
        self,
        recipe: Recipe,
        workdir,
        data_dir,
        *,
        name: str,
        tensorboard=False,
        writable=True,
        lower_batch=False,
        replicas=1,
    ):
        self.images = images = load_images(recipe, data_dir)
        self.train_set, self.test_set, self.split, self.final_set, _ = images
        notes = images.notes()
        if lower_batch and recipe.batch_size > len(self.train_set):
            given = recipe.batch_size
            recipe = self._lower_batch(recipe, workdir, replicas)
            if recipe.batch_size < given:
                notes.append(
                    f"the batch size is {recipe.batch_size:,} in place of {given:,}: there are "
                    f"{len(self.train_set):,} training images"
                )
        self.recipe = recipe
        is_begun = is_run(workdir)  # whose images are compared before the batch size
        batches = None if is_begun else make_batches(recipe, self.train_set)
        self.workdir = WorkDir(
            workdir,
            recipe,
            environment(),
            images=images.by_split(),
            engine=name,
            writable=writable,
        )
        self.workdir.notes += notes
        self.data = batches or make_batches(recipe, self.train_set)
        self.steps_per_epoch = self.data.steps_per_epoch
        self.tensorboard = TensorBoard(
            self.workdir.path / "tensorboard" if tensorboard and writable else None
        )

    def _lower_batch(self, recipe, workdir, replicas):
        """The recipe with the batch size that the run began with, else one that the images fill."""
        if is_run(workdir):
            begun = read_recipe(workdir).batch_size
            return recipe.override(batch_size=min(begun, recipe.batch_size))
        return lower_batch_size(recipe, len(self.train_set), replicas)

    @property
    def title(self) -> str:
        """The network and the dataset."""
        return describe_recipe(self.recipe)

    def _begin_at(self, step: int) -> None:
        """Prepares the work directory for the steps after this one."""
        self.workdir.begin_at(step)
        if self.images.is_divided:
            write_atomically(self.workdir.path / SPLIT, format_splits(self.images.by_split()))

    def _record_evaluation(self, split: str, images: Images, result: Evaluation) -> None:
        """Keeps the evaluation of a split in `evaluated`, and writes its figures class by class."""
        self.evaluated = split, result
        text = per_class_csv(result, images.class_names)
        write_atomically(self.workdir.path / PER_CLASS, text)

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
