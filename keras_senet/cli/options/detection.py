"""Options of `keras-senet detect`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from keras_senet.cli.options.export import Formats
from keras_senet.cli.options.shared import Options, Printed, check
from keras_senet.cli.options.sources import Source, find_detector
from keras_senet.cli.options.training import RunOptions
from keras_senet.cli.parameters import Positional
from keras_senet.detection.recipe import Recipe
from keras_senet.preprocessing import MAX_SIZE


@dataclass(frozen=True, kw_only=True)
class DetectorOptions(Options):
    """
    Detector:
    model    a work directory of `keras-senet detect train`, a detector's .safetensors file, or
             torchvision's fasterrcnn_resnet50_fpn (.pth)
    workdir  a work directory of `keras-senet detect train`, in place of --model
    """

    model: str | None = None
    workdir: str | None = None

    TAKES_EXPORTED: ClassVar[bool] = False

    def __post_init__(self):
        if (self.model is None) == (self.workdir is None):
            raise ValueError("--workdir must be given, or --model in its place")
        self.source  # noqa: B018  it raises for what is no detector

    @property
    def source(self) -> Source:
        """The detector that is asked for. Raises ValueError for what is none."""
        argument, text = ("--model", self.model) if self.model else ("--workdir", self.workdir)
        return find_detector(argument, str(text), exported=self.TAKES_EXPORTED)


@dataclass(frozen=True, kw_only=True)
class DetectTrainOptions(RunOptions):
    """A run, with the recipe of a detector."""

    COMMAND: ClassVar[tuple[str, ...]] = ("detect", "train")
    recipe: Recipe


@dataclass(frozen=True, kw_only=True)
class DetectEvaluateOptions(DetectorOptions, Printed):
    """
    Detector:
    model    a work directory of `keras-senet detect train`, a detector's .safetensors file,
             torchvision's fasterrcnn_resnet50_fpn (.pth), or an exported .onnx or .tflite file or
             SavedModel folder

    Images:
    dataset   scenes, a folder or a JSON file of COCO, coco/2017 or voc/2007; default: the run's own
    split     train, val or test (where the dataset has none: val, or all images of one with
              training images only, but for the run's own, which the run divided)
    data_dir  where tfds datasets are

    Output:
    output  folder for report.json, per_class.csv, results.json (COCO's format of results),
            precision_recall.png and mistakes.png; default: the run, or none
    """

    dataset: str | None = None
    split: Literal["train", "val", "test"] = "test"
    data_dir: str | None = None
    output: str | None = None

    TAKES_EXPORTED: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class DetectPredictOptions(DetectorOptions, Printed):
    """
    images  JPEG, PNG, BMP, GIF or WebP files, patterns such as 'photos/*.jpg', and folders, whose
            images are taken with those of their subfolders

    Detector:
    model    a work directory of `keras-senet detect train`, a detector's .safetensors file,
             torchvision's fasterrcnn_resnet50_fpn (.pth), or an exported .onnx or .tflite file or
             SavedModel folder

    Detections:
    score         the least probability of a detection, by default 0.5; an exported file has none
                  below what its detector was exported with, 0.05 as a rule
    skip_corrupt  leave out images that cannot be used; otherwise each is named in its row, and the
                  exit status is 2

    Output:
    csv     write a table there in place of printing it: image, class, score, x1, y1, x2, y2, error
    output  folder for the pictures with their boxes, PNG files
    """

    images: Positional[tuple[str, ...]]
    score: float | None = None
    skip_corrupt: bool = False
    csv: str | None = None
    output: str | None = None

    TAKES_EXPORTED: ClassVar[bool] = True

    def __post_init__(self):
        super().__post_init__()
        if self.score is not None and not 0 <= self.score < 1:
            raise ValueError(f"--score must be from 0 to below 1. Received: --score {self.score:g}")


@dataclass(frozen=True, kw_only=True)
class DetectExportOptions(Printed):
    """
    model  a work directory of `keras-senet detect train`, a detector's .safetensors file, or
           torchvision's fasterrcnn_resnet50_fpn (.pth)

    Files:
    format        of the files; default: all
    quantization  further TFLite files, besides float32
    size          height and width in pixels, multiples of 32, of the images that a file takes,
                  which are resized and padded to it; one number is a square. Default: a square in
                  which every image is as large as the detector makes it
    output        folder of the files; default: exports, or exports/ in the run's folder
    overwrite     replace files that an earlier export wrote there

    Images:
    dataset          files are compared with Keras on images of this dataset; default: the run's own
    split            train, val or test
    data_dir         where tfds datasets are
    evaluate_images  how many of them average precision is measured on, in Keras and in each file,
                     evenly spread; 0: none
    """

    model: Positional[str]
    format: tuple[Formats, ...] = ()
    quantization: tuple[Literal["float16"], ...] = ()
    size: tuple[int, ...] = ()
    output: str | None = None
    overwrite: bool = False
    dataset: str | None = None
    split: Literal["train", "val", "test"] = "test"
    data_dir: str | None = None
    evaluate_images: int = 50

    def __post_init__(self):
        check(self, evaluate_images=0)
        if len(self.size) > 2 or any(side < 32 or side % 32 for side in self.size):
            received = " ".join(map(str, self.size))
            raise ValueError(
                "--size must be one or two multiples of 32, height and width. "
                f"Received: --size {received}"
            )
        if self.size and max(self.size) > MAX_SIZE:
            raise ValueError(
                f"--size must be at most {MAX_SIZE}. Received: --size {max(self.size)}"
            )
        self.source  # noqa: B018  it raises for what is no detector

    @property
    def source(self) -> Source:
        """The detector that is asked for. Raises ValueError for what is none."""
        return find_detector("MODEL", self.model)

    @property
    def canvas(self) -> tuple[int, int] | None:
        """Height and width of `size`; None without it."""
        return (self.size[0], self.size[-1]) if self.size else None


@dataclass(frozen=True, kw_only=True)
class ScenesOptions(Options):
    """
    folder     where train.json, test.json and images/ are written
    overwrite  replace those that are there
    """

    folder: Positional[str]
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class DetectConvertOptions(Options):
    """
    source     torchvision's fasterrcnn_resnet50_fpn, such as
               fasterrcnn_resnet50_fpn_coco-258fb6c6.pth
    output     a .safetensors file
    overwrite  replace the output if it exists
    """

    source: Positional[str]
    output: str
    overwrite: bool = False
