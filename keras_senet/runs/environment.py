"""What the last bits of a run depend on, other than its recipe."""

import os
from typing import Any

import keras
import tensorflow as tf

from keras_senet.cpu import uses_onednn
from keras_senet_cli import instruction_set


def environment() -> dict[str, Any]:
    """Threads, versions, oneDNN and the CPU's instructions, by name: each decides in which order
    numbers are added.
    """
    return {
        "threads": os.cpu_count(),
        "intra_op": tf.config.threading.get_intra_op_parallelism_threads() or _intra_op_variable(),
        "backend": keras.backend.backend(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "onednn": uses_onednn(),
        "instructions": instruction_set(),
    }


def _intra_op_variable():
    """The threads of TensorFlow's environment variable, which its function above ignores; or 0."""
    given = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    return int(given) if given.isdecimal() else 0
