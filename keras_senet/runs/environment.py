"""What the last bits of a run depend on, other than its recipe."""

import importlib
import os
from typing import Any

import keras

from keras_senet.cpu import uses_onednn
from keras_senet_cli import instruction_set


def environment() -> dict[str, Any]:
    """Threads, versions, oneDNN and CPU instructions, by name: they decide the order of sums."""
    name = keras.backend.backend()
    backend = importlib.import_module(name)
    found = {
        "threads": os.cpu_count(),
        "backend": name,
        name: backend.__version__,
        "keras": keras.__version__,
        "instructions": instruction_set(),
    }
    if name == "tensorflow":
        threads = backend.config.threading.get_intra_op_parallelism_threads()
        # Which ignores TensorFlow's environment variable
        given = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
        asked = int(given) if given.isdecimal() else 0
        found |= {"intra_op": threads or asked, "onednn": uses_onednn()}
    if name == "jax":
        found["devices"] = [device.device_kind for device in backend.devices()]
    return found
