"""What the options of several commands share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from keras_senet.cli.flags import Flag
from keras_senet.networks import read_table

NetworkName = Annotated[str, Flag(choices=read_table)]


def check(options: object, **least: float) -> None:
    """Raises ValueError for an option that is less than what is given for it, or infinite."""
    for name, minimum in least.items():
        value = getattr(options, name)
        if value is not None and not minimum <= value < math.inf:
            flag = "--" + name.replace("_", "-")
            raise ValueError(f"{flag} must be at least {minimum}. Received: {flag} {value}")


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
    dataset     digits, a tfds name, a folder or a CSV file; default: the run's own, else
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
class NetworkOptions(ImageOptions, WeightsOptions):
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
