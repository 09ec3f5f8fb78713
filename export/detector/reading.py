"""Exported detectors that are run again: a file that detects."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_senet.detection import Detections
from keras_senet.detection.canvas import check_canvas, check_images, prepare, read_image
from keras_senet.detection.detections import to_detections
from keras_senet.extras import require
from keras_senet.files import printable, read_bytes
from keras_senet.preprocessing import Preprocessing
from keras_senet.weights.metadata import class_names_of, stored_preprocessing

from .. import run_file
from ..reading import naming_damage, open_session, read_folder
from ..tflite_metadata import read_about

KINDS = {".onnx": "onnx", ".tflite": "tflite"}


class ExportedDetector:
    """A file of a detector, with what `detection.evaluate` asks of one.

    Attributes:
        kind: "savedmodel", "tflite" or "onnx".
        class_names: as the `Detector` has them.
        preprocessing: of which the mean and standard deviation are used.
        canvases: the heights and widths that it takes.
        score: detections have more; 0 of a file that does not say it.
    """

    def __init__(self, kind: str, about: dict[str, Any], calls: dict[str, Any]):
        self.kind, self._calls = kind, calls
        names, preprocessing = class_names_of(about), stored_preprocessing(about)
        if names is None or preprocessing is None:
            raise ValueError("it does not say which classes it has, or how images are prepared")
        self.class_names: tuple[str, ...] = names
        self.preprocessing: Preprocessing = preprocessing
        said = about["detector"]
        self.canvases = [check_canvas(tuple(canvas)) for canvas in said["canvases"]]
        self.short, self.long = int(said["short"]), int(said["long"])
        self.score = float(about.get("score", 0.0))

    def detect(self, images: Iterable) -> Iterator[Detections]:
        """As `Detector.detect`. A SavedModel runs each image in its own canvas, as `Detector` does;
        other files in theirs, for which an image is made smaller where it has more.
        """
        check_images(images)
        return self._detect_each(images)

    def _detect_each(self, images):
        for image in images:
            image = read_image(image, len(self.preprocessing.mean))
            yield self._detect_any(image) if self.kind == "savedmodel" else self._detect(image)

    def _detect(self, image):
        (canvas,) = self.canvases
        padded = prepare([image], self.preprocessing, self.short, self.long, canvas)
        size = padded.sizes[0].numpy()
        call = self._calls["serving_default"]
        outputs = call(images=padded.images.numpy(), size=size)
        return to_detections(outputs, image.shape[:2] / size, self.class_names)

    def _detect_any(self, image):
        pixels = np.clip(np.round(image), 0, 255).astype("uint8")
        outputs = self._calls["serve_uint8"](images=pixels[None])
        arrays = {name: value[0] for name, value in outputs.items()}
        return to_detections(arrays, (1.0, 1.0), self.class_names)


def load_exported(path: str | Path) -> ExportedDetector:
    """The detector in a file of `to_saved_model`, `to_tflite` or `to_onnx`, run by its runtime.

    Raises:
        ValueError: if it is damaged, or no detector.
        MissingExtraError: if its runtime is not installed.
        OSError: if it cannot be read.
    """
    path = Path(path)
    kind = "savedmodel" if path.is_dir() else KINDS.get(path.suffix)
    if kind is None:
        raise ValueError(
            "An exported detector is a SavedModel's folder, or a file that ends in one of "
            f"{', '.join(KINDS)}. Received: {printable(path)!r}"
        )
    with naming_damage(path):
        about = READERS[kind](path)
        if "detector" in about:
            return ExportedDetector(kind, about, run_file.open_calls(kind, str(path)))
    raise ValueError(f"{printable(path)!r} is not an exported detector: it does not say that it is")


# A function for each kind: the path -> what the file says, as data.


def _read_tflite(path):
    require("ai_edge_litert", "export")
    return read_about(read_bytes(path))


def _read_saved_model(path):
    require("tensorflow", "export")
    return read_folder(path)


READERS = {
    "onnx": lambda path: open_session(path)[1],
    "tflite": _read_tflite,
    "savedmodel": _read_saved_model,
}
