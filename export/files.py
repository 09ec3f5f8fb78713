"""The files that a network is exported to: every format with every quantisation that it has."""

from pathlib import Path
from typing import NamedTuple

from . import onnx, tflite
from .images import spread
from .onnx import to_onnx
from .parity import check_replaceable
from .saved_model import to_saved_model
from .tflite import to_tflite

SLOW = ("int16x8",)  # on a CPU: TFLite has plain loops for it
MOST_COMPARED = 64
MOST_COMPARED_SLOW = 4


class Format(NamedTuple):
    """A format: its function, the file's name and ending, and whether each quantisation needs
    images.
    """

    function: object
    stem: str
    suffix: str
    calibrates: dict


def _calibrates(quantizations):
    return {name: each.calibrates for name, each in quantizations.items()}


FORMATS = {
    "savedmodel": Format(to_saved_model, "saved_model", "", {None: False}),
    "tflite": Format(to_tflite, "model", ".tflite", _calibrates(tflite.QUANTIZATIONS)),
    "onnx": Format(to_onnx, "model", ".onnx", _calibrates(onnx.QUANTIZATIONS)),
}


class File(NamedTuple):
    """One file to write."""

    kind: str
    quantization: str | None

    @property
    def name(self):
        middle = f".{self.quantization}" if self.quantization else ""
        return f"{FORMATS[self.kind].stem}{middle}{FORMATS[self.kind].suffix}"

    @property
    def calibrates(self):
        return FORMATS[self.kind].calibrates[self.quantization]

    @property
    def is_slow(self):
        return self.quantization in SLOW

    def compared(self, images, most=MOST_COMPARED):
        """As many of the images as this file is compared on, evenly spread."""
        return images[spread(len(images), min(most, MOST_COMPARED_SLOW) if self.is_slow else most)]

    def check_free(self, folder, overwrite):
        """Raises FileExistsError unless it can be written into the folder."""
        check_replaceable(
            Path(folder, self.name), overwrite, is_folder=FORMATS[self.kind].suffix == ""
        )

    def write(self, model, folder, *, images, calibration, class_names, overwrite):
        """Writes it into a folder with the model's own preprocessing; the report. `images` None is
        synthetic ones.
        """
        options = {"quantization": self.quantization} if self.quantization else {}
        if self.calibrates:
            options["representative_images"] = calibration
        return FORMATS[self.kind].function(
            model,
            Path(folder, self.name),
            images=images,
            preprocessing=model.preprocessing,
            class_names=class_names,
            overwrite=overwrite,
            **options,
        )


def planned(kinds, quantizations):
    """A File for each format, then for each format and quantisation that it has.

    Raises:
        ValueError: for a quantisation that none of the formats has.
    """
    plain = [File(kind, None) for kind in FORMATS if kind in kinds]
    smaller = []
    for quantization in dict.fromkeys(quantizations):
        having = [
            kind for kind in FORMATS if kind in kinds and quantization in FORMATS[kind].calibrates
        ]
        if not having:
            raise ValueError(f"--quantization {quantization} is not for --format {' '.join(kinds)}")
        smaller += [File(kind, quantization) for kind in having]
    return plain + smaller
