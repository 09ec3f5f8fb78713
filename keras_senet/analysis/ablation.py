"""Ablations: variants of the SE block, each trained by the same recipe with several seeds."""

import csv
import functools
import io
import itertools
import math
import re
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import keras

from keras_senet import data
from keras_senet.complexity import complexity
from keras_senet.files import replacing, write_atomically
from keras_senet.runs.environment import environment
from keras_senet.runs.lock import locked
from keras_senet.runs.splits import last_accuracy
from keras_senet.runs.workdir import WorkDir
from keras_senet.training.inputs import load_images
from keras_senet.training.network import make_network
from keras_senet.training.trainer import Trainer

BASE = "se"  # the variant that the others are compared with


@dataclass(frozen=True)
class Variant:
    """A network to train: its name, its SE blocks as a recipe's `se` describes them, and the
    paper's figures.

    The name is that of the folder of its runs, too: letters, digits, "_", ".", "+" and "-".

    paper  top-1 error (%) of SE-ResNet-50 on ImageNet with such blocks, or None
    table  where the paper (version 4) has it

    Raises:
        ValueError: for another name.
    """

    name: str
    se: str
    paper: float | None = None
    table: str = ""

    def __post_init__(self):
        if not re.fullmatch(r"[\w.+-]+", self.name) or self.name in (".", ".."):
            raise ValueError(
                'The name of a variant must be of letters, digits, "_", ".", "+" and "-", and not "." or "..". '
                f"Received: {self.name!r}"
            )


VARIANTS = {
    variant.name: variant
    for variant in (
        # name          se               paper  table
        Variant("plain", "none", 23.30, "Table 10"),
        Variant(BASE, "default", 22.28, "Table 10"),
        Variant("r2", "reduction=2", 22.29, "Table 10"),
        Variant("r4", "reduction=4", 22.25, "Table 10"),
        Variant("r8", "reduction=8", 22.26, "Table 10"),
        Variant("r32", "reduction=32", 22.72, "Table 10"),
        Variant("max", "squeeze=max", 22.57, "Table 11"),
        Variant("relu", "gate=relu", 23.47, "Table 12"),
        Variant("tanh", "gate=tanh", 23.00, "Table 12"),
        Variant("stage2", "stages=2", 23.03, "Table 13"),
        Variant("stage3", "stages=3", 23.04, "Table 13"),
        Variant("stage4", "stages=4", 22.68, "Table 13"),
        Variant("pre", "position=pre", 22.23, "Table 14"),
        Variant("post", "position=post", 22.78, "Table 14"),
        Variant("identity", "position=identity", 22.20, "Table 14"),
        Variant("conv3x3", "position=conv3x3", 22.48, "Table 15"),
        Variant("no-squeeze", "squeeze=none", 22.93, "Table 16"),
    )
}
DEFAULTS = (
    "plain",
    BASE,
    "no-squeeze",
    "max",
    "tanh",
    "relu",
    "r8",
    "r4",
    "pre",
    "post",
    "identity",
)


def variant_of(text):
    """The `Variant` of a name in VARIANTS, or of "NAME:SE" with SE blocks as a recipe's `se`
    describes them.

    Raises:
        ValueError: for another name.
    """
    name, has_se, se = text.partition(":")
    if not has_se and name in VARIANTS:
        return VARIANTS[name]
    if not se:
        raise ValueError(
            f"A variant must be one of {', '.join(VARIANTS)}, or NAME:FIELDS such as r64:reduction=64. "
            f"Received: {text!r}"
        )
    return Variant(name, se)


class Run(NamedTuple):
    """A finished run: its seed, and its errors (%) on the test and training images at the last
    epoch.
    """

    seed: int
    test_error: float
    training_error: float


@dataclass(frozen=True)
class Row:
    """What a variant costs, and the runs of it that have ended."""

    variant: Variant
    parameters: int
    multiply_adds: int
    runs: tuple[Run, ...]

    @property
    def mean(self):
        """The mean test error (%), or None without a run."""
        return statistics.mean(run.test_error for run in self.runs) if self.runs else None

    @property
    def deviation(self):
        """The standard deviation of the test errors (% points) over seeds, or None with fewer than
        two.
        """
        return statistics.stdev(run.test_error for run in self.runs) if len(self.runs) > 1 else None

    def difference_to(self, base):
        """The mean difference (% points) to another row's test errors, seed by seed, or None
        without a common seed.
        """
        theirs = {run.seed: run.test_error for run in base.runs} if base else {}
        pairs = [run.test_error - theirs[run.seed] for run in self.runs if run.seed in theirs]
        return statistics.mean(pairs) if pairs else None


class Ablation:
    """Runs of one recipe in `workdir/VARIANT/seedN`, each a work directory of its own, and a table
    of them.

    Args:
        recipe: a `Recipe`; its `se` and `seed` are replaced by the variants' and the seeds.
        workdir: a folder; what was trained there before counts, and runs that had begun are
        continued. variants: `Variant`s. seeds: of the runs of each variant. data_dir: where
        tensorflow_datasets has its data.
        **options: further arguments of `Trainer`.

    Raises:
        ValueError: if variants or seeds come twice or are missing, or a field of a variant's SE
        blocks is wrong.
    """

    def __init__(self, recipe, workdir, variants=None, seeds=(0, 1), *, data_dir=None, **options):
        self.variants = tuple(variants or (VARIANTS[name] for name in DEFAULTS))
        self.seeds, self.workdir = tuple(seeds), Path(workdir)
        self.recipe, self.data_dir, self.options = recipe, data_dir, options
        for name, values in (("variants", [v.name for v in self.variants]), ("seeds", self.seeds)):
            if not values or len(set(values)) != len(values):
                raise ValueError(
                    f"`{name}` must be one or more, each once. Received: {name}={list(values)}"
                )
        for variant in self.variants:  # all of them, before the first is trained
            self._recipe(variant, self.seeds[0])

    def _recipe(self, variant, seed):
        return self.recipe.override(se=variant.se, seed=seed)

    def folder(self, variant, seed):
        """The work directory of one run."""
        return self.workdir / variant.name / f"seed{seed}"

    def train(self, after_each=lambda: None):
        """Trains what has not ended yet: each variant with the first seed, then with the next.

        Args:
            after_each: called behind each run.

        Raises:
            As `Trainer.train` does; the same call continues. ValueError, too, if the images are not
            those of the runs that are there.
        """
        with locked(self.workdir):
            self._check_images()
            for seed, variant in itertools.product(self.seeds, self.variants):
                if self._finished(variant, seed) is None:
                    recipe, folder = self._recipe(variant, seed), self.folder(variant, seed)
                    Trainer(recipe, folder, data_dir=self.data_dir, **self.options).train()
                    keras.backend.clear_session()
                    after_each()

    def _check_images(self):
        """Runs are compared only if all have the same images: one stands for those that are there."""
        for seed, variant in itertools.product(self.seeds, self.variants):
            recipe, folder = self._recipe(variant, seed), self.folder(variant, seed)
            if (folder / "recipe.json").exists():
                images = load_images(recipe, self.data_dir).by_split()
                WorkDir(folder, recipe, environment(), images=images, writable=False)
                return

    def _finished(self, variant, seed):
        """The `Run` if its metrics go to the last epoch and the test, else None; weights may be
        gone since.
        """
        recipe, folder = self._recipe(variant, seed), self.folder(variant, seed)
        if not (folder / "recipe.json").exists():
            return None
        rows = WorkDir(folder, recipe, environment(), writable=False).read_metrics()
        if not rows or rows[-1]["epoch"] != recipe.epochs or math.isnan(last_accuracy(rows)):
            return None
        test, training = (
            100 * (1 - accuracy) for accuracy in (last_accuracy(rows), rows[-1]["accuracy"])
        )
        return Run(seed, test, training)

    def rows(self):
        """A `Row` a variant, with the runs that have ended."""
        return [
            self._row(variant, counts)
            for variant, counts in zip(self.variants, self._counts, strict=True)
        ]

    def _row(self, variant, counts):
        runs = [self._finished(variant, seed) for seed in self.seeds]
        return Row(
            variant, counts.parameters, counts.multiply_adds, tuple(run for run in runs if run)
        )

    @functools.cached_property
    def _counts(self):
        """What each variant costs."""
        train_set = data.load(self.recipe.dataset, "train", data_dir=self.data_dir)
        networks = (
            make_network(self._recipe(variant, self.seeds[0]), train_set)
            for variant in self.variants
        )
        return [complexity(network) for network in networks]


COLUMNS = (
    "variant",
    "se",
    "seed",
    "test_error",
    "training_error",
    "parameters",
    "multiply_adds",
    "paper",
    "table",
)


def as_csv(rows):
    """The runs of all rows as the text of a CSV file; errors in %."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        v, paper = row.variant, "" if row.variant.paper is None else row.variant.paper
        for run in row.runs:
            errors = (f"{run.test_error:.2f}", f"{run.training_error:.2f}")
            writer.writerow(
                (v.name, v.se, run.seed, *errors, row.parameters, row.multiply_adds, paper, v.table)
            )
    return text.getvalue()


HEADER = (
    "variant",
    "parameters",
    "multiply-adds",
    "test error",
    "to SE",
    "paper",
    "to SE",
    "seeds",
)


def table(rows):
    """The cells of a table, a row a variant; errors in %, the paper's of SE-ResNet-50 on ImageNet.

    "to SE" are the differences to the variant "se", in points: ours seed by seed.
    """
    base = next((row for row in rows if row.variant.name == BASE), None)
    return [_cells(row, base) for row in rows]


def _cells(row, base):
    own = "-" if row.mean is None else f"{row.mean:.2f}"
    if row.deviation is not None:
        own += f" ± {row.deviation:.2f}"
    paper = row.variant.paper
    return (
        row.variant.name,
        f"{row.parameters:,}",
        f"{row.multiply_adds:,}",
        own,
        _signed(row.difference_to(base)),
        "-" if paper is None else f"{paper:.2f}",
        _signed(None if paper is None else paper - VARIANTS[BASE].paper),
        f"{len(row.runs)}",
    )


def _signed(points):
    return "-" if points is None else f"{points:+.2f}"


def write_results(rows, workdir, title):
    """Leaves `ablation.csv`, `ablation.md` and, once a run has ended, `ablation.png` in a folder."""
    from keras_senet.plots.training import ablation

    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    write_atomically(workdir / "ablation.csv", as_csv(rows))
    lines = [f"| {' | '.join(cells)} |" for cells in (HEADER, ("---",) * len(HEADER), *table(rows))]
    write_atomically(workdir / "ablation.md", f"# {title}\n\n{NOTE}\n\n" + "\n".join(lines) + "\n")
    if any(row.runs for row in rows):
        with replacing(workdir / "ablation.png") as partial:
            ablation(rows, partial, title)


NOTE = (
    'Test errors in % at the last epoch: mean and standard deviation over seeds. "to SE" is the difference to the '
    'variant `se` in points, ours seed by seed. "paper" is the top-1 error of SE-ResNet-50 on ImageNet (version 4, '
    "Tables 10 to 16), of another network on other data: signs and sizes of its differences are what can be compared."
)
