"""Options of `keras-senet export`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Literal, NamedTuple

from keras_senet.cli.options.shared import Printed, WeightsOptions, check, check_weights
from keras_senet.cli.options.sources import Source, find_run, find_source
from keras_senet.cli.parameters import Flag, Positional
from keras_senet.preprocessing import MAX_SIZE

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
INT8_OPTIONS = {  # the formats whose int8 file each is for
    "io_dtype": ("tflite",),
    "float_gates": ("tflite",),
    "float_layers": ("tflite", "onnx"),
}


class Size(NamedTuple):
    """Of images; None leaves a side open."""

    height: int | None
    width: int | None


def read_size(given: Sequence[Sequence[str]]) -> Size:
    """The `Size` of "320x256", "320" or "any"."""
    text = given[-1][-1]
    if text == "any":
        return Size(None, None)
    sides = text.split("x")
    if not 1 <= len(sides) <= 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise ValueError(f"must be a number of pixels, HxW or any. Received: {text}")
    height, width = int(sides[0]), int(sides[-1])
    if max(height, width) > MAX_SIZE:
        raise ValueError(f"must be at most {MAX_SIZE} pixels. Received: {text}")
    return Size(height, width)


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
    io_dtype      of the input and output of TFLite's int8 file; phones take uint8
    float_gates   keep the gates of the SE blocks in float32 in TFLite's int8 file
    float_layers  keep these layers in float32 in int8 files: those that are named when such a file
                  loses accuracy
    output        folder of the files; default: exports, or exports/ in the run's folder
    overwrite     replace files that an earlier export wrote there

    Images:
    dataset          digits, a tfds name or a folder of class folders: the accuracy of Keras and of
                     each file is measured on its validation images, or on its test images if it has
                     none, and its training images are what is calibrated on; of one without splits
                     that a run was not trained on, all images are both; default: the run's own
    calibration      images that int8 and int16x8 are calibrated on, 200 at most: a folder of them,
                     or a dataset, whose training images are taken, as they are of the run's own
                     folder; files are compared on 64 of them
    evaluate_images  how many images accuracy is measured on, evenly spread; all if there are fewer;
                     0: none
    data_dir         where tensorflow_datasets has its data
    """

    model: Positional[tuple[str, ...]] = ()
    workdir: str | None = None
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
        if len(self.model) + (self.workdir is not None) != 1:
            received = " ".join([*self.model, *([self.workdir] if self.workdir else [])])
            raise ValueError(f"export takes one MODEL, or --all. Received: {received or 'none'}")
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
        has_images = self.calibration or self.dataset or self.source.kind == "run"
        if needing and not has_images:
            raise ValueError(
                f"--quantization {needing[0]} needs images: --calibration DIR, or --dataset"
            )
        for option, having in INT8_OPTIONS.items():
            asked = getattr(self, option) not in ("float32", False, ())
            if asked and ("int8" not in self.quantization or set(having).isdisjoint(formats)):
                raise ValueError(
                    f"--{option.replace('_', '-')} goes with --quantization int8 and --format "
                    f"{' or '.join(having)}"
                )

    @property
    def source(self) -> Source:
        """The network that is asked for. Raises ValueError for what is none."""
        return find_run(self.workdir) if self.workdir else find_source("MODEL", self.model[0])
