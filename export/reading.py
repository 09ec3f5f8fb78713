"""Exported files that are run again: what they say of themselves, and their predictions.

Neither Keras nor TensorFlow is imported here, but for a SavedModel.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_senet.extras import require
from keras_senet.files import printable, read_bytes
from keras_senet.preprocessing import Preprocessing
from keras_senet.weights.metadata import class_names_of, stored_preprocessing

from . import run_file
from .tflite_metadata import read_about, read_metadata, read_preprocessing

SAID = ("preprocessing", "class_names", "logits", "detector", "score")
ABOUT = "assets.extra/keras_senet.json"  # in a SavedModel: a folder for whatever others add


class Exported(NamedTuple):
    """An exported network.

    preprocessing  of its images
    class_names    in the order of its outputs, or None if the file does not name them
    shape          of its output for an image: (classes,) of a classifier
    compute        images (N, H, W, C), float32 of 0..255, to predictions (N, classes): to
                   probabilities, if the file says that it outputs logits
    """

    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None
    shape: tuple[int, ...]
    compute: Callable[[np.ndarray], np.ndarray]


def open_exported(kind: str, path: str | Path) -> Exported:
    """The `Exported` network of a file of this package; it is run on a black image.

    Args:
        kind: "onnx", "tflite" or "savedmodel".
        path: the file, or the SavedModel's folder.

    Raises:
        ValueError: if it is damaged, of a detector, or does not say how its images are prepared.
        MissingExtraError: if its runtime is not installed.
        OSError: if it cannot be read.
    """
    with naming_damage(path):
        about, compute = OPENERS[kind](str(path))
        preprocessing, class_names = stored_preprocessing(about), class_names_of(about)
        is_classifier = preprocessing is not None and not about.get("detector")
        shape = _find_shape(compute, preprocessing) if is_classifier else ()
    if about.get("detector"):
        raise ValueError(f"{str(path)!r} is of a detector: `keras-senet detect` runs it")
    if preprocessing is None:
        raise ValueError(
            f"{str(path)!r} does not say how images are prepared for it: export it with "
            "`preprocessing`, as `keras-senet export` does"
        )
    if about.get("logits"):
        return Exported(preprocessing, class_names, shape, lambda images: softmax(compute(images)))
    return Exported(preprocessing, class_names, shape, compute)


@contextlib.contextmanager
def naming_damage(path: str | Path) -> Iterator[None]:
    """Within, what a runtime raises for a damaged file becomes a ValueError that names it."""
    try:
        yield
    except (ImportError, FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except Exception as error:  # each runtime has errors of its own; TensorFlow's is an OSError
        reason = str(error).strip().partition("\n")[0][:300]
        raise ValueError(
            f"{printable(path)!r} is damaged, or is not of its kind ({reason})"
        ) from error


def _find_shape(compute, preprocessing):
    size = preprocessing.height, preprocessing.width, len(preprocessing.mean)
    return tuple(compute(np.zeros((1, *size), "float32")).shape[1:])


def open_session(path: str | Path) -> tuple[Any, dict[str, Any]]:
    """(ONNX Runtime's session of a file, what the file says, as data)."""
    runtime = require("onnxruntime", "export")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    read_bytes(path, 1)  # which says what is there in place of a file
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    texts = session.get_modelmeta().custom_metadata_map
    return session, {key: json.loads(texts[key]) for key in SAID if key in texts}


def read_folder(path: str | Path) -> dict[str, Any]:
    """What a SavedModel says, as data."""
    file = Path(path, ABOUT)
    return json.loads(read_bytes(file)) if file.is_file() else {}


# A function for each kind: the path -> (what the file says, as data; what runs it).


def _open_onnx(path):
    session, about = open_session(path)
    shape = session.get_inputs()[0].shape

    def compute(images):
        return session.run(["predictions"], {"images": _in_layout(images, shape)})[0]

    return about, compute


def _open_tflite(path):
    require("ai_edge_litert", "export")
    content = Path(path).read_bytes()
    if about := read_about(content):
        return about, None
    call = run_file.call_tflite(path)["serving_default"]
    preprocessing, about = read_preprocessing(content), {}
    if preprocessing is not None:
        found = read_metadata(content)
        names = found.class_names and list(found.class_names)
        about = {
            "preprocessing": dataclasses.asdict(preprocessing),
            "class_names": names,
            "logits": found.logits,
        }

    def compute(images):
        return np.concatenate([call(images=image[None])["predictions"] for image in images])

    return about, compute


def _open_saved_model(path):
    tf = require("tensorflow", "export")
    about, loaded = read_folder(path), tf.saved_model.load(path)
    signature = loaded.signatures["serving_default"]
    _, given = signature.structured_input_signature
    shape = given["images"].shape

    def compute(images):
        result = (loaded, signature(images=tf.constant(_in_layout(images, shape))))[1]
        return result["predictions"].numpy()

    return about, compute


OPENERS = {"onnx": _open_onnx, "tflite": _open_tflite, "savedmodel": _open_saved_model}


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (N, classes)."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _in_layout(images, shape):
    """Images (N, H, W, C) as an input of a shape, whose open sizes are None or texts, takes them.

    Raises:
        ValueError: if it takes others; TensorFlow would not say so.
    """
    channels = images.shape[-1]
    is_last = shape[-1] == channels or shape[1] != channels
    images = images if is_last else np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    sizes = zip(shape[1:], images.shape[1:], strict=True)
    if any(isinstance(taken, int) and taken != given for taken, given in sizes):
        raise ValueError(f"its images are prepared as {images.shape[1:]}, it takes {shape[1:]}")
    return images
