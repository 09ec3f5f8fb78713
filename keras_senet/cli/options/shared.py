"""What the options of several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from keras_senet.cli.options.sources import Source, find_run, find_source
from keras_senet.cli.parameters import Flag
from keras_senet.networks import read_table

NetworkName = Annotated[str, Flag(choices=read_table)]


LARGEST = 2**31 - 1  # of a number: libraries count in 32 bits


def check(options: object, **least: float) -> None:
    """Raises ValueError for an option, or one of its numbers, that is too small or large."""
    for name, minimum in least.items():
        given = getattr(options, name)
        for value in given if isinstance(given, tuple) else (given,):
            if value is not None and not minimum <= value <= LARGEST:
                flag = "--" + name.replace("_", "-")
                limit = f"most {LARGEST}" if value > LARGEST else f"least {minimum}"
                raise ValueError(f"{flag} must be at {limit}. Received: {flag} {value}")


@dataclass(frozen=True, kw_only=True)
class Options:
    """
    traceback  show where in the program an error arose
    """

    traceback: bool = False
    arguments: ClassVar[tuple[str, ...]] = ()  # the command and what it was given, as texts


@dataclass(frozen=True, kw_only=True)
class Printed(Options):
    """
    json  print JSON in place of tables; messages go to the error stream
    """

    json: bool = False


@dataclass(frozen=True, kw_only=True)
class WeightsOptions(Options):
    """
    Network:
    weights  a tag such as imagenet (`keras-senet list --weights`), a file, FILE#NAME for a part of
             a checkpoint, or hf://owner/name; default: imagenet
    """

    weights: str | None = None


@dataclass(frozen=True, kw_only=True)
class ImageOptions(Options):
    """
    Images:
    dataset     digits, a tfds name, a folder, a CSV or .npz file; default: the run's own, else
                imagenet2012
    split       train, val, test (where the dataset has none: val, or all images of one that is not
                split, but for a run that divided it), or all
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
class SourceOptions(WeightsOptions):
    """
    Network:
    model    a constructor's name, such as SEResNet50, a training work directory, a .keras file, or
             a file of weights that names its network (.weights.h5, .safetensors)
    weights  of a constructor: a tag such as imagenet (`keras-senet list --weights`), a file,
             FILE#NAME for a part of a checkpoint, or hf://owner/name; default: imagenet
    workdir  a training work directory, in place of --model
    """

    model: Annotated[str | None, Flag(suggestions=read_table)] = None
    workdir: str | None = None

    TAKES_EXPORTED: ClassVar[bool] = False

    def __post_init__(self):
        if self.workdir and (self.model or self.weights):
            raise ValueError("--workdir is in place of --model and --weights")
        if not self.workdir and not self.model:
            raise ValueError("--model or --workdir must be given")
        sources = self.sources
        if all(source.kind != "constructor" for source in sources):
            check_weights(sources[0], self.weights)

    @property
    def sources(self) -> tuple[Source, ...]:
        """The networks that are asked for. Raises ValueError for what is none."""
        if self.workdir:
            return (find_run(self.workdir, exported=self.TAKES_EXPORTED),)
        names = self.model if isinstance(self.model, tuple) else (self.model,)
        return tuple(
            find_source("--model", str(name), exported=self.TAKES_EXPORTED) for name in names
        )


def check_weights(source: Source, weights: object) -> None:
    """Raises ValueError for weights of a network that has its own."""
    if weights and source.kind != "constructor":
        raise ValueError(
            f"--weights is for a constructor's name; {source.text!r} has its own. "
            f"Received: --weights {weights}"
        )


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(SourceOptions, ImageOptions):
    """A network, and the images that it is used on."""

    def __post_init__(self):
        ImageOptions.__post_init__(self)
        super().__post_init__()
