"""The engine: a loop over `strategy.run` that continues where an earlier run of the same directory stopped."""

import contextlib
import math
import os

import keras
import tensorflow as tf

from keras_senet import data, models
from keras_senet.data import images as image_operations
from keras_senet.evaluation import evaluate, prediction_step
from keras_senet.training.optimizer import make_optimizer
from keras_senet.training.progress import Progress
from keras_senet.training.workdir import WorkDir
from keras_senet.weights import save_weights


def make_strategy():
    """Several workers if TF_CONFIG names them, several GPUs if there are, else none."""
    if "TF_CONFIG" in os.environ:
        return tf.distribute.MultiWorkerMirroredStrategy()
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


@contextlib.contextmanager
def precision(policy):
    """Within, Keras builds layers of this dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class Trainer:
    """Trains the network of a recipe in a work directory.

    Args:
        recipe: a `Recipe`.
        workdir: a folder; one that holds an unfinished run of the same recipe is continued.
        strategy: a `tf.distribute.Strategy`; None chooses one by TF_CONFIG and the number of GPUs.
        verbose: whether to show a progress bar.

    Attributes:
        model: the network, trained after `train()`.
    """

    def __init__(self, recipe, workdir, *, strategy=None, verbose=True):
        self.recipe = recipe
        self.verbose = verbose
        self.strategy = strategy or make_strategy()
        self.train_set, self.test_set = (data.load(recipe.dataset, split) for split in ("train", "test"))
        self.steps_per_epoch = data.steps_per_epoch(self.train_set, recipe.batch_size)
        threads = {"threads": os.cpu_count(), "intra_op": tf.config.threading.get_intra_op_parallelism_threads()}
        self.workdir = WorkDir(workdir, recipe, threads | {"tensorflow": tf.__version__, "keras": keras.__version__})
        self.steps = recipe.epochs * self.steps_per_epoch
        keras.utils.set_random_seed(recipe.seed)
        with self.strategy.scope(), precision(recipe.precision):
            classes = len(self.train_set.class_names)
            self.model = models.get(recipe.model)(
                weights=None, classes=classes, input_shape=self.train_set.images.shape[1:]
            )
            self.optimizer = make_optimizer(recipe, self.steps_per_epoch)
            self.optimizer.build(self.model.trainable_variables)
        self.prediction_step = prediction_step(self.model)
        self.checkpoint = tf.train.Checkpoint(
            model=self.model, optimizer=self.optimizer, step=tf.Variable(0, dtype=tf.int64)
        )
        self.manager = tf.train.CheckpointManager(self.checkpoint, str(self.workdir.checkpoints), max_to_keep=2)

    def train(self):
        """Trains to the end of the recipe; returns the last row of the metrics.

        Raises:
            ValueError: if the checkpoint to continue from is damaged.
            OSError: if the work directory cannot be written, such as when the disk is full.
            FloatingPointError: if the loss is not finite.
        """
        first = self._restore()
        distributed = self.strategy.experimental_distribute_dataset(self._batches(first))
        totals = Totals()
        with Progress(self.steps, first, self.recipe.batch_size, self.verbose) as progress:
            for step, batch in enumerate(distributed, first + 1):
                totals.add(*self._train_step(*batch))
                progress.advance(totals)
                if step % self.steps_per_epoch == 0:
                    progress.note(self._end_epoch(step, totals))
                    totals = Totals()
        self.model.save(self.workdir.path / "model.keras")
        save_weights(self.model, self.workdir.path / "model.weights.h5")
        return next(iter(self.workdir.read_metrics()[-1:]), None)

    def _restore(self):
        """The step to continue from; 0 in a new directory."""
        latest, folder = self.manager.latest_checkpoint, self.workdir.checkpoints
        try:
            if latest:
                self.checkpoint.restore(latest).assert_consumed()
            elif folder.is_file() or (folder / "checkpoint").exists():
                raise ValueError("it names no checkpoint")
        except (tf.errors.OpError, AssertionError, IndexError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(f"{str(folder)!r} is damaged ({reason}); remove it to begin anew") from error
        step = int(self.checkpoint.step)
        self.workdir.forget_metrics_after(step)
        return step

    def _batches(self, first):
        recipe = self.recipe
        operations = [
            *([image_operations.pad_and_crop(recipe.pad_and_crop)] if recipe.pad_and_crop else []),
            *([image_operations.flip()] if recipe.flip else []),
        ]
        return data.training_batches(
            self.train_set,
            recipe.batch_size,
            seed=recipe.seed,
            augment=image_operations.chain(operations),
            first_step=first,
            last_step=self.steps,
        )

    @tf.function
    def _train_step(self, images, labels):
        """One step on all replicas: the mean loss, and the number of images whose class was right."""
        loss, correct = self.strategy.run(self._replica_step, args=(images, labels))
        return self.strategy.reduce("SUM", loss, axis=None), self.strategy.reduce("SUM", correct, axis=None)

    def _replica_step(self, images, labels):
        variables = self.model.trainable_variables
        targets = tf.one_hot(labels, self.model.output_shape[-1])
        with tf.GradientTape() as tape:
            probabilities = self.model(self.model.preprocessing.normalize(images), training=True)
            losses = keras.losses.categorical_crossentropy(
                targets, probabilities, label_smoothing=self.recipe.label_smoothing
            )
            loss = tf.reduce_sum(losses) / self.recipe.batch_size
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, [v.value for v in variables])
        self.optimizer.apply(self._decayed(gradients, variables), variables)
        correct = tf.equal(tf.argmax(probabilities, axis=-1), labels)
        return loss, tf.reduce_sum(tf.cast(correct, tf.float32))

    def _decayed(self, gradients, variables):
        """The gradients with that of the weight decay, at this replica's share and the loss' scale."""
        share = self.optimizer.scale_loss(tf.constant(self.recipe.weight_decay / self.strategy.num_replicas_in_sync))
        return [g + share * v if v.path.endswith("kernel") else g for g, v in zip(gradients, variables, strict=True)]

    def _end_epoch(self, step, totals):
        """Evaluates, then saves; returns the row of the metrics."""
        if not math.isfinite(totals.loss):
            raise FloatingPointError(
                f"The loss is {totals.loss} in the epoch that ends at step {step}, at a learning rate of "
                f"{self._learning_rate():.3g}. The last good checkpoint is {self.manager.latest_checkpoint}"
            )
        result = evaluate(self.model, self.test_set, step=self.prediction_step)
        row = {
            "step": step,
            "epoch": step // self.steps_per_epoch,
            "loss": totals.loss,
            "accuracy": totals.correct / (self.steps_per_epoch * self.recipe.batch_size),
            "test_loss": result.loss,
            "test_accuracy": result.top1,
            "learning_rate": self._learning_rate(),
        }
        self.workdir.append_metrics(row)
        self.checkpoint.step.assign(step)
        try:
            self.manager.save()
        except tf.errors.OpError as error:
            raise OSError(f"{str(self.workdir.checkpoints)!r} cannot be written: {error.message}") from error
        return row

    def _learning_rate(self):
        return float(self.optimizer.learning_rate)


class Totals:
    """The mean loss and the number of right answers of the steps of an epoch so far."""

    def __init__(self):
        self.steps, self.loss_sum, self.correct_sum = 0, 0.0, 0.0

    def add(self, loss, correct):
        self.steps += 1
        self.loss_sum += loss
        self.correct_sum += correct

    @property
    def loss(self):
        return float(self.loss_sum) / max(self.steps, 1)

    @property
    def correct(self):
        return float(self.correct_sum)
