"""Checkpoints as TensorFlow writes them, which runs of earlier versions have: only read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from keras_senet.training.tensor_file import DamagedTensorsError

SUMS = ("loss", "correct")


def is_unfinished(path: Path) -> bool:
    """Whether the writing of a checkpoint, a path without ending, was interrupted: TensorFlow
    removes a folder of parts when the files are in their place.
    """
    return path.with_name(f"{path.name}_temp").exists()


def restore_checkpoint(path: Path, objects: Mapping[str, Any]) -> tuple[int, dict[str, float]]:
    """(step, sums) of a checkpoint, whose values models, optimizers and lists of variables have
    then.

    Raises:
        DamagedTensorsError: if it is damaged.
        ValueError: on another backend.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"{str(path)!r} is of an earlier version, which trained on TensorFlow: continue it "
            f"with KERAS_BACKEND=tensorflow. Received: {keras.backend.backend()!r}"
        )
    import tensorflow as tf

    state = {name: tf.Variable(0.0, dtype=tf.float64) for name in ("step", *SUMS)}
    checkpoint = tf.train.Checkpoint(**objects, state=state)
    _ = checkpoint.save_counter  # creates it: `tf.train.CheckpointManager` saves it
    try:
        checkpoint.restore(str(path)).assert_consumed()
    except (tf.errors.OpError, AssertionError, IndexError, ValueError) as error:
        raise DamagedTensorsError(str(error).partition("\n")[0]) from error
    step, *sums = (float(variable) for variable in state.values())
    return int(step), dict(zip(SUMS, sums, strict=True))
