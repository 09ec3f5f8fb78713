"""Options of `keras-senet export`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from keras_senet.cli.flags import Flag, Positional
from keras_senet.cli.options.shared import Printed, WeightsOptions, check_weights
from keras_senet.cli.options.sources import Source, find_run, find_source

Formats = Literal["savedmodel", "tflite", "onnx"]
Quantizations = Literal["float16", "dynamic", "int8", "int16x8"]
QUANTIZED = {  # the quantisations that each format has
    "savedmodel": (),
    "tflite": ("float16", "dynamic", "int8", "int16x8"),
    "onnx": ("float16", "int8"),
}
CALIBRATED = ("int8", "int16x8")
FILE_OPTIONS = ("format", "quantization", "calibration", "overwrite")
Size = tuple[int | None, int | None]


def read_size(given: Sequence[Sequence[str]]) -> Size:
    """(H, W) of "320x256" or "320", and (None, None) of "any"."""
    text = given[-1][-1]
    if text == "any":
        return None, None
    sides = text.split("x")
    if not 1 <= len(sides) <= 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise ValueError(f"must be a number of pixels, HxW or any. Received: {text}")
    return int(sides[0]), int(sides[-1])


@dataclass(frozen=True, kw_only=True)
class ExportOptions(WeightsOptions, Printed):
    """
    model    a constructor's name, a training work directory, a .keras file, or a file of weights
             that names its network (.weights.h5, .safetensors); with --all, work directories to add
    workdir  a training work directory, in place of MODEL
    all      export every network, with random weights, in every way, and keep only a table:
             export.csv and export.md in --output, results by default; the same command again goes
             on with what is missing

    Network:
    size     height and width of the images, such as 320 or 320x256, or any: SavedModel and ONNX
             then take images of any size, TFLite those of the network's own; default: the network's
             own

    Files:
    format        of the files; default: all
    quantization  further TFLite and ONNX files, besides float32
    calibration   images that int8 and int16x8 are calibrated on, 200 at most: a folder of them, or
                  a dataset, whose training images are taken; files are compared on 64 of them
    data_dir      where tensorflow_datasets has its data
    output        folder of the files; default: exports, or exports/ in the run's folder
    overwrite     replace files that an earlier export wrote there
    """

    model: Positional[tuple[str, ...]] = ()
    workdir: str | None = None
    all: bool = False
    size: Annotated[Size | None, Flag(read=read_size)] = None
    format: tuple[Formats, ...] = ()
    quantization: tuple[Quantizations, ...] = ()
    calibration: str | None = None
    data_dir: str | None = None
    output: str | None = None
    overwrite: bool = False

    def __post_init__(self):
        if self.all:
            for name in ("workdir", "weights", "size", *FILE_OPTIONS):
                if getattr(self, name):
                    raise ValueError(
                        f"--{name} is not for --all, which exports all networks in every way"
                    )
            return
        if len(self.model) + (self.workdir is not None) != 1:
            received = " ".join([*self.model, *([self.workdir] if self.workdir else [])])
            raise ValueError(
                f"export takes one MODEL, --workdir, or --all. Received: {received or 'none'}"
            )
        check_weights(self.source, self.weights)
        if self.size is not None and self.source.kind == "run":
            raise ValueError(
                f"--size is not for a run, whose network has its own. Received: {self.source.text}"
            )
        formats = self.format or tuple(QUANTIZED)
        for each in self.quantization:
            if not any(each in QUANTIZED[name] for name in formats):
                raise ValueError(f"--quantization {each} is not for --format {' '.join(formats)}")
        needing = [each for each in self.quantization if each in CALIBRATED]
        if needing and self.calibration is None:
            raise ValueError(f"--quantization {needing[0]} needs images: --calibration DIR")

    @property
    def source(self) -> Source:
        """The network that is asked for. Raises ValueError for what is none."""
        return find_run(self.workdir) if self.workdir else find_source("MODEL", self.model[0])
