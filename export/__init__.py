"""Files for other runtimes, each run again in that runtime and compared with the Keras model before
it is kept.
"""

if __name__ != "keras_senet.export":
    raise ImportError(
        f"This package is keras_senet.export; import it by that name, not as {__name__!r}"
    )

import importlib
from typing import TYPE_CHECKING

from keras_senet.extras import needs_tensorflow

from .folding import fold

if TYPE_CHECKING:  # what editors and type checkers see of `HOMES`
    from .formats import Common, export_model
    from .onnx import ONNX, to_onnx
    from .parity import ExportReport, ParityError
    from .saved_model import SavedModel, to_saved_model
    from .tflite import TFLite, to_tflite

__all__ = [
    "ONNX",
    "Common",
    "ExportReport",
    "ParityError",
    "SavedModel",
    "TFLite",
    "export_model",
    "fold",
    "to_onnx",
    "to_saved_model",
    "to_tflite",
]

HOMES = {
    "Common": "formats",
    "ExportReport": "parity",
    "ONNX": "onnx",
    "ParityError": "parity",
    "SavedModel": "saved_model",
    "TFLite": "tflite",
    "export_model": "formats",
    "to_onnx": "onnx",
    "to_saved_model": "saved_model",
    "to_tflite": "tflite",
}


def __getattr__(name):
    """What needs TensorFlow is loaded when it is first used: `fold` does without."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with needs_tensorflow():
        return getattr(importlib.import_module(f".{HOMES[name]}", __name__), name)


def __dir__():
    return sorted({*globals(), *HOMES})
