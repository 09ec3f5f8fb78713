"""Ablations: variants of the SE block, each trained by the same recipe with several seeds."""

import functools
import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import keras

from keras_senet import data
from keras_senet.complexity import complexity
from keras_senet.fields import check_argument
from keras_senet.files import to_csv, write_atomically
from keras_senet.plots.ablation import variant_errors
from keras_senet.recipes.recipe import Recipe
from keras_senet.recipes.se_text import write_se
from keras_senet.recipes.variants import BASE, DEFAULTS, VARIANTS, Variant
from keras_senet.runs.environment import environment
from keras_senet.runs.load import is_run
from keras_senet.runs.lock import locked
from keras_senet.runs.splits import last_accuracy
from keras_senet.runs.workdir import WorkDir
from keras_senet.training.inputs import load_images
from keras_senet.training.network import make_network
from keras_senet.training.trainer import Trainer


class SeedResult(NamedTuple):
    """A finished run: its seed, and its last epoch's errors (%) on test and training images."""

    seed: int
    test_error: float
    training_error: float


@dataclass(frozen=True)
class VariantResult:
    """What a variant costs, and the runs of it that have ended."""

    variant: Variant
    parameters: int
    multiply_adds: int
    runs: tuple[SeedResult, ...]

    @property
    def mean(self) -> float | None:
        """The mean test error (%), or None without a run."""
        return statistics.mean(run.test_error for run in self.runs) if self.runs else None

    @property
    def deviation(self) -> float | None:
        """The standard deviation of the test errors (% points); None with fewer than two seeds."""
        return statistics.stdev(run.test_error for run in self.runs) if len(self.runs) > 1 else None

    def difference_to(self, base: "VariantResult | None") -> float | None:
        """The mean difference (% points) to another row's test errors by seed; None without any."""
        theirs = {run.seed: run.test_error for run in base.runs} if base else {}
        pairs = [run.test_error - theirs[run.seed] for run in self.runs if run.seed in theirs]
        return statistics.mean(pairs) if pairs else None


class Ablation:
    """Runs of one recipe in `workdir/VARIANT/seedN`, each a work directory of its own, and a table
    of them.

    Args:
        recipe: a `Recipe`; its `se` and `seed` are replaced by the variants' and the seeds.
        workdir: a folder; finished runs in it count, and unfinished ones are continued.
        variants: `Variant`s.
        seeds: of the runs of each variant.
        data_dir: where tensorflow_datasets has its data.
        **options: further arguments of `Trainer`.

    Raises:
        ValueError: if variants or seeds come twice or are missing, or a field of a variant's SE
            blocks is wrong.
    """

    def __init__(
        self,
        recipe: Recipe,
        workdir: str | Path,
        variants: Sequence[Variant] | None = None,
        seeds: Sequence[int] = (0, 1),
        *,
        data_dir: str | None = None,
        **options: Any,
    ):
        self.variants = tuple(variants or (VARIANTS[name] for name in DEFAULTS))
        self.seeds, self.workdir = tuple(seeds), Path(workdir)
        self.recipe, self.data_dir, self.options = recipe, data_dir, options
        for name, values in (("variants", [v.name for v in self.variants]), ("seeds", self.seeds)):
            are_different = values and len(set(values)) == len(values)
            check_argument(name, list(values), are_different, "one or more, each once")
        for variant in self.variants:  # all of them, before the first is trained
            self._recipe(variant, self.seeds[0])

    def _recipe(self, variant, seed):
        return self.recipe.override(se=variant.se, seed=seed)

    def folder(self, variant: Variant, seed: int) -> Path:
        """The work directory of one run."""
        return self.workdir / variant.name / f"seed{seed}"

    def train(self, after_each: Callable[[], None] = lambda: None) -> None:
        """Trains what has not ended yet: each variant with the first seed, then with the next.

        Args:
            after_each: called after each run.

        Raises what `Trainer.train` raises; the same call continues.

        Raises:
            ValueError: if the images are not those of the existing runs.
        """
        with locked(self.workdir):
            self._check_images()
            for seed, variant in itertools.product(self.seeds, self.variants):
                if self._read_finished(variant, seed) is None:
                    recipe, folder = self._recipe(variant, seed), self.folder(variant, seed)
                    Trainer(recipe, folder, data_dir=self.data_dir, **self.options).train()
                    keras.backend.clear_session()
                    after_each()

    def _check_images(self):
        """Runs are compared only if all have the same images: one stands for the existing ones."""
        for seed, variant in itertools.product(self.seeds, self.variants):
            recipe, folder = self._recipe(variant, seed), self.folder(variant, seed)
            if is_run(folder):
                images = load_images(recipe, self.data_dir).by_split()
                WorkDir(folder, recipe, environment(), images=images, writable=False)
                return

    def _read_finished(self, variant, seed):
        """The `SeedResult` if its metrics reach the last epoch and test: weights may be deleted."""
        recipe, folder = self._recipe(variant, seed), self.folder(variant, seed)
        if not is_run(folder):
            return None
        rows = WorkDir(folder, recipe, environment(), writable=False).metrics.read()
        if not rows or rows[-1]["epoch"] != recipe.epochs or math.isnan(last_accuracy(rows)):
            return None
        accuracies = (last_accuracy(rows), rows[-1]["accuracy"])
        return SeedResult(seed, *(100 * (1 - accuracy) for accuracy in accuracies))

    def rows(self) -> list[VariantResult]:
        """A `VariantResult` per variant, with the runs that have ended."""
        rows = []
        for variant, counts in zip(self.variants, self._counts, strict=True):
            runs = (self._read_finished(variant, seed) for seed in self.seeds)
            ended = tuple(run for run in runs if run)
            rows.append(VariantResult(variant, counts.parameters, counts.multiply_adds, ended))
        return rows

    @functools.cached_property
    def _counts(self):
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


def as_csv(rows: Sequence[VariantResult]) -> str:
    """The runs of all rows as the text of a CSV file; errors in %."""
    lines = []
    for row in rows:
        v = row.variant
        for run in row.runs:
            errors = (f"{run.test_error:.2f}", f"{run.training_error:.2f}")
            counts = (row.parameters, row.multiply_adds)
            values = (v.name, write_se(v.se), run.seed, *errors, *counts, v.paper, v.table)
            lines.append(dict(zip(COLUMNS, values, strict=True)))
    return to_csv(lines, COLUMNS, newline="\n")


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


def table(rows: Sequence[VariantResult]) -> list[tuple[str, ...]]:
    """The cells of a table, a row per variant; errors in %, the paper's of SE-ResNet-50, ImageNet.

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


def write_results(rows: Sequence[VariantResult], workdir: str | Path, title: str) -> None:
    """Writes `ablation.csv`, `ablation.md` and, once a run has ended, `ablation.png`."""
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    write_atomically(workdir / "ablation.csv", as_csv(rows))
    lines = [f"| {' | '.join(cells)} |" for cells in (HEADER, ("---",) * len(HEADER), *table(rows))]
    write_atomically(workdir / "ablation.md", f"# {title}\n\n{NOTE}\n\n" + "\n".join(lines) + "\n")
    if any(row.runs for row in rows):
        variant_errors(rows, workdir / "ablation.png", title)


NOTE = (
    "Test errors in % at the last epoch: mean and standard deviation over seeds. "
    '"to SE" is the difference from the variant `se` in percentage points, ours the mean over the '
    'seeds that both have. "paper" is the top-1 error of SE-ResNet-50 on ImageNet (version 4, '
    "Tables 10 to 16). Network and data differ, so only the signs and sizes of the differences can "
    "be compared."
)
