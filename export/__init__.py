"""Files for other runtimes, each run again in that runtime and compared with the Keras model before
it is kept.
"""

if __name__ != "keras_senet.export":
    raise ImportError(
        f"This package is keras_senet.export; import it by that name, not as {__name__!r}"
    )

from .folding import fold
from .formats import Common, export_model
from .onnx import ONNX, to_onnx
from .parity import ExportReport, ParityError
from .saved_model import SavedModel, to_saved_model
from .sensitive_layers import RankedLayer, rank_layers
from .tflite import TFLite, to_tflite

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
