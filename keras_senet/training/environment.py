"""What the last bits of a run depend on, besides its recipe."""

import os

import keras
import tensorflow as tf
from tensorflow.python.util import _pywrap_util_port

from keras_senet_cli import instruction_set


def environment():
    """Threads, versions, oneDNN and the CPU's instructions, by name: each decides in which order numbers are added."""
    return {
        "threads": os.cpu_count(),
        "intra_op": tf.config.threading.get_intra_op_parallelism_threads() or _from_outside(),
        "backend": keras.backend.backend(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "onednn": bool(_pywrap_util_port.IsMklEnabled()),  # what is in force: by the user, the CPU, the launcher
        "instructions": instruction_set(),
    }


def _from_outside():
    """The threads of TensorFlow's environment variable, which its function above does not say; 0 without it."""
    given = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    return int(given) if given.isdecimal() else 0
