"""The engine: runs a recipe in a work directory, and continues where an earlier run of it stopped."""

import functools
import math
import os

import keras
import tensorflow as tf

from keras_senet import data
from keras_senet.evaluation import evaluate, prediction_step
from keras_senet.files import replacing
from keras_senet.images.decoding import describe_error
from keras_senet.plots import training as pictures
from keras_senet.runs.environment import environment
from keras_senet.runs.splits import best_row
from keras_senet.runs.workdir import WorkDir
from keras_senet.training.checkpoints import Checkpoints
from keras_senet.training.inputs import load_images
from keras_senet.training.logs import TensorBoard
from keras_senet.training.network import describe, make_network
from keras_senet.training.optimizer import make_optimizer, make_schedule
from keras_senet.training.progress import Progress
from keras_senet.training.signals import Interruption, WorkerLost
from keras_senet.training.step import Average, TrainStep
from keras_senet.weights import save_weights

STRATEGIES = ("auto", "none", "mirrored")
LOOK = 10  # steps between two looks at the loss and at the other workers' wishes: a look waits for the device


def make_strategy(name="auto"):
    """The strategy of this name: "auto" is several workers if TF_CONFIG names them, all GPUs if
    there are several.
    """
    if name not in STRATEGIES:
        raise ValueError(
            f"`strategy` must be one of {', '.join(STRATEGIES)}. Received: strategy={name!r}"
        )
    if name == "auto" and "TF_CONFIG" in os.environ:
        return tf.distribute.MultiWorkerMirroredStrategy()
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    devices = tuple(device.name for device in tf.config.list_logical_devices(kind))
    if name == "mirrored" or (name == "auto" and kind == "GPU" and len(devices) > 1):
        return mirrored(devices)
    return tf.distribute.get_strategy()


@functools.cache
def mirrored(devices):
    """The `MirroredStrategy` of these devices, once a process.

    TensorFlow counts the collectives of each strategy from 1: those of a second one would meet the
    first one's.
    """
    return tf.distribute.MirroredStrategy(devices)


class Trainer:
    """Trains the network of a recipe in a work directory.

    Args:
        recipe: a `Recipe`.
        workdir: a folder; one that holds an unfinished run of the same recipe is continued. Workers
        share one. strategy: a `tf.distribute.Strategy`, or "auto" (by TF_CONFIG and the number of
        GPUs), "mirrored" or "none". verbose: whether to show a progress bar. data_dir: where
        tensorflow_datasets has its data; None is its own default. max_steps: stops behind this step
        of the run; None goes to the recipe's end. checkpoint_steps, checkpoint_minutes: how often a
        checkpoint is left; one also at the end of each epoch. keep: how many of them.
        evaluate_epochs: how often validation images (test images, where there are no others) are
        evaluated;
            0 is after the last epoch only.
        skip_corrupt: whether images that cannot be used are left out, and listed in `skipped.csv`.
        tensorboard: whether to write event files for TensorBoard.

    Attributes:
        model: the network, trained after `train()`.
        test_set, split: the images that epochs are evaluated on and the best one is chosen on, and
        what they are:
            "val" or, where there are no validation images, "test".
        final_set: the test images that are evaluated once, at the end, by the best epoch's weights;
        None without
            validation images.
    """

    def __init__(
        self,
        recipe,
        workdir,
        *,
        strategy="auto",
        verbose=True,
        data_dir=None,
        max_steps=None,
        checkpoint_steps=0,
        checkpoint_minutes=10.0,
        keep=2,
        evaluate_epochs=1,
        skip_corrupt=False,
        tensorboard=False,
    ):
        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                f"This engine needs KERAS_BACKEND=tensorflow; `--engine fit` runs on {keras.backend.backend()!r}, too"
            )
        self.recipe = recipe
        self.strategy = make_strategy(strategy) if isinstance(strategy, str) else strategy
        resolver = getattr(self.strategy, "cluster_resolver", None)
        self.is_chief = resolver is None or not resolver.task_id
        self.verbose, self.evaluate_epochs, self.skip_corrupt = (
            verbose and self.is_chief,
            evaluate_epochs,
            skip_corrupt,
        )
        images = load_images(recipe, data_dir)
        self.train_set, self.test_set, self.split, self.final_set, self.data = images
        self.steps_per_epoch = self.data.steps_per_epoch
        self.steps = recipe.epochs * self.steps_per_epoch
        self.last = self.steps if max_steps is None else min(max_steps, self.steps)
        self._check_strategy()
        self.workdir = WorkDir(
            workdir, recipe, environment(), images=images.by_split(), writable=self.is_chief
        )
        self.skipped = self.workdir.read_skipped()
        self.schedule = make_schedule(recipe, self.steps_per_epoch)
        keras.utils.set_random_seed(recipe.seed)
        with self.strategy.scope():
            self.model = make_network(recipe, self.train_set)
            self.optimizer = make_optimizer(recipe, self.steps_per_epoch)
            self.optimizer.build(self.model.trainable_variables)
            self.average = Average(self.model, recipe.ema) if recipe.ema else None
        self.step = TrainStep(recipe, self.model, self.optimizer, self.average, self.strategy)
        self.prediction_step = prediction_step(self.model)
        self.checkpoints = Checkpoints(
            self.workdir.checkpoints,
            keep=keep,
            every_steps=checkpoint_steps,
            every_minutes=checkpoint_minutes,
            model=self.model,
            optimizer=self.optimizer,
            **({"average": self.average.averages} if self.average else {}),
        )
        self.tensorboard = TensorBoard(
            self.workdir.path / "tensorboard" if tensorboard and self.is_chief else None
        )

    def _check_strategy(self):
        recipe, replicas = self.recipe, self.strategy.num_replicas_in_sync
        if recipe.batch_size % (replicas * recipe.accumulation):
            raise ValueError(
                f"`batch_size` must be a multiple of {replicas * recipe.accumulation}: {replicas} replicas times "
                f"accumulation={recipe.accumulation}. Received: batch_size={recipe.batch_size}"
            )
        if recipe.xla and replicas > 1:
            raise ValueError(
                f"`xla` is for one device; there are {replicas} replicas. Received: xla=True"
            )

    def train(self):
        """Trains to the end of the recipe; returns the last row of the metrics.

        Raises:
            ValueError: if all checkpoints are damaged, or an image cannot be used.
            OSError: if the work directory cannot be written, such as when the disk is full, or
            another process trains
                in it.
            FloatingPointError: if the loss or the gradient is not finite.
            Terminated: on SIGTERM, behind a checkpoint; KeyboardInterrupt likewise.
            WorkerLost: if another worker ended.
        """
        try:
            with self.workdir.locked():
                return self._train()
        except tf.errors.OpError as error:
            if self._has_workers:
                raise WorkerLost from error
            raise

    def _train(self):
        step, *sums = self.checkpoints.restore()
        self._agree_on(step)
        notes = [*self.workdir.notes, *self.checkpoints.notes(step)]
        if self.is_chief:
            self.checkpoints.set_aside()
            self.workdir.begin_at(step)
        totals = Totals(*sums)
        bar = Progress(self.last, step, self.recipe.batch_size, self.verbose)
        with Interruption() as interruption, bar, self.tensorboard:
            bar.say(self._chosen_on)
            for note in notes if self.is_chief else ():
                bar.tell(note)
            for batch in self._batches(step):
                step += 1
                totals.add(
                    step,
                    self.step(
                        *batch, step - 1, bool(interruption.requested), self._is_frozen(step)
                    ),
                )
                bar.advance(totals)
                stop = False
                if self._must_look(step, interruption):
                    self._read(totals)
                    stop = totals.stop or (interruption.requested and not self._has_workers)
                if step % self.steps_per_epoch == 0:
                    bar.note(self._end_epoch(step, totals))
                    totals = Totals()
                if stop:
                    self._save(step, totals)
                    self._meet()
                    raise interruption.error()
                if (
                    self.checkpoints.due(step)
                    or step == self.last
                    or step % self.steps_per_epoch == 0
                ):
                    self._save(step, totals)
        return self._finish()

    @property
    def _has_workers(self):
        return getattr(self.strategy, "cluster_resolver", None) is not None

    def _is_frozen(self, step):
        return step > self.steps - self.recipe.frozen_bn_epochs * self.steps_per_epoch

    def _must_look(self, step, interruption):
        """Whether to wait for the device now; the same answer on all workers, so that all stop at
        the same step.
        """
        regular = step % LOOK == 0 or step % self.steps_per_epoch == 0 or step == self.last
        return regular or bool(interruption.requested and not self._has_workers)

    def _batches(self, step):
        """The global batches of the steps behind `step`, begun anew without an image that turns out
        to be corrupt.
        """
        while step < self.last:
            iterator = iter(self._distributed(step))
            while step < self.last:
                try:
                    batch = next(iterator)
                except tf.errors.OpError as error:
                    self._skip(self.data.corrupt_at(step, skip=frozenset(self.skipped)), error)
                    break
                step += 1
                yield batch

    def _distributed(self, first):
        replicas = self.strategy.num_replicas_in_sync

        def batches(context=None):
            each = replicas // context.num_input_pipelines if context else 1
            parts = (
                range(context.input_pipeline_id * each, (context.input_pipeline_id + 1) * each)
                if context
                else None
            )
            skip = frozenset(self.skipped)
            return self.data.batches(first, self.last, replicas=replicas, parts=parts, skip=skip)

        return (
            batches() if replicas == 1 else self.strategy.distribute_datasets_from_function(batches)
        )

    def _skip(self, corrupt, error):
        if not corrupt:  # and no worker was lost, as an error of TensorFlow's would say
            raise RuntimeError(f"The images cannot be read: {describe_error(error)}") from error
        if not self.skip_corrupt:
            raise data.CorruptImageError(str(corrupt[0])) from error
        self.skipped |= {each.index: str(each) for each in corrupt}
        if self.is_chief:
            self.workdir.write_skipped(self.skipped)

    def _read(self, totals):
        failed = totals.read()
        if failed is not None:
            what = (
                f"loss is {totals.last_loss}"
                if not math.isfinite(totals.last_loss)
                else "gradient is not finite"
            )
            raise FloatingPointError(
                f"The {what} at step {failed}, at a learning rate of {float(self.schedule(failed - 1)):.3g}. "
                f"The last good checkpoint is {self.checkpoints.latest}"
            )

    def _end_epoch(self, step, totals):
        """Evaluates where it is due; returns the row of the metrics."""
        epoch = step // self.steps_per_epoch
        row = {
            "step": step,
            "epoch": epoch,
            "loss": totals.loss / self.steps_per_epoch,
            "accuracy": totals.correct / (self.steps_per_epoch * self.recipe.batch_size),
            "learning_rate": float(self.schedule(step - 1)),
        }
        if not self.is_chief:
            return row
        is_due = self.evaluate_epochs and epoch % self.evaluate_epochs == 0
        result = self._evaluate() if is_due or step == self.steps else None
        row |= _figures(self.split, result)
        if self.final_set is not None:
            row |= _figures("test", None)
        earlier = [
            each.get(f"{self.split}_accuracy", math.nan) for each in self.workdir.read_metrics()
        ]
        self.workdir.append_metrics(row)
        self.tensorboard.write(row)
        if result and all(not before >= result.top1 for before in earlier):  # some may be nan
            self._with_average(
                lambda: save_weights(self.model, self.workdir.path / "best.weights.h5")
            )
        return row

    def _evaluate(self):
        return self._with_average(lambda: self._evaluate_on(self.test_set))

    def _evaluate_on(self, dataset):
        return evaluate(
            self.model, dataset, step=self.prediction_step, skip_corrupt=self.skip_corrupt
        )

    @property
    def _chosen_on(self):
        """What is said about the images that the best epoch is chosen on."""
        if self.split == "test":
            return f"there are no validation images: the best epoch is chosen on the {len(self.test_set):,} test images"
        once = (
            f"; the {len(self.final_set):,} test images are evaluated once, at the end"
            if self.final_set
            else ""
        )
        return f"the best epoch is chosen on the {len(self.test_set):,} validation images{once}"

    def _test_best(self):
        """Evaluates the best epoch's weights on the test images, once; the figures go into that
        epoch's row.
        """
        rows = self.workdir.read_metrics()
        best, file = best_row(rows), self.workdir.path / "best.weights.h5"
        if best is None or math.isfinite(best.get("test_accuracy", math.nan)) or not file.exists():
            return
        trained = self.model.get_weights()
        self.model.load_weights(file)
        best |= _figures("test", self._evaluate_on(self.final_set))
        self.model.set_weights(trained)
        self.workdir.write_metrics(rows)

    def _with_average(self, function):
        if self.average is None:
            return function()
        with self.average.applied():
            return function()

    def _save(self, step, totals):
        self._read(totals)
        if self.is_chief:
            self.checkpoints.save(step, totals.loss, totals.correct)

    def _finish(self):
        """Leaves the trained network and the curves; returns the last row of the metrics."""
        if self.average is not None:
            self.average.apply()
        if self.is_chief and self.final_set is not None and self.last == self.steps:
            self._test_best()
        rows = self.workdir.read_metrics()
        if self.is_chief:
            with replacing(self.workdir.path / "model.keras") as partial:
                self.model.save(partial)
            save_weights(self.model, self.workdir.path / "model.weights.h5")
            if rows:
                with replacing(self.workdir.path / "curves.png") as partial:
                    pictures.training_curves(rows, partial, self.title)
        self._meet()
        return rows[-1] if rows else None

    @property
    def title(self):
        return describe(self.recipe)

    def _agree_on(self, step):
        """All workers continue from one checkpoint, also where a disk shows them different files."""
        if self._has_workers:
            total = self.strategy.reduce(
                "SUM", self.strategy.run(lambda: tf.constant(step, tf.int64)), axis=None
            )
            if int(total) != step * self.strategy.num_replicas_in_sync:
                raise ValueError(
                    f"The workers find different checkpoints in {str(self.checkpoints.folder)!r}"
                )

    def _meet(self):
        """Waits for all workers: one that ends before the others would end them."""
        if self._has_workers:
            self.strategy.reduce("SUM", self.strategy.run(lambda: tf.constant(1.0)), axis=None)


def _figures(split, result):
    """The figures of an `Evaluation` as the metrics name them; not a number without one."""
    fields = {"loss": "loss", "accuracy": "top1", "top5": "top5"}
    return {
        f"{split}_{name}": getattr(result, field) if result else math.nan
        for name, field in fields.items()
    }


class Totals:
    """Sums of the epoch so far; reads what the device gave only when it is asked to."""

    def __init__(self, loss=0.0, correct=0.0):
        self.loss, self.correct, self.last_loss, self.stop = loss, correct, 0.0, False
        self._unread = []

    def add(self, step, outcome):
        self._unread.append((step, outcome))

    def read(self):
        """Adds up what has come since; returns the first step that failed, or None."""
        unread, self._unread = self._unread, []
        for step, outcome in unread:
            self.last_loss = float(outcome.loss)
            if outcome.failed:
                return step
            self.loss += self.last_loss
            self.correct += float(outcome.correct)
            self.stop = self.stop or bool(outcome.stop)
        return None
