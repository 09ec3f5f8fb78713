"""Options of `keras-senet export`."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

from keras_senet.cli.flags import Flag, Positional
from keras_senet.cli.options.shared import Printed, WeightsOptions, check
from keras_senet.networks import read_table

Formats = Literal["savedmodel", "tflite", "onnx"]
Quantizations = Literal["float16", "dynamic", "int8", "int16x8"]
QUANTIZED = {  # the quantisations that each format has
    "savedmodel": (),
    "tflite": ("float16", "dynamic", "int8", "int16x8"),
    "onnx": ("float16", "int8"),
}
# What goes with --all
FOR_ALL = ("all", "model", "data_dir", "output", "json", "traceback")
CALIBRATED = ("int8", "int16x8")
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
    model  a constructor's name, a training work directory, or a .keras file of `prune`; with --all,
           work directories to add
    all    export every network, with random weights, in every way, and keep only a table:
           export.csv and export.md in --output, results by default; the same command again goes on
           with what is missing

    Network:
    size     height and width of the images, such as 320 or 320x256, or any: SavedModel and ONNX
             then take images of any size, TFLite those of the network's own; default: the network's
             own

    Files:
    format        of the files; default: all
    quantization  further TFLite and ONNX files, besides float32
    io_dtype      of the input and output of TFLite's int8 file; phones take uint8
    float_gates   keep the gates of the SE blocks in float32 in TFLite's int8 file
    float_layers  keep these layers in float32 in int8 files: those that are named when such a file
                  loses accuracy
    output        folder of the files; default: exports, or exports/ in the run's folder
    overwrite     replace files that an earlier export wrote there

    Images:
    dataset          digits, a tfds name or a folder of class folders: the accuracy of Keras and of
                     each file is measured on its validation images, or on its test images if it has
                     none, and its training images are what is calibrated on; default: the run's own
    calibration      images that int8 and int16x8 are calibrated on, 200 at most: a folder of them,
                     or a dataset, whose training images are taken; files are compared on 64 of them
    evaluate_images  how many images accuracy is measured on, evenly spread; all if there are fewer;
                     0: none
    data_dir         where tensorflow_datasets has its data
    """

    model: Positional[tuple[str, ...]] = ()
    all: bool = False
    size: Annotated[Size | None, Flag(read=read_size)] = None
    format: tuple[Formats, ...] = ()
    quantization: tuple[Quantizations, ...] = ()
    io_dtype: Literal["float32", "int8", "uint8"] = "float32"
    float_gates: bool = False
    float_layers: tuple[str, ...] = ()
    output: str | None = None
    overwrite: bool = False
    dataset: str | None = None
    calibration: str | None = None
    evaluate_images: int = 1000
    data_dir: str | None = None

    def __post_init__(self):
        check(self, evaluate_images=0)
        if self.all:
            for field in fields(self):
                if field.name not in FOR_ALL and getattr(self, field.name) != field.default:
                    raise ValueError(
                        f"--{field.name.replace('_', '-')} is not for --all, which exports all "
                        "networks in every way"
                    )
            return
        if len(self.model) != 1:
            raise ValueError(
                f"export takes one MODEL, or --all. Received: {' '.join(self.model) or 'none'}"
            )
        (name,) = self.model
        if name not in read_table() and not name.endswith(".keras") and not Path(name).exists():
            close = difflib.get_close_matches(name, read_table(), n=1)
            meant = f". Did you mean {close[0]!r}?" if close else ""
            raise ValueError(
                "MODEL must be a constructor's name, a training work directory, or a .keras file. "
                f"Received: {name!r}{meant}"
            )
        formats = self.format or tuple(QUANTIZED)
        for each in self.quantization:
            if not any(each in QUANTIZED[name] for name in formats):
                raise ValueError(f"--quantization {each} is not for --format {' '.join(formats)}")
        needing = [each for each in self.quantization if each in CALIBRATED]
        has_images = self.calibration or self.dataset or name not in read_table()
        if needing and not has_images:
            raise ValueError(
                f"--quantization {needing[0]} needs images: --calibration DIR, or --dataset"
            )
        for option in ("io_dtype", "float_gates", "float_layers"):
            asked = getattr(self, option) not in ("float32", False, ())
            if asked and "int8" not in self.quantization:
                raise ValueError(f"--{option.replace('_', '-')} goes with --quantization int8")
