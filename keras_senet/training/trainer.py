"""The engine: runs a recipe in a work directory, and continues a run from its last checkpoint."""

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_senet import data
from keras_senet.runs import STATES
from keras_senet.runs.history import recipe_at
from keras_senet.runs.tables import Row
from keras_senet.training.average import Average
from keras_senet.training.backends import give_batches, load_backend
from keras_senet.training.checkpoints import Checkpoints, has_checkpoint, list_steps
from keras_senet.training.classification import Classification
from keras_senet.training.engine import Engine
from keras_senet.training.phases import named_optimizers
from keras_senet.training.progress import Progress
from keras_senet.training.signals import Interruption, WorkerLost
from keras_senet.training.task import MakeTask
from keras_senet.training.totals import Totals
from keras_senet.training.validation import Validation

SYNC_EVERY = 10  # steps between reads of loss and signals, each of which waits for the device


class Trainer(Engine):
    """Trains the network of a recipe in a work directory.

    Args:
        recipe: a `Recipe`.
        workdir: a folder; one that holds an unfinished run of the same recipe is continued, and a
            run with fewer epochs is extended. Workers share one.
        strategy: "auto" or "none". On TensorFlow "auto" is by TF_CONFIG and the number of GPUs, and
            it may also be "mirrored" or a `tf.distribute.Strategy`; on JAX it is all devices, of
            the hosts that `jax.distributed` joins, too.
        verbose: whether to show a progress bar.
        data_dir: where tensorflow_datasets has its data; None is its own default.
        max_steps: stops after this step of the run; None goes to the recipe's end.
        checkpoint_steps, checkpoint_minutes: how often a checkpoint is saved; one is also saved at
            the end of each epoch.
        keep: how many of them.
        evaluate_epochs: how often validation images (test images, where there are no others) are
            evaluated; 0 is after the last epoch only.
        skip_corrupt: whether images that cannot be used are left out, and listed in `skipped.csv`.
        tensorboard: whether to write event files for TensorBoard.
        restart: whether a run that is extended begins the schedule of its learning rate again, from
            the last weights; the rate and its schedule may then be others. Without it the epochs
            that are added follow the schedule of the longer run.
        lower_batch: whether a batch size above the number of training images is lowered to it, with
            a note, in place of an error; `recipe` is then what is trained.
        make_task: makes what is trained: a `Task`.

    Attributes:
        recipe: what is trained.
        model: the network, trained after `train()`.
        test_set, split: the images that epochs are evaluated on and the best one is chosen on, and
            what they are: "val" or, where there are no validation images, "test".
        final_set: the test images that are evaluated once, at the end, by the best epoch's weights;
            None without validation images.
        evaluated: the split that was evaluated last, and its `Evaluation`; None before.
    """

    name = "trainer"

    def __init__(
        self,
        recipe: Any,
        workdir: str | Path,
        *,
        strategy: Any = "auto",
        verbose: bool = True,
        data_dir: str | None = None,
        max_steps: int | None = None,
        checkpoint_steps: int = 0,
        checkpoint_minutes: float = 10.0,
        keep: int = 2,
        evaluate_epochs: int = 1,
        skip_corrupt: bool = False,
        tensorboard: bool = False,
        restart: bool = False,
        lower_batch: bool = False,
        make_task: MakeTask = Classification,
    ):
        self.backend = load_backend()
        self.devices = self.backend.Devices(strategy)
        self.verbose = verbose and self.devices.is_chief
        self.evaluate_epochs, self.skip_corrupt = evaluate_epochs, skip_corrupt
        super().__init__(
            recipe,
            workdir,
            self.devices,
            data_dir=data_dir,
            tensorboard=tensorboard,
            restart=restart,
            lower_batch=lower_batch,
            make_task=make_task,
        )
        self.last = self.steps if max_steps is None else min(max_steps, self.steps)
        self.skipped = self.workdir.skipped.read()
        self._build(keep, checkpoint_steps, checkpoint_minutes)

    def _build(self, keep, every_steps, every_minutes):
        recipe = self.recipe
        with self.devices.scope():
            phases = self.task.make_phases(self.workdir.segments, self.model, self.steps_per_epoch)
            self.average = Average(self.model, recipe.ema) if recipe.ema else None
        self.step = self.backend.TrainStep(
            self.task,
            self.model,
            phases,
            self.average,
            self.devices,
            self.data if isinstance(self.data, data.DeviceImages) else None,
        )
        self.validation = Validation(
            self.task, self.model, self.average, self.workdir, self._evaluate
        )
        self.checkpoints = Checkpoints(
            self.workdir.checkpoints,
            keep=keep,
            every_steps=every_steps,
            every_minutes=every_minutes,
            recipe_at=lambda step: recipe_at(self.workdir.segments, step / self.steps_per_epoch),
            model=self.model,
            **named_optimizers(phases),
            **({"average": self.average.averages} if self.average else {}),
        )

    @property
    def prediction_step(self) -> Any:
        """Normalised images -> the network's outputs."""
        task: Any = self.task
        return task.prediction_step(self.model)

    def train(self) -> Row | None:
        """Trains to the end of the recipe; returns the last row of the metrics.

        Raises:
            ValueError: if all checkpoints are damaged, or an image cannot be used.
            OSError: if the work directory cannot be written, such as when the disk is full, or
                another process trains in it.
            FloatingPointError: if the loss or the gradient is not finite.
            Terminated: on SIGTERM, after a checkpoint; KeyboardInterrupt likewise.
            WorkerLost: if another worker ended.
        """
        try:
            with self.workdir.locked():
                self._train(*self._restore())
                return self._finish()
        except self.devices.lost as error:
            if self.devices.several:
                raise WorkerLost from error
            raise

    def _restore(self):
        """(step, totals, what to say) of the last checkpoint, from which all workers continue."""
        self.step.publish()
        step, sums = self.checkpoints.restore()
        self.began_at = step
        self.devices.check_equal(
            step, f"The workers find different checkpoints in {str(self.checkpoints.folder)!r}"
        )
        notes = [*self.workdir.notes, *self.checkpoints.notes(step)]
        if self.devices.is_chief:
            self.checkpoints.set_aside()
            self._begin_at(step)
            if not (step or self.skip_corrupt):
                self.task.check_images()
        names = ("loss", *self.step.objective.figures)
        return step, Totals(dict.fromkeys(names, 0.0) | sums), notes

    def _train(self, step, totals, notes):
        """The steps after `step`; ends with KeyboardInterrupt or `Terminated` if told to stop."""
        bar = Progress(self.last, step, self.recipe.batch_size, self.verbose)
        with Interruption() as interruption, bar, self.tensorboard:
            bar.say(self.validation.describe())
            for note in notes if self.devices.is_chief else ():
                bar.tell(note)
            for batch in self._batches(step):
                step += 1
                wants_stop = bool(interruption.requested)
                totals.add(step, self.step(batch, step - 1, wants_stop))
                bar.advance(totals.last_loss)
                stop = self._must_sync(step, interruption) and self._sync(totals, interruption)
                is_epoch = step % self.steps_per_epoch == 0
                if is_epoch:
                    bar.say(self.task.describe_epoch(self._end_epoch(step, totals)))
                    totals = Totals(dict.fromkeys(totals.sums, 0.0))
                if stop or is_epoch or step == self.last or self.checkpoints.due(step):
                    self._save(step, totals)
                if stop:
                    self.devices.barrier()
                    raise interruption.error()

    def _is_begun(self, workdir):
        return has_checkpoint(workdir / STATES["trainer"])

    def _count_begun(self, workdir):
        steps = list_steps(workdir / STATES["trainer"])
        return math.ceil(steps[-1] / self.steps_per_epoch) if steps else 0

    def _must_sync(self, step, interruption):
        """Whether to wait for the device now: equal on all workers, so that all stop together."""
        regular = step % SYNC_EVERY == 0 or step % self.steps_per_epoch == 0 or step == self.last
        return regular or bool(interruption.requested and not self.devices.several)

    def _sync(self, totals, interruption):
        """Waits for the device; returns whether this worker or another is to stop."""
        self._read(totals)
        return totals.stop or bool(interruption.requested and not self.devices.several)

    def _read(self, totals):
        failed = totals.read()
        if failed is None:
            return
        what = "gradient is not finite"
        if not math.isfinite(totals.last_loss):
            what = f"loss is {totals.last_loss}"
        rate = self.step.rate(failed - 1)
        self.step.publish()
        raise FloatingPointError(
            f"The {what} at step {failed}, at a learning rate of {rate:.3g}. "
            f"The last good checkpoint is {self.checkpoints.latest}"
        )

    def _batches(self, step) -> Iterator[Any]:
        """The batches after `step`; if an image is corrupt, they begin again without it."""
        while step < self.last:
            skip = frozenset(self.skipped)
            iterator = give_batches(self.devices, self.data, step, self.last, skip)
            while step < self.last:
                try:
                    batch = next(iterator)
                except _pipeline_errors() as error:
                    self._skip(self.data.corrupt_at(step, skip), error)
                    break
                step += 1
                yield batch

    def _skip(self, corrupt, error):
        from keras_senet.images.decoding import describe_error

        if not corrupt:  # and no worker was lost, as an error of TensorFlow's would say
            raise RuntimeError(f"The images cannot be read: {describe_error(error)}") from error
        if not self.skip_corrupt:
            raise data.CorruptImageError(str(corrupt[0])) from error
        self.skipped |= {each.index: str(each) for each in corrupt}
        if self.devices.is_chief:
            self.workdir.skipped.write(self.skipped)

    def _end_epoch(self, step, totals):
        epoch = step // self.steps_per_epoch
        row = {
            "step": step,
            "epoch": epoch,
            **self.task.average(totals.sums, self.steps_per_epoch),
            "learning_rate": self.step.rate(step - 1),
        }
        if self.devices.is_chief:
            self.step.publish()
            is_due = self.evaluate_epochs and epoch % self.evaluate_epochs == 0
            row |= self.validation.evaluate_epoch(bool(is_due) or step == self.steps)
            self._write_row(row)
        return row

    def _save(self, step, totals):
        self._read(totals)
        self.step.publish()
        if self.devices.is_chief:
            self.checkpoints.save(step, totals.sums)

    def _finish(self):
        if self.average is not None:
            self.average.apply()
        if self.devices.is_chief:
            if self.final_set is not None and self.last == self.steps:
                self.validation.test_best()
            self._save_results()
        last = self._last_row()
        self.devices.barrier()
        return last


def _pipeline_errors():
    """What `tf.data` raises, on any backend."""
    tensorflow = sys.modules.get("tensorflow")
    return (tensorflow.errors.OpError,) if tensorflow else ()
