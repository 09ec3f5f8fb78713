"""The same recipes through `model.fit`, on every Keras backend."""

import contextlib
import json
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from keras_senet import models
from keras_senet.evaluation import evaluate
from keras_senet.files import replacing
from keras_senet.graphs import scale_rates
from keras_senet.recipes.recipe import Recipe
from keras_senet.runs import STATES
from keras_senet.runs.tables import Row
from keras_senet.training.callbacks import Backup, StopAt
from keras_senet.training.classification import figures_of
from keras_senet.training.engine import Engine
from keras_senet.training.inputs import Images, weigh_classes
from keras_senet.training.optimizer import is_decayed, make_optimizer
from keras_senet.training.phases import make_rates, rate_factors, untrained_layers

BACKUP = ("latest.weights.h5", "training_metadata.json")  # of Keras' BackupAndRestore


@dataclass(frozen=True)
class OneDevice:
    """Where Keras' loop trains, as `Devices` of a backend: what Keras chooses."""

    replicas: int = 1
    is_chief: bool = True
    pipelines: tuple[str, ...] = ("tf.data",)

    def scope(self) -> contextlib.AbstractContextManager:
        """Within, the network is built."""
        return contextlib.nullcontext()


class FitTrainer(Engine):
    """Trains the network of a recipe in a work directory with Keras' own loop.

    It continues at the last epoch that ended. What differs from `Trainer`: batch normalisation is
    not synchronised or frozen; the moving average is Keras' own, of the weights only, and is taken
    at the end; random numbers of dropout are not those of a run without a break; the loss in
    training includes L2 regularisation.

    Args:
        recipe, workdir, verbose, max_steps, evaluate_epochs: as for `Trainer`.
        options: `data_dir`, `tensorboard`, `restart` and `lower_batch`, as for `Trainer`.

    Attributes:
        model: the network, trained after `train()`.
        recipe, test_set, split, final_set, evaluated: as of `Trainer`; here the last epoch's
            network is evaluated on `final_set`.

    Raises:
        ValueError: for a recipe with `sync_bn` or `frozen_bn_epochs`, which Keras' loop does not
            have.
    """

    name = "fit"

    def __init__(
        self,
        recipe: Recipe,
        workdir: str | Path,
        *,
        verbose: bool = True,
        max_steps: int | None = None,
        evaluate_epochs: int = 1,
        **options: Any,
    ):
        for name in ("sync_bn", "frozen_bn_epochs"):
            if getattr(recipe, name):
                raise ValueError(
                    f"`{name}` is not for --engine fit. Received: {name}={getattr(recipe, name)!r}"
                )
        super().__init__(recipe, workdir, OneDevice(), **options)
        recipe = self.recipe
        self.verbose, self.max_steps, self.evaluate_epochs = verbose, max_steps, evaluate_epochs
        self.skipped = {}
        self.is_cut = False  # whether the epoch that ends had only some of its steps
        # Keras counts each micro-batch as a step.
        self.updates = self.steps_per_epoch * recipe.accumulation
        self._compile(is_head=recipe.head_epochs > 0)

    def _compile(self, is_head):
        """Prepares for the epochs of the head, or for those after them."""
        recipe = self.recipe
        untrained = untrained_layers(recipe, self.model, is_head)
        for layer in self.model.layers:  # `model.trainable` does not reach them
            layer.trainable = layer not in untrained
        self.first_epoch = 0 if is_head else recipe.head_epochs
        rates = make_rates(self.workdir.segments, self.updates, is_head)
        optimizer = make_optimizer(recipe, rates)
        scale_rates(optimizer, rate_factors(recipe, self.model))
        inner: Any = getattr(optimizer, "inner_optimizer", optimizer)
        inner.global_clipnorm = recipe.clip_norm or None
        inner.gradient_accumulation_steps = recipe.accumulation if recipe.accumulation > 1 else None
        # Keras takes an average at the end of `fit`, which the head's epochs are only a part of.
        inner.use_ema, inner.ema_momentum = recipe.ema > 0 and not is_head, recipe.ema
        if recipe.weight_decay and not recipe.decoupled:
            for variable in self.model.trainable_variables:
                if is_decayed(variable, recipe):
                    variable.regularizer = keras.regularizers.L2(recipe.weight_decay / 2)
        default = False if keras.backend.backend() == "tensorflow" else "auto"
        self.model.compile(
            optimizer=optimizer,
            loss=keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing),
            metrics=[
                keras.metrics.CategoricalAccuracy("accuracy"),
                keras.metrics.TopKCategoricalAccuracy(5, "top5"),
            ],
            jit_compile=recipe.xla or default,
        )

    def train(self) -> Row | None:
        """Trains to the end of the recipe; returns the last row of the metrics.

        Raises:
            ValueError: if both backups are damaged, or an image cannot be used.
            OSError: if the work directory cannot be written, or another process trains in it.
        """
        with self.workdir.locked():
            first, notes = self._restore()
            self.began_at = first * self.steps_per_epoch
            for note in (*self.workdir.notes, *notes):
                print(note, file=sys.stderr)
            self._begin_at(first * self.steps_per_epoch)
            if not first:
                self.task.check_images()
            self._fit(first)
            self._save_results()
            return self._last_row()

    def _fit(self, first):
        callbacks: list[keras.callbacks.Callback] = [Backup(self)]
        if self.max_steps:
            callbacks.append(StopAt(self))
        self.model.stop_training = False
        for last in (self.recipe.head_epochs, self.recipe.epochs):
            if first >= last or self.model.stop_training:
                continue
            if first == self.recipe.head_epochs > 0:
                self._compile(is_head=False)
            self.model.fit(
                self._batches(first, last),
                epochs=last,
                initial_epoch=first,
                steps_per_epoch=self.updates,
                shuffle=False,  # is done
                verbose=1 if self.verbose else 0,
                callbacks=callbacks,
            )
            first = last

    def _is_begun(self, workdir):
        return any((workdir / STATES["fit"]).glob(f"{BACKUP[0]}*"))

    def _count_begun(self, workdir):
        for ending in ("", ".bkp"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                about = (workdir / STATES["fit"] / f"{BACKUP[1]}{ending}").read_text()
                return int(json.loads(about)["epoch"])
        return 0

    @property
    def backup(self) -> Path:
        """Where Keras keeps its own checkpoints."""
        return self.workdir.path / STATES["fit"]

    def _restore(self):
        """(the epochs of the newest backup that is whole, whose weights the model has then; what to
        say). It takes the place of a damaged one, of which the next would keep a copy: Keras'
        callback does not write its two files together.
        """
        newest, older = (
            [self.backup / f"{name}{ending}" for name in BACKUP] for ending in ("", ".bkp")
        )
        reasons = []
        for files in (newest, older):
            if not any(file.exists() for file in files):
                continue
            try:
                epoch = self._load(*files)
            except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
                reasons.append(str(error).partition("\n")[0])
                continue
            if files is older:
                for file, place in zip(older, newest, strict=True):
                    with replacing(place) as partial:
                        shutil.copyfile(file, partial)
            what = f"the newest backup in {str(self.backup)!r}"
            return epoch, [
                f"{what} is damaged ({why}); continuing from epoch {epoch}" for why in reasons
            ]
        if reasons:
            raise ValueError(
                f"{str(self.backup)!r} is damaged ({reasons[0]}); remove it to begin again"
            )
        return 0, []

    def _load(self, weights, metadata):
        """The number of epochs after which a backup was made, whose weights the model has then."""
        epoch = json.loads(metadata.read_text())["epoch"]
        if epoch not in range(1, self.recipe.epochs + 1):
            raise ValueError(f"it is of epoch {epoch!r}")
        self._compile(is_head=epoch <= self.recipe.head_epochs)
        optimizer = self.model.optimizer
        optimizer.build(self.model.trainable_variables)
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / BACKUP[0]  # Keras goes by the ending
            shutil.copyfile(weights, copy)
            self.model.load_weights(copy)
        steps = int(optimizer.iterations)  # one of loss scaling skips steps
        expected = (epoch - self.first_epoch) * self.updates
        if not hasattr(optimizer, "inner_optimizer") and steps != expected:
            raise ValueError(f"it is of step {steps} and not of the end of epoch {epoch}")
        return epoch

    def _batches(self, first_epoch, last_epoch):
        steps = self.steps_per_epoch
        micro_batches = self.data.batches(
            first_epoch * steps, last_epoch * steps, replicas=self.recipe.accumulation
        )
        weights = weigh_classes(self.train_set) if self.recipe.class_weights else None

        import tensorflow as tf

        def prepare(images, targets):
            if weights is None:
                return self._normalize(images), targets
            return self._normalize(images), targets, tf.reduce_sum(targets * weights, axis=-1)

        return micro_batches.map(prepare, tf.data.AUTOTUNE)

    def _normalize(self, images):
        """As `Preprocessing.normalize`, by TensorFlow on every backend."""
        import tensorflow as tf

        preprocessing = self.model.preprocessing
        images = (tf.cast(images, tf.float32) - preprocessing.mean) / preprocessing.std
        first = keras.config.image_data_format() == "channels_first"
        return tf.transpose(images, (0, 3, 1, 2)) if first else images

    def evaluate(self, dataset: Images | None = None) -> dict[str, float]:
        """Loss, top-1 and top-5 accuracy on `test_set` or other images, by the preprocessing."""
        task: Any = self.task
        images = self.test_set if dataset is None else dataset
        return figures_of(evaluate(self.model, images, step=task.prediction_step(self.model)))

    def _save_results(self):
        """Those of `Trainer`, without anything of Keras' loop and with all layers trainable."""
        for layer in self.model.layers:
            layer.trainable = True
        network = models.Network.of(self.model)  # not compiled
        self.task.save_results(network, self.workdir)

    def end_epoch(self, epoch: int, logs: Any) -> None:
        """Evaluates where it is due, and writes the row of the metrics."""
        is_last = epoch == self.recipe.epochs
        is_due = is_last or (self.evaluate_epochs and epoch % self.evaluate_epochs == 0)
        logs = dict(logs)  # an evaluation has the same metrics
        row = {
            "step": epoch * self.steps_per_epoch,
            "epoch": epoch,
            "loss": logs["loss"],
            "accuracy": logs["accuracy"],
            "learning_rate": float(self.model.optimizer.learning_rate),
        }
        row |= self._evaluate(self.split) if is_due else self.task.missing(self.split)
        if self.final_set is not None:
            row |= self._evaluate("test") if is_last else self.task.missing("test")
        self._write_row(row)
