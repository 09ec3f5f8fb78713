"""The files that a network is exported to: every format with every quantisation that it has."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_senet.data.sources import select_evenly

from .formats import Common, FormatOptions, export_model
from .onnx import ONNX
from .parity import ExportReport
from .saved_model import SavedModel
from .staging import check_replaceable
from .tflite import TFLite

SLOW = ("int16x8",)  # on a CPU: TFLite has plain loops for it
MOST_COMPARED = 64
MOST_COMPARED_SLOW = 4
FORMATS: dict[str, type[FormatOptions]] = {each.kind: each for each in (SavedModel, TFLite, ONNX)}
NAMES = {"savedmodel": "saved_model{}", "tflite": "model{}.tflite", "onnx": "model{}.onnx"}


class ExportFile(NamedTuple):
    """One file to write: of a format, and a quantisation or None."""

    kind: str
    quantization: str | None

    @property
    def name(self) -> str:
        return NAMES[self.kind].format(f".{self.quantization}" if self.quantization else "")

    @property
    def calibrates(self) -> bool:
        """Whether it needs images to calibrate on."""
        return FORMATS[self.kind].QUANTIZATIONS[self.quantization].calibrates

    @property
    def is_slow(self) -> bool:
        return self.quantization in SLOW

    def compared(self, images: np.ndarray, most: int = MOST_COMPARED) -> np.ndarray:
        """As many of the images as this file is compared on, evenly spread."""
        most = min(most, MOST_COMPARED_SLOW) if self.is_slow else most
        return images[select_evenly(len(images), most)]

    def check_free(self, folder: Path | str, overwrite: bool) -> None:
        """Raises FileExistsError unless it can be written into the folder."""
        check_replaceable(Path(folder, self.name), overwrite, self.kind == "savedmodel")

    def write(
        self,
        model: keras.Model,
        folder,
        common: Common,
        int8: Mapping[str, Any] = MappingProxyType({}),
    ) -> ExportReport:
        """Writes it into a folder with the model's own preprocessing, calibrated if it needs that.
        `int8` are options of int8 files, of which each format takes those that it has.
        """
        calibration = common.representative_images if self.calibrates else None
        own = {"preprocessing": model.preprocessing, "representative_images": calibration}
        common = replace(common, **own)
        kind, chosen = FORMATS[self.kind], {}
        if self.quantization is not None:
            chosen["quantization"] = self.quantization
        if self.quantization == "int8":
            chosen |= {name: value for name, value in int8.items() if hasattr(kind, name)}
        options = kind(**chosen)
        return export_model(model, Path(folder, self.name), options, common)


def plan_files(kinds, quantizations) -> list[ExportFile]:
    """An ExportFile for each format, then for each format and quantisation that it has.

    Raises:
        ValueError: for a quantisation that none of the formats has.
    """
    files = [ExportFile(kind, None) for kind in FORMATS if kind in kinds]
    for quantization in dict.fromkeys(quantizations):
        having = [
            kind
            for kind, options in FORMATS.items()
            if kind in kinds and quantization in options.QUANTIZATIONS
        ]
        if not having:
            raise ValueError(f"--quantization {quantization} is not for --format {' '.join(kinds)}")
        files += [ExportFile(kind, quantization) for kind in having]
    return files
