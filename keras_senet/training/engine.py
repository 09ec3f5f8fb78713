"""What both training loops have in common."""

from pathlib import Path
from typing import Any

import keras

from keras_senet.fields import check_field
from keras_senet.files import write_atomically
from keras_senet.runs import SPLIT
from keras_senet.runs.environment import environment
from keras_senet.runs.load import is_run
from keras_senet.runs.record import read_pipeline, read_recipe
from keras_senet.runs.tables import Row
from keras_senet.runs.workdir import WorkDir
from keras_senet.training.classification import Classification
from keras_senet.training.inputs import lower_batch_size, resolve_pipeline
from keras_senet.training.logs import TensorBoard
from keras_senet.training.phases import make_rates
from keras_senet.training.task import MakeTask


class Engine:
    """A recipe with its images and its work directory, which `train` trains in.

    Args:
        recipe: a `Recipe`.
        workdir: the folder of the run.
        devices: where it is trained: `Devices` of a backend, or the like.
        data_dir: where tensorflow_datasets has its data.
        tensorboard: whether to write event files for TensorBoard.
        restart: whether the learning rate's schedule begins again where `recipe` has more epochs
            than the run in the work directory, which is extended.
        lower_batch: whether a batch size above the number of training images is lowered.
        make_task: makes what is trained of the recipe, the work directory and `data_dir`.

    Attributes:
        name: of the loop, as in `recipe.json`.
        task: the `Task`.
        began_at: the step of the run at which the last call of `train` began.
        evaluated: the split that was evaluated last, and what was found; None before.
    """

    name: str
    evaluated: tuple[str, Any] | None = None
    skip_corrupt = False

    def __init__(
        self,
        recipe: Any,
        workdir: str | Path,
        devices: Any,
        *,
        data_dir: str | None = None,
        tensorboard: bool = False,
        restart: bool = False,
        lower_batch: bool = False,
        make_task: MakeTask = Classification,
    ):
        self.began_at = 0
        self.task = task = make_task(recipe, workdir, data_dir)
        self.images = images = task.images
        self.train_set, self.test_set, self.split, self.final_set, _ = images
        notes = task.notes()
        if lower_batch and recipe.batch_size > len(self.train_set):
            recipe = self._lower_batch(recipe, workdir, devices.replicas, notes)
        _check_replicas(recipe, devices.replicas)
        notes += _describe_statistics(recipe, devices.replicas)
        begun = read_pipeline(workdir)
        self.recipe = resolve_pipeline(recipe, self.train_set, begun, devices.pipelines)
        task.recipe = recipe = self.recipe
        self.steps_per_epoch = task.count_steps()
        self.steps = recipe.epochs * self.steps_per_epoch
        # The images of a run that is there are compared before the batch size is refused.
        batches = None if is_run(workdir) else task.make_batches()
        keras.utils.set_random_seed(recipe.seed)
        # Before there is a work directory: weights that do not fit leave none.
        with devices.scope():
            self.model: Any = task.make_network()
            begins_from = None if self._is_begun(Path(workdir)) else task.load_start(self.model)
        self.workdir = self._claim(workdir, devices.is_chief, restart)
        self.data = batches or task.make_batches()
        self.workdir.notes += [*notes, *([begins_from] if begins_from else [])]
        if self.workdir.extended:
            self.workdir.notes.append(self._describe_rates())
        events = self.workdir.path / "tensorboard" if tensorboard and devices.is_chief else None
        self.tensorboard = TensorBoard(events)

    def _claim(self, workdir, writable, restart):
        return WorkDir(
            workdir,
            self.recipe,
            environment(),
            images=self.images.by_split(),
            class_names=self.task.class_names,
            task=self.task.name,
            engine=self.name,
            start=self.task.start and self.task.start.to_json(),
            writable=writable,
            count_begun=lambda: self._count_begun(Path(workdir)),
            restart=restart,
        )

    def _is_begun(self, workdir: Path) -> bool:
        """Whether a run continues from something, which replaces the network's random weights."""
        raise NotImplementedError

    def _count_begun(self, workdir: Path) -> int:
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

    def _lower_batch(self, recipe, workdir, replicas, notes):
        """The recipe with the batch size that the run began with, else one that the images fill."""
        if is_run(workdir):
            begun = read_recipe(workdir, type(recipe)).batch_size
            lower = recipe.override(batch_size=min(begun, recipe.batch_size))
        else:
            lower = lower_batch_size(recipe, len(self.train_set), replicas)
        if lower.batch_size < recipe.batch_size:
            notes.append(
                f"the batch size is {lower.batch_size:,} in place of {recipe.batch_size:,}: there "
                f"are {len(self.train_set):,} training images"
            )
        return lower

    @property
    def title(self) -> str:
        """The network and the dataset."""
        return self.task.title

    def _begin_at(self, step: int) -> None:
        self.workdir.begin_at(step)
        if self.images.is_divided:
            write_atomically(self.workdir.path / SPLIT, self.task.format_division())

    def _evaluate(self, split: str) -> dict[str, float]:
        """The figures of a split as columns of the metrics; what else is found is recorded."""
        figures, found = self.task.evaluate(self.model, split, skip_corrupt=self.skip_corrupt)
        self.evaluated = split, found
        self.task.record(self.workdir.path, split, found)
        return figures

    def _write_row(self, row: Row) -> None:
        self.workdir.metrics.append(row)
        self.tensorboard.write(row)

    def _save_results(self) -> None:
        self.task.save_results(self.model, self.workdir)

    def _last_row(self) -> Row | None:
        rows = self.workdir.metrics.read()
        return rows[-1] if rows else None


def _check_replicas(recipe, replicas):
    """Raises ValueError for a recipe that so many replicas cannot train."""
    micro_batches = replicas * recipe.accumulation
    times = f"{replicas} replicas times accumulation={recipe.accumulation}"
    accepted = f"a multiple of {micro_batches}: {times}"
    check_field(recipe, "batch_size", recipe.batch_size % micro_batches == 0, accepted)
    if recipe.xla and replicas > 1 and keras.backend.backend() == "tensorflow":
        raise ValueError(
            f"`xla` is for one device; there are {replicas} replicas. Received: xla=True"
        )


def _describe_statistics(recipe, replicas):
    """What differs from `sync_bn` of the recipe, if anything: a line of text."""
    if recipe.sync_bn or replicas == 1 or keras.backend.backend() != "jax":
        return []
    return [
        f"on JAX batch normalisation sees the images of all {replicas} devices, as with `sync_bn`"
    ]
