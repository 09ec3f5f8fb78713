"""Files for other runtimes, each run again in that runtime and compared with the Keras model before
it is kept.
"""

import importlib
from typing import TYPE_CHECKING

if __name__ != "keras_senet.export":
    raise ImportError(
        f"This package is keras_senet.export; import it by that name, not as {__name__!r}"
    )

if TYPE_CHECKING:  # what editors and type checkers see of `HOMES`
    from .folding import fold
    from .formats import Common, export_model
    from .onnx import ONNX, to_onnx
    from .parity import ExportReport, ParityError
    from .saved_model import SavedModel, to_saved_model
    from .sensitive_layers import RankedLayer, rank_layers
    from .tflite import TFLite, to_tflite

# Where the names are: exported files are read without what writing them needs.
HOMES = {
    "ONNX": "onnx",
    "Common": "formats",
    "ExportReport": "parity",
    "ParityError": "parity",
    "RankedLayer": "sensitive_layers",
    "SavedModel": "saved_model",
    "TFLite": "tflite",
    "export_model": "formats",
    "fold": "folding",
    "rank_layers": "sensitive_layers",
    "to_onnx": "onnx",
    "to_saved_model": "saved_model",
    "to_tflite": "tflite",
}
__all__ = [
    "ONNX",
    "Common",
    "ExportReport",
    "ParityError",
    "RankedLayer",
    "SavedModel",
    "TFLite",
    "export_model",
    "fold",
    "rank_layers",
    "to_onnx",
    "to_saved_model",
    "to_tflite",
]


def __getattr__(name):
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{HOMES[name]}"), name)
    return value
