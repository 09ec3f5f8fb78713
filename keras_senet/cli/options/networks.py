"""Options of commands that show and use networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from keras_senet.cli.options.shared import (
    NetworkName,
    NetworkOptions,
    Options,
    Printed,
    SourceOptions,
    check,
)
from keras_senet.cli.options.sources import EXPORTED, Source, find_run, find_source
from keras_senet.cli.parameters import Flag, Positional
from keras_senet.networks import read_table

Protocols = Literal["own", "paper-224", "paper-299", "paper-320", "ten-crop", "fusion", "larger"]


def read_stages(given: Sequence[Sequence[str]]) -> tuple[tuple[int, ...], ...]:
    """A tuple of stages each time that the flag is given; "all" is ()."""
    try:
        return tuple(() if each == ["all"] else tuple(map(int, each)) for each in given)
    except ValueError:
        received = " ".join(text for each in given for text in each)
        raise ValueError(f"must be numbers of stages, or all. Received: {received}") from None


@dataclass(frozen=True, kw_only=True)
class ListOptions(Printed):
    """
    Listed:
    paper      the networks with the paper's GFLOPs, with and without SE blocks
    weights    the published weights
    recipes    the named recipes of `keras-senet train`
    detectors  those of `keras-senet detect train`
    """

    paper: bool = False
    weights: bool = False
    recipes: bool = False
    detectors: bool = False

    def __post_init__(self):
        listed = ("paper", "weights", "recipes", "detectors")
        asked = [name for name in listed if getattr(self, name)]
        if len(asked) > 1:
            raise ValueError(f"list takes one flag. Received: --{' --'.join(asked)}")


@dataclass(frozen=True, kw_only=True)
class SummaryOptions(Printed):
    """
    model    a constructor's name, such as SEResNet50, a training work directory, a .keras file, or
             a file of weights that names its network
    workdir  a training work directory, in place of MODEL
    size     height and width of the images of a constructor; default: the network's own
    """

    model: Positional[Annotated[str | None, Flag(suggestions=read_table)]] = None
    workdir: str | None = None
    size: int | None = None

    def __post_init__(self):
        check(self, size=1)
        if (self.model is None) == (self.workdir is None):
            raise ValueError("MODEL must be given, or --workdir in its place")
        source = self.source
        if self.size is not None and source.kind != "constructor":
            raise ValueError(
                f"--size is for a constructor's name; {source.text!r} has its own. "
                f"Received: --size {self.size}"
            )

    @property
    def source(self) -> Source:
        """The network that is asked for. Raises ValueError for what is none."""
        return find_run(self.workdir) if self.workdir else find_source("MODEL", str(self.model))


@dataclass(frozen=True, kw_only=True)
class PredictOptions(SourceOptions, Printed):
    """
    images  JPEG, PNG, BMP, GIF or WebP files, patterns such as 'photos/*.jpg', and folders, whose
            images are taken with those of their subfolders

    Network:
    model    a constructor's name, such as SEResNet50, a training work directory, a .keras file, a
             file of weights that names its network (.weights.h5, .safetensors), or an exported
             .onnx or .tflite file or SavedModel folder

    Predictions:
    top           how many classes of each image; default: five, or all of fewer
    gates         also the mean of the SE blocks' gates, stage by stage
    skip_corrupt  leave out images that cannot be used; otherwise each is named in its row, and the
                  exit status is 2
    batch_size    images per step

    Output:
    csv  write a table there in place of printing it: image, rank, class, probability, error
    """

    images: Positional[tuple[str, ...]]
    top: int | None = None
    gates: bool = False
    skip_corrupt: bool = False
    batch_size: int = 32
    csv: str | None = None

    TAKES_EXPORTED: ClassVar[bool] = True

    def __post_init__(self):
        check(self, top=1, batch_size=1)
        super().__post_init__()
        if self.gates and self.sources[0].kind in EXPORTED:
            raise ValueError("--gates is for Keras models, and not for exported files")
        if self.gates and self.csv:
            raise ValueError("--gates is not for --csv")


@dataclass(frozen=True, kw_only=True)
class ConvertOptions(Options):
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
class EvaluateOptions(NetworkOptions, Printed):
    """
    Network:
    model    a constructor's name, such as SEResNet50, a training work directory, a .keras file, or
             a file of weights that names its network (.weights.h5, .safetensors); several: an
             ensemble
    weights  a tag such as imagenet (`keras-senet list --weights`), a file, FILE#NAME for a part of
             a checkpoint, or hf://owner/name, one for each --model that is a constructor's name;
             default: imagenet

    Images:
    batch_size    crops per step
    skip_corrupt  leave out images that cannot be decoded

    Protocol:
    protocol    how an image is shown to the network
    size        sizes of the crops, in pixels
    short_side  short sides of the resized image, in pixels
    ten_crop    centre, corners and their mirror images

    Output:
    output  folder for report.json, per_class.csv and confusion.png; default: the run, or none
    """

    # Several, where other commands take one
    model: Annotated[tuple[str, ...], Flag(suggestions=read_table)] = ()  # pyright: ignore[reportIncompatibleVariableOverride]
    weights: tuple[str, ...] = ()  # pyright: ignore[reportIncompatibleVariableOverride]
    skip_corrupt: bool = False
    protocol: Protocols = "own"
    size: tuple[int, ...] = ()
    short_side: tuple[int, ...] = ()
    ten_crop: bool = False
    output: str | None = None

    def __post_init__(self):
        super().__post_init__()
        check(self, size=1, short_side=1)
        named = [source for source in self.sources if source.kind == "constructor"]
        if self.weights and named and len(self.weights) != len(named):
            raise ValueError(
                "--weights must be given once for each --model that is a constructor's name: "
                f"{len(self.weights)} for {len(named)}"
            )


@dataclass(frozen=True, kw_only=True)
class ExcitationsOptions(NetworkOptions, Printed):
    """
    Images:
    skip_corrupt  leave out images that cannot be decoded

    Output:
    classes  the classes in pictures and gates.csv, ImageNet's also by words; default: four
    output   folder for tables and pictures; default: excitations in the run, or none
    """

    skip_corrupt: bool = False
    classes: tuple[str, ...] | None = None
    output: str | None = None


@dataclass(frozen=True, kw_only=True)
class PruneOptions(NetworkOptions, Printed):
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
