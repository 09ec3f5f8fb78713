"""Which images the figures in a table of metrics are of: `val_accuracy` of validation images,
`test_accuracy` of test.

The best epoch is chosen on validation images. Where there are test images too, the row of that
epoch has their figures when training has ended; where there are only test images, each epoch is
evaluated on them.
"""

import math
from collections.abc import Mapping, Sequence

from keras_senet.runs.tables import Row

WORDS = {"train": "training", "val": "validation", "test": "test", "all": "all"}
FIGURES = ("loss", "accuracy", "top5")


def chosen_on(rows: Sequence[Row]) -> str:
    """The split that the best epoch of a run is chosen on: "val" or "test"."""
    return "val" if any("val_accuracy" in row for row in rows) else "test"


def evaluated(rows: Sequence[Row], split: str) -> list[Row]:
    """The rows that have an accuracy on a split."""
    return [row for row in rows if math.isfinite(row.get(f"{split}_accuracy", math.nan))]


def best_row(rows: Sequence[Row]) -> Row | None:
    """The first row of the highest accuracy on what the best epoch is chosen on; or None."""
    split = chosen_on(rows)
    return max(evaluated(rows, split), key=lambda row: row[f"{split}_accuracy"], default=None)


def last_accuracy(rows: Sequence[Row]) -> float:
    """The last accuracy on test images, if there are any, else on validation ones; NaN before."""
    split = "test" if any("test_accuracy" in row for row in rows) else "val"
    return evaluated(rows, split)[-1][f"{split}_accuracy"] if evaluated(rows, split) else math.nan


def name_figures(split: str, figures: Mapping[str, float]) -> dict[str, float]:
    """Figures of a split as columns of the metrics; NaN for those that are not there."""
    return {f"{split}_{name}": figures.get(name, math.nan) for name in FIGURES}
