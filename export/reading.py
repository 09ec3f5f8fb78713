"""Exported files that are run again: what they say of themselves, and their predictions.

Neither Keras nor TensorFlow is imported here, but for a SavedModel.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_senet.extras import require
from keras_senet.preprocessing import Preprocessing

from . import run_file
from .tflite_metadata import read_metadata, read_preprocessing

ABOUT = "assets.extra/keras_senet.json"  # in a SavedModel: a folder for whatever others add


class Exported(NamedTuple):
    """An exported network.

    preprocessing  of its images
    class_names    in the order of its outputs, or None if the file does not name them
    compute        images (N, H, W, C), float32 of 0..255, to predictions (N, classes)
    """

    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None
    compute: Callable[[np.ndarray], np.ndarray]


def open_exported(kind: str, path: str | Path) -> Exported:
    """The `Exported` network of a file of this package.

    Args:
        kind: "onnx", "tflite" or "savedmodel".
        path: the file, or the SavedModel's folder.

    Raises:
        ValueError: if it is damaged, or does not say how its images are prepared.
        MissingExtraError: if its runtime is not installed.
        OSError: if it cannot be read.
    """
    try:
        stored, class_names, compute = OPENERS[kind](str(path))
    except (ImportError, OSError):
        raise
    except Exception as error:  # each runtime has errors of its own
        reason = str(error).strip().partition("\n")[0][:300]
        raise ValueError(f"{str(path)!r} is damaged, or is not of its kind ({reason})") from error
    if stored is None:
        raise ValueError(
            f"{str(path)!r} does not say how images are prepared for it: export it with "
            "`preprocessing`, as `keras-senet export` does"
        )
    return Exported(stored, None if class_names is None else tuple(class_names), compute)


def _open_onnx(path):
    runtime = require("onnxruntime", "export")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    properties = session.get_modelmeta().custom_metadata_map
    stored, names = (
        json.loads(properties.get(key, "null")) for key in ("preprocessing", "class_names")
    )
    shape = session.get_inputs()[0].shape

    def compute(images):
        return session.run(["predictions"], {"images": _in_layout(images, shape)})[0]

    return stored and Preprocessing(**stored), names, compute


def _open_tflite(path):
    require("ai_edge_litert", "export")
    content = Path(path).read_bytes()
    run = run_file.tflite(path)["tflite"]
    preprocessing = read_preprocessing(content)
    names = None if preprocessing is None else read_metadata(content).class_names
    return preprocessing, names, lambda images: run(images)["predictions"]


def _open_saved_model(path):
    tf = require("tensorflow", "export")
    file = Path(path, ABOUT)
    stored = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    loaded: Any = tf.saved_model.load(path)
    signature = loaded.signatures["serving_default"]
    _, given = signature.structured_input_signature
    shape = given["images"].shape

    def compute(images):
        result = (loaded, signature(images=tf.constant(_in_layout(images, shape))))[1]
        return result["predictions"].numpy()

    preprocessing = stored.get("preprocessing")
    return preprocessing and Preprocessing(**preprocessing), stored.get("class_names"), compute


OPENERS = {"onnx": _open_onnx, "tflite": _open_tflite, "savedmodel": _open_saved_model}


def _in_layout(images, shape):
    """Images (N, H, W, C) as an input of a shape takes them."""
    channels = images.shape[-1]
    is_last = shape[-1] == channels or shape[1] != channels
    return images if is_last else np.ascontiguousarray(images.transpose(0, 3, 1, 2))
