"""What the last bits of a run depend on, other than its recipe."""

import importlib
import os
from typing import Any

import keras

from keras_senet.cpu import uses_onednn
from keras_senet_cli import instruction_set


def environment() -> dict[str, Any]:
    """Threads, versions, oneDNN and CPU instructions, by name: they decide the order of sums."""
    backend = keras.backend.backend()
    return {
        "threads": os.cpu_count(),
        "backend": backend,
        backend: importlib.import_module(backend).__version__,
        "keras": keras.__version__,
        "instructions": instruction_set(),
        **{"tensorflow": _of_tensorflow, "jax": _of_jax}.get(backend, dict)(),
    }


def _of_tensorflow():
    import tensorflow as tf

    threads = tf.config.threading.get_intra_op_parallelism_threads()
    return {"intra_op": threads or _intra_op_variable(), "onednn": uses_onednn()}


def _of_jax():
    import jax

    return {"devices": [device.device_kind for device in jax.devices()]}


def _intra_op_variable():
    """The threads of TensorFlow's environment variable, which its function above ignores; or 0."""
    given = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    return int(given) if given.isdecimal() else 0
