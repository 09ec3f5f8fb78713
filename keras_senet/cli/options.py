"""What each command takes, as data: the flags, their help and their checks come from here."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from keras_senet.cli.flags import Flag, Positional
from keras_senet.networks import read_table
from keras_senet.recipes import Recipe
from keras_senet.recipes.variants import DEFAULTS, VARIANTS, Variant, variant_of

NetworkName = Annotated[str, Flag(choices=read_table)]
Formats = Literal["savedmodel", "tflite", "onnx"]
Quantizations = Literal["float16", "dynamic", "int8", "int16x8"]
Protocols = Literal["own", "paper-224", "paper-299", "paper-320", "ten-crop", "fusion", "larger"]
QUANTIZED = {  # the quantisations that each format has
    "savedmodel": (),
    "tflite": ("float16", "dynamic", "int8", "int16x8"),
    "onnx": ("float16", "int8"),
}
CALIBRATED = ("int8", "int16x8")
Size = tuple[int | None, int | None]


def check(options: object, **least: float) -> None:
    """Raises ValueError for an option that is less than what is given for it, or infinite."""
    for name, minimum in least.items():
        value = getattr(options, name)
        if value is not None and not minimum <= value < math.inf:
            flag = "--" + name.replace("_", "-")
            raise ValueError(f"{flag} must be at least {minimum}. Received: {flag} {value}")


def read_size(given: Sequence[Sequence[str]]) -> Size:
    """(H, W) of "320x256" or "320", and (None, None) of "any"."""
    text = given[-1][-1]
    if text == "any":
        return None, None
    sides = text.split("x")
    if not 1 <= len(sides) <= 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise ValueError(f"must be a number of pixels, HxW or any. Received: {text}")
    return int(sides[0]), int(sides[-1])


def read_stages(given: Sequence[Sequence[str]]) -> tuple[tuple[int, ...], ...]:
    """A tuple of stages each time that the flag is given; "all" is ()."""
    try:
        return tuple(() if each == ["all"] else tuple(map(int, each)) for each in given)
    except ValueError:
        received = " ".join(text for each in given for text in each)
        raise ValueError(f"must be numbers of stages, or all. Received: {received}") from None


def read_variants(given: Sequence[Sequence[str]]) -> tuple[Variant, ...]:
    """The variants of names, and of NAME:FIELDS."""
    return tuple(variant_of(text) for each in given for text in each)


@dataclass(frozen=True, kw_only=True)
class Options:
    """
    traceback  show where in the program an error arose
    """

    traceback: bool = False


@dataclass(frozen=True, kw_only=True)
class Printed(Options):
    """
    json  print JSON in place of tables; messages go to the error stream
    """

    json: bool = False


@dataclass(frozen=True, kw_only=True)
class Weights(Options):
    """
    Network:
    weights  a tag such as imagenet (`keras-senet list --weights`), a file, FILE#NAME for a part of
             a checkpoint, or hf://owner/name; default: imagenet
    """

    weights: str | None = None


@dataclass(frozen=True, kw_only=True)
class Quickstart(Options):
    """
    workdir  where everything is written
    seed     of weights, order and augmentation
    """

    workdir: str = "quickstart"
    seed: int = 0

    def __post_init__(self):
        Recipe(seed=self.seed)


@dataclass(frozen=True, kw_only=True)
class List(Printed):
    """
    Listed:
    paper    the networks with the paper's GFLOPs, with and without SE blocks
    weights  the published weights
    recipes  the named recipes of training
    """

    paper: bool = False
    weights: bool = False
    recipes: bool = False

    def __post_init__(self):
        asked = [name for name in ("paper", "weights", "recipes") if getattr(self, name)]
        if len(asked) > 1:
            raise ValueError(f"list takes one flag. Received: --{' --'.join(asked)}")


@dataclass(frozen=True, kw_only=True)
class Summary(Printed):
    """
    model  a constructor's name, such as SEResNet50
    size   height and width of the images; default: the network's own
    """

    model: Positional[NetworkName]
    size: int | None = None


@dataclass(frozen=True, kw_only=True)
class Train(Options):
    """
    Run:
    workdir             where the run is written, and continued if there is one
    data_dir            where tensorflow_datasets has its data; default: its own
    engine              "fit" is Keras' own loop; default: the run's own, else "trainer"
    strategy            over which devices
    logical_cpus        split the CPU, to try `--strategy mirrored` without GPUs
    max_steps           stop after this step of the run
    checkpoint_steps    also save every N steps; 0: never
    checkpoint_minutes  also by time
    keep                checkpoints that are kept
    evaluate_epochs     how often; 0: at the end
    skip_corrupt        leave out images that cannot be used, and list them
    tensorboard         write event files for TensorBoard
    quiet               no progress bar
    """

    workdir: str
    recipe: Recipe
    data_dir: str | None = None
    engine: Literal["trainer", "fit"] | None = None
    strategy: Literal["auto", "none", "mirrored"] = "auto"
    logical_cpus: int | None = None
    max_steps: int | None = None
    checkpoint_steps: int = 0
    checkpoint_minutes: float = 10.0
    keep: int = 2
    evaluate_epochs: int = 1
    skip_corrupt: bool = False
    tensorboard: bool = False
    quiet: bool = False

    def __post_init__(self):
        check(self, max_steps=1, checkpoint_steps=0, keep=1, evaluate_epochs=0, logical_cpus=1)
        check(self, checkpoint_minutes=0)


@dataclass(frozen=True, kw_only=True)
class Ablate(Printed):
    """
    Runs:
    workdir   where the runs are written, and continued if there are some
    variants  names, or NAME:FIELDS with fields of `keras_senet.SE`, such as r64:reduction=64
    seeds     of the runs of each variant
    data_dir  where tensorflow_datasets has its data; default: its own
    table     train nothing: the table of the runs that have ended
    quiet     no progress bar
    """

    workdir: str
    variants: Annotated[tuple[Variant, ...], Flag(read=read_variants)] = ()
    seeds: tuple[int, ...] = (0, 1)
    recipe: Recipe = field(metadata={"besides": ("se", "seed"), "runs": "*/seed*/recipe.json"})
    data_dir: str | None = None
    table: bool = False
    quiet: bool = False

    def __post_init__(self):
        chosen = self.variants or tuple(VARIANTS[name] for name in DEFAULTS)
        object.__setattr__(self, "variants", chosen)


@dataclass(frozen=True, kw_only=True)
class Curves(Options):
    """
    workdirs  training work directories
    output    a PNG file
    title     of the picture
    """

    workdirs: Positional[tuple[str, ...]]
    output: str
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Predict(Weights, Printed):
    """
    images   JPEG, PNG, BMP or GIF files
    model    a constructor's name, such as SEResNet50
    top      how many classes
    gates    also the mean of the SE blocks' gates, stage by stage
    """

    images: Positional[tuple[str, ...]]
    model: NetworkName
    top: int = 5
    gates: bool = False

    def __post_init__(self):
        check(self, top=1)


@dataclass(frozen=True, kw_only=True)
class Convert(Options):
    """
    source     weights: a tag such as imagenet (`keras-senet list --weights`), a file, FILE#NAME for
               a part of a checkpoint, or hf://owner/name
    model      a constructor's name, such as SEResNet50
    output     a .weights.h5 or .safetensors file
    overwrite  replace the output if it exists
    """

    source: Positional[str]
    model: NetworkName
    output: str
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class Images(Options):
    """
    Images:
    dataset     digits, a tfds name or a folder; default: the run's own, else imagenet2012
    split       of which images ("test" are ImageNet's validation images)
    data_dir    where tfds datasets are
    batch_size  images per step
    """

    dataset: str | None = None
    split: str = "test"
    data_dir: str | None = None
    batch_size: int = 128

    def __post_init__(self):
        check(self, batch_size=1)


@dataclass(frozen=True, kw_only=True)
class Network(Images, Weights):
    """
    Network:
    model    a constructor's name, such as SEResNet50
    workdir  a training work directory, or a .keras file of `prune`, in place of --model and
             --weights
    """

    model: Annotated[str | None, Flag(choices=read_table)] = None
    workdir: str | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.workdir and (self.model or self.weights):
            raise ValueError("--workdir is in place of --model and --weights")
        if not self.workdir and not self.model:
            raise ValueError("--model or --workdir must be given")


@dataclass(frozen=True, kw_only=True)
class Evaluate(Network, Printed):
    """
    Network:
    model    a constructor's name, such as SEResNet50; several: an ensemble
    weights  a tag such as imagenet (`keras-senet list --weights`), a file, FILE#NAME for a part of
             a checkpoint, or hf://owner/name, one for each --model; default:
             imagenet

    Images:
    batch_size    crops per step
    skip_corrupt  leave out images that cannot be decoded

    Protocol:
    protocol    how an image is shown to the network
    size        sizes of the crops, in pixels
    short_side  short sides of the resized image, in pixels
    ten_crop    centre, corners and their mirror images

    Output:
    output  folder for report.json, per_class.csv and confusion.png; default: --workdir, or none
    """

    # Several, where other commands take one
    model: Annotated[tuple[str, ...], Flag(choices=read_table)] = ()  # pyright: ignore[reportIncompatibleVariableOverride]
    weights: tuple[str, ...] = ()  # pyright: ignore[reportIncompatibleVariableOverride]
    skip_corrupt: bool = False
    protocol: Protocols = "own"
    size: tuple[int, ...] = ()
    short_side: tuple[int, ...] = ()
    ten_crop: bool = False
    output: str | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.weights and len(self.weights) != len(self.model):
            raise ValueError(
                "--weights must be given once for each --model: "
                f"{len(self.weights)} for {len(self.model)}"
            )


@dataclass(frozen=True, kw_only=True)
class Excitations(Network, Printed):
    """
    Images:
    skip_corrupt  leave out images that cannot be decoded

    Output:
    classes  the classes in pictures and gates.csv, ImageNet's also by words; default: four
    output   folder for tables and pictures; default: excitations in --workdir, or none
    """

    skip_corrupt: bool = False
    classes: tuple[str, ...] | None = None
    output: str | None = None


@dataclass(frozen=True, kw_only=True)
class Prune(Network, Printed):
    """
    What is removed:
    remove_se   without the SE blocks of these stages (2..5 for ImageNet, 1..3 for 32x32 images),
                or of all; may be given several times
    constant    also with the mean of each removed block's gate in its place
    keep        the fractions of the channels that stay
    baseline    for each --keep also N networks, or one, with channels drawn at random
    images      training images for means
    count_only  no accuracy, no images: channels are drawn at random

    Output:
    output  folder for each network, pruning.csv, pruning.json and pruning.png; default: none
    """

    remove_se: Annotated[tuple[tuple[int, ...], ...], Flag(read=read_stages, bare="all")] = ()
    constant: bool = False
    keep: tuple[float, ...] = ()
    baseline: Annotated[int, Flag(bare="1")] = 0
    images: int = 1000
    count_only: bool = False
    output: str | None = None

    def __post_init__(self):
        super().__post_init__()
        if not self.remove_se and not self.keep:
            raise ValueError("--remove-se or --keep must be given")
        if self.constant and (self.count_only or not self.remove_se):
            raise ValueError(
                "--constant goes with --remove-se, and takes images: not with --count-only"
            )
        for fraction in self.keep:
            if not 0 < fraction <= 1:
                raise ValueError(
                    f"--keep must be above 0 and at most 1. Received: --keep {fraction}"
                )
        check(self, images=1, baseline=0)


@dataclass(frozen=True, kw_only=True)
class Report(Images):
    """
    workdir  a training work directory; a run that has not ended has a page, too
    output   the page's file; default: report.html in WORKDIR

    Images:
    dataset        digits, a tfds name or a folder; default: the run's own
    split          of which images
    no_evaluation  without what needs the dataset: confusions, classes and gates
    no_gates       without the gates of the SE blocks
    no_images      without images of the dataset, such as ones that are not to be shared
    """

    workdir: Positional[str]
    output: str | None = None
    split: Literal["test", "train"] = "test"
    no_evaluation: bool = False
    no_gates: bool = False
    no_images: bool = False

    def __post_init__(self):
        super().__post_init__()
        if self.data_dir is not None and not Path(self.data_dir).is_dir():
            raise ValueError(f"--data-dir must be a folder. Received: --data-dir {self.data_dir}")


@dataclass(frozen=True, kw_only=True)
class Export(Weights, Printed):
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
    calibration   images that int8 and int16x8 are calibrated on, 200 at most: a folder of them, or
                  a dataset, whose training images are taken; files are compared on 64 of them
    data_dir      where tensorflow_datasets has its data
    output        folder of the files; default: exports, or exports/ in the run's folder
    overwrite     replace files that an earlier export wrote there
    """

    model: Positional[tuple[str, ...]] = ()
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
            for name in ("weights", "size", "format", "quantization", "calibration", "overwrite"):
                if getattr(self, name):
                    raise ValueError(
                        f"--{name} is not for --all, which exports all networks in every way"
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
        if needing and self.calibration is None:
            raise ValueError(f"--quantization {needing[0]} needs images: --calibration DIR")


CLASSES: dict[str, type[Options]] = {
    "quickstart": Quickstart,
    "list": List,
    "summary": Summary,
    "train": Train,
    "evaluate": Evaluate,
    "curves": Curves,
    "predict": Predict,
    "convert": Convert,
    "excitations": Excitations,
    "ablate": Ablate,
    "prune": Prune,
    "report": Report,
    "export": Export,
}
