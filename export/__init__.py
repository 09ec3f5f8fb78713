"""Files for other runtimes, each run again in that runtime and compared with the Keras model before
it is kept.
"""

from typing import TYPE_CHECKING

from keras_senet.extras import load_names

if __name__ != "keras_senet.export":
    raise ImportError(
        f"This package is keras_senet.export; import it by that name, not as {__name__!r}"
    )

if TYPE_CHECKING:  # what editors and type checkers see of `HOMES`
    from .folding import fold as fold
    from .formats import Common as Common
    from .formats import export_model as export_model
    from .onnx import ONNX as ONNX
    from .onnx import to_onnx as to_onnx
    from .parity import ExportReport as ExportReport
    from .parity import ParityError as ParityError
    from .saved_model import SavedModel as SavedModel
    from .saved_model import to_saved_model as to_saved_model
    from .sensitive_layers import RankedLayer as RankedLayer
    from .sensitive_layers import rank_layers as rank_layers
    from .tflite import TFLite as TFLite
    from .tflite import to_tflite as to_tflite

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
__all__ = [*HOMES]
__getattr__ = load_names(__name__, HOMES)
