"""The same recipes through `model.fit`, on every Keras backend."""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_senet import data
from keras_senet.evaluation.networks import views_of
from keras_senet.files import replacing
from keras_senet.plots import training as pictures
from keras_senet.runs.environment import environment
from keras_senet.runs.splits import FIGURES
from keras_senet.runs.workdir import WorkDir
from keras_senet.training.inputs import load_images
from keras_senet.training.logs import TensorBoard
from keras_senet.training.network import describe, make_network
from keras_senet.training.optimizer import make_optimizer
from keras_senet.weights import save_weights

BACKUP = ("latest.weights.h5", "training_metadata.json")  # of Keras' BackupAndRestore


class FitTrainer:
    """Trains the network of a recipe in a work directory with Keras' own loop.

    It continues at the last epoch that ended. What differs from `Trainer`: batch normalisation is
    not synchronised or frozen; the moving average is Keras' own, of the weights alone, and is taken
    at the end; random numbers of dropout are not those of a run without a break; the loss that is
    shown has the coupled decay in it.

    Args:
        recipe, workdir, verbose, data_dir, max_steps, evaluate_epochs, tensorboard: as for
        `Trainer`.

    Attributes:
        model: the network, trained after `train()`.
        test_set, split, final_set: as of `Trainer`; here the last epoch's network is evaluated on
        `final_set`.

    Raises:
        ValueError: for a recipe with `sync_bn` or `frozen_bn_epochs`, which Keras' loop does not
        have.
    """

    def __init__(
        self,
        recipe,
        workdir,
        *,
        verbose=True,
        data_dir=None,
        max_steps=None,
        evaluate_epochs=1,
        tensorboard=False,
    ):
        for name in ("sync_bn", "frozen_bn_epochs"):
            if getattr(recipe, name):
                raise ValueError(
                    f"`{name}` is not for --engine fit. Received: {name}={getattr(recipe, name)!r}"
                )
        self.recipe, self.verbose = recipe, verbose
        self.max_steps, self.evaluate_epochs = max_steps, evaluate_epochs
        images = load_images(recipe, data_dir)
        self.train_set, self.test_set, self.split, self.final_set, self.data = images
        self.workdir = WorkDir(
            workdir, recipe, environment(), images=images.by_split(), engine="fit"
        )
        self.skipped = {}
        self.is_cut = False  # whether the epoch that ends had only some of its steps
        keras.utils.set_random_seed(recipe.seed)
        self.model = make_network(recipe, self.train_set)
        self.updates = (
            self.data.steps_per_epoch * recipe.accumulation
        )  # Keras counts each part of a batch as a step
        self._compile()
        self.tensorboard = TensorBoard(self.workdir.path / "tensorboard" if tensorboard else None)

    @property
    def title(self):
        return describe(self.recipe)

    def _compile(self):
        recipe = self.recipe
        optimizer = make_optimizer(recipe, self.updates)
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        inner.global_clipnorm = recipe.clip_norm or None
        inner.gradient_accumulation_steps = recipe.accumulation if recipe.accumulation > 1 else None
        inner.use_ema, inner.ema_momentum = recipe.ema > 0, recipe.ema
        if recipe.weight_decay and not recipe.decoupled:
            for variable in self.model.trainable_variables:
                if variable.path.endswith("kernel"):
                    variable.regularizer = keras.regularizers.L2(recipe.weight_decay / 2)
        self.model.compile(
            optimizer=optimizer,
            loss=keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing),
            metrics=[
                keras.metrics.CategoricalAccuracy("accuracy"),
                keras.metrics.TopKCategoricalAccuracy(5, "top5"),
            ],
            jit_compile=recipe.xla
            or ("auto" if keras.backend.backend() != "tensorflow" else False),
        )

    def train(self):
        """Trains to the end of the recipe; returns the last row of the metrics.

        Raises:
            ValueError: if both backups are damaged, or an image cannot be used.
            OSError: if the work directory cannot be written, or another process trains in it.
        """
        with self.workdir.locked():
            return self._train()

    def _train(self):
        first, notes = self._restore()
        for note in (*self.workdir.notes, *notes):
            print(note, file=sys.stderr)
        self.workdir.begin_at(first * self.data.steps_per_epoch)
        if first < self.recipe.epochs:
            self.model.fit(
                self._batches(first),
                epochs=self.recipe.epochs,
                initial_epoch=first,
                steps_per_epoch=self.updates,
                shuffle=False,  # is done
                verbose=1 if self.verbose else 0,
                callbacks=[
                    _Backup(self),
                    _AtEpochEnd(self),
                    *([_StopAt(self)] if self.max_steps else []),
                ],
            )
        with replacing(self.workdir.path / "model.keras") as partial:
            self.model.save(partial, include_optimizer=False)
        save_weights(self.model, self.workdir.path / "model.weights.h5")
        rows = self.workdir.read_metrics()
        if rows:
            with replacing(self.workdir.path / "curves.png") as partial:
                pictures.training_curves(rows, partial, self.title)
        return rows[-1] if rows else None

    def _restore(self):
        """(the epoch that Keras' callback will continue with, what to say): the newest backup that
        is whole is put in the place of the one that the callback reads, which writes neither at
        once nor both its files together."""
        folder = self.workdir.path / "backup"
        newest, older = ([folder / f"{name}{ending}" for name in BACKUP] for ending in ("", ".bkp"))
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
            what = f"the newest backup in {str(folder)!r}"
            return epoch, [
                f"{what} is damaged ({why}); continuing from epoch {epoch}" for why in reasons
            ]
        if reasons:
            raise ValueError(f"{str(folder)!r} is damaged ({reasons[0]}); remove it to begin again")
        return 0, []

    def _load(self, weights, metadata):
        """The number of epochs after which a backup was made, whose weights the model has then."""
        epoch = json.loads(metadata.read_text())["epoch"]
        if epoch not in range(1, self.recipe.epochs + 1):
            raise ValueError(f"it is of epoch {epoch!r}")
        optimizer = self.model.optimizer
        if not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / BACKUP[0]  # Keras goes by the ending
            shutil.copyfile(weights, copy)
            self.model.load_weights(copy)
        steps = int(optimizer.iterations)  # one of loss scaling leaves steps out
        if not hasattr(optimizer, "inner_optimizer") and steps != epoch * self.updates:
            raise ValueError(f"it is of step {steps} and not of the end of epoch {epoch}")
        return epoch

    def _batches(self, first_epoch):
        steps = self.data.steps_per_epoch
        parts = self.data.batches(
            first_epoch * steps, self.recipe.epochs * steps, replicas=self.recipe.accumulation
        )
        return parts.map(
            lambda images, targets: (self._normalized(images), targets), tf.data.AUTOTUNE
        )

    def _normalized(self, images):
        """As `Preprocessing.normalize`, by TensorFlow on every backend."""
        preprocessing = self.model.preprocessing
        images = (tf.cast(images, tf.float32) - preprocessing.mean) / preprocessing.std
        first = keras.config.image_data_format() == "channels_first"
        return tf.transpose(images, (0, 3, 1, 2)) if first else images

    def evaluate(self, dataset=None):
        """Loss, top-1 and top-5 accuracy on `test_set`, or other images, as the network's
        preprocessing crops them.
        """
        dataset = self.test_set if dataset is None else dataset
        (view,) = views_of(self.model, dataset, None)
        classes = np.eye(len(dataset.class_names), dtype="float32")
        batches = data.evaluation_batches(dataset, 128, lambda image: view(image)[0])
        arrays = ((self._normalized(images).numpy(), classes[labels]) for images, labels in batches)
        return self.model.evaluate(arrays, steps=len(batches), verbose=0, return_dict=True)


class _Backup(keras.callbacks.BackupAndRestore):
    """Keras' own, of the last two epochs that ended."""

    def __init__(self, trainer):
        folder = str(trainer.workdir.path / "backup")
        super().__init__(folder, double_checkpoint=True, delete_checkpoint=False)
        self.trainer = trainer

    def on_epoch_end(self, epoch, logs=None):
        if not self.trainer.is_cut:
            super().on_epoch_end(epoch, logs)


class _AtEpochEnd(keras.callbacks.Callback):
    """Evaluates, and writes the row of the metrics."""

    def __init__(self, trainer):
        super().__init__()
        self.trainer = trainer

    def on_epoch_end(self, epoch, logs=None):
        trainer, epoch = self.trainer, epoch + 1
        if trainer.is_cut:
            return
        due = trainer.evaluate_epochs and epoch % trainer.evaluate_epochs == 0
        logs = dict(logs)  # an evaluation has the same metrics
        result = trainer.evaluate() if due or epoch == trainer.recipe.epochs else {}
        row = {
            "step": epoch * trainer.data.steps_per_epoch,
            "epoch": epoch,
            "loss": logs["loss"],
            "accuracy": logs["accuracy"],
            "learning_rate": float(self.model.optimizer.learning_rate),
        }
        row |= {f"{trainer.split}_{name}": result.get(name, float("nan")) for name in FIGURES}
        if trainer.final_set is not None:
            final = trainer.evaluate(trainer.final_set) if epoch == trainer.recipe.epochs else {}
            row |= {f"test_{name}": final.get(name, float("nan")) for name in FIGURES}
        trainer.workdir.append_metrics(row)
        trainer.tensorboard.write(row)


class _StopAt(keras.callbacks.Callback):
    """Stops after a step of the run; Keras then ends the epoch, as if all its steps had been done."""

    def __init__(self, trainer):
        super().__init__()
        self.trainer = trainer
        self.updates = trainer.max_steps * trainer.recipe.accumulation

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations) >= self.updates:
            self.model.stop_training = True
            self.trainer.is_cut = batch + 1 < self.trainer.updates
