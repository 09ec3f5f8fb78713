"""Keras' callbacks of a `FitTrainer`."""

from typing import Any

import keras


class Backup(keras.callbacks.BackupAndRestore):
    """Keras' own, of the last two epochs that ended, which `FitTrainer` restores; and the end of an
    epoch whose steps have all been done.
    """

    def __init__(self, trainer: Any):
        super().__init__(str(trainer.backup), double_checkpoint=True, delete_checkpoint=False)
        self.trainer = trainer

    def on_train_begin(self, logs=None):
        pass

    def on_epoch_end(self, epoch, logs=None):
        if not self.trainer.is_cut:
            super().on_epoch_end(epoch, logs)
            self.trainer.end_epoch(epoch + 1, logs)


class StopAt(keras.callbacks.Callback):
    """Stops after a step of the run; Keras then ends the epoch as if all its steps were done."""

    def __init__(self, trainer: Any):
        super().__init__()
        self.trainer = trainer

    def on_train_batch_end(self, batch, logs=None):
        model: Any = self.model  # on JAX, this property first gives the variables their values
        before = self.trainer.first_epoch * self.trainer.updates
        last = self.trainer.max_steps * self.trainer.recipe.accumulation
        if before + int(model.optimizer.iterations) >= last:
            model.stop_training = True
            self.trainer.is_cut = batch + 1 < self.trainer.updates
