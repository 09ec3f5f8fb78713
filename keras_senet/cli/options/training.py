"""Options of commands that train, and that show runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from keras_senet.cli.options.shared import ImageOptions, Options, Printed, check
from keras_senet.cli.parameters import Flag, Positional
from keras_senet.recipes import RECIPES, Recipe
from keras_senet.recipes.variants import Variant, variant_of


def read_variants(given: Sequence[Sequence[str]]) -> tuple[Variant, ...]:
    """The variants of names, and of NAME:FIELDS."""
    return tuple(variant_of(text) for each in given for text in each)


def recipe_names() -> tuple[str, ...]:
    """Those of the named recipes."""
    return tuple(RECIPES)


@dataclass(frozen=True, kw_only=True)
class QuickstartOptions(Options):
    """
    workdir  where everything is written
    seed     of weights, order and augmentation
    """

    workdir: str = "quickstart"
    seed: int = 0

    def __post_init__(self):
        Recipe(seed=self.seed)


@dataclass(frozen=True, kw_only=True)
class DataOptions(Printed):
    """
    dataset       a folder of class folders, a CSV file of paths and labels, a .npz file of arrays,
                  or a tfds name
    data_dir      where tfds datasets are
    headers_only  do not decode images: quick, but damage after the header and near duplicates are
                  not found

    Output:
    csv     a file that lists the problems of each image
    output  folder for samples.png, sizes.png and, with --recipe, augmented.png
    recipe  whose augmentation augmented.png shows (`keras-senet list --recipes`)
    """

    dataset: Positional[str]
    data_dir: str | None = None
    headers_only: bool = False
    csv: str | None = None
    output: str | None = None
    recipe: Annotated[str | None, Flag(choices=recipe_names)] = None

    def __post_init__(self):
        if self.recipe and (self.headers_only or not self.output):
            raise ValueError("--recipe goes with --output, and decodes: not with --headers-only")


@dataclass(frozen=True, kw_only=True)
class RunOptions(Options):
    """`changed` are the names of the recipe's fields that flags give, `base` is the recipe without
    them.

    Run:
    workdir             where the run is written, and continued if there is one
    data_dir            where tensorflow_datasets has its data; default: its own
    strategy            over which devices
    logical_cpus        split the CPU, to try `--strategy mirrored` without GPUs
    max_steps           stop after this step of the run
    checkpoint_steps    also save every N steps; 0: never
    checkpoint_minutes  also by time
    keep                checkpoints that are kept
    evaluate_epochs     how often; 0: at the end
    tensorboard         write event files for TensorBoard
    quiet               no progress bar
    """

    workdir: str
    data_dir: str | None = None
    strategy: Literal["auto", "none", "mirrored"] = "auto"
    logical_cpus: int | None = None
    max_steps: int | None = None
    checkpoint_steps: int = 0
    checkpoint_minutes: float = 10.0
    keep: int = 2
    evaluate_epochs: int = 1
    tensorboard: bool = False
    quiet: bool = False
    COMMAND: ClassVar[tuple[str, ...]] = ("train",)
    changed: ClassVar[frozenset[str]] = frozenset()
    base: ClassVar[Any] = None

    def __post_init__(self):
        check(self, max_steps=1, checkpoint_steps=0, keep=1, evaluate_epochs=0, logical_cpus=1)
        check(self, checkpoint_minutes=0)

    @property
    def where(self) -> tuple[str, ...]:
        """The words of a command that say where datasets are."""
        return ("--data-dir", self.data_dir) if self.data_dir else ()

    @property
    def trainer(self) -> dict[str, Any]:
        """The arguments of a trainer that are named as these options are, and `lower_batch`."""
        names = ("data_dir", "max_steps", "evaluate_epochs", "tensorboard")
        common = {name: getattr(self, name) for name in names}
        return common | {
            "verbose": not self.quiet,
            "lower_batch": "batch_size" not in self.changed,
        }

    @property
    def checkpoints(self) -> dict[str, Any]:
        """The same arguments of the package's own trainer only."""
        names = ("strategy", "checkpoint_steps", "checkpoint_minutes", "keep")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class TrainOptions(RunOptions):
    """
    Run:
    engine              "fit" is Keras' own loop; default: the run's own, else "trainer"
    skip_corrupt        leave out images that cannot be used, and list them
    restart             with more --epochs than the run has: begin the schedule of the learning rate
                        again, from the last weights; the rate and its schedule may then change, too
    find_rate           try rising learning rates on the recipe's images, and write rates.csv and
                        rates.png; no run is begun
    """

    recipe: Recipe
    engine: Literal["trainer", "fit"] | None = None
    skip_corrupt: bool = False
    restart: bool = False
    find_rate: bool = False


@dataclass(frozen=True, kw_only=True)
class AblateOptions(Printed):
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
        check(self, seeds=0)


@dataclass(frozen=True, kw_only=True)
class CurvesOptions(Options):
    """
    workdirs  training work directories
    output    a PNG file
    title     of the picture
    """

    workdirs: Positional[tuple[str, ...]]
    output: str
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class ReportOptions(ImageOptions):
    """
    workdir  a training work directory; a run that has not ended has a page, too
    output   the page's file; default: report.html in WORKDIR

    Images:
    dataset        digits, a tfds name, a folder, a CSV or .npz file; default: the run's own
    split          of which images
    no_evaluation  without what needs the dataset: confusions, classes, Grad-CAM, gates and
                   suspects.csv, the likely wrong labels
    no_gates       without the gates of the SE blocks
    no_images      without images of the dataset, such as ones that are not to be shared
    """

    workdir: Positional[str]
    output: str | None = None
    split: Literal["test", "val", "train", "all"] = "test"
    no_evaluation: bool = False
    no_gates: bool = False
    no_images: bool = False

    def __post_init__(self):
        super().__post_init__()
        if self.data_dir is not None and not Path(self.data_dir).is_dir():
            raise ValueError(f"--data-dir must be a folder. Received: --data-dir {self.data_dir}")
