"""Which images the figures in a table of metrics are of: `val_accuracy` of validation images,
`test_accuracy` of test.

The best epoch is chosen on validation images. Where there are test images too, the row of that
epoch has their figures when training has ended; where there are only test images, each epoch is
evaluated on them.
"""

import math
from collections.abc import Mapping, Sequence

from keras_senet.runs.tables import Row, best_by, rows_with

WORDS = {"train": "training", "val": "validation", "test": "test", "all": "all"}
FIGURES = ("loss", "accuracy", "top5")


def chosen_on(rows: Sequence[Row]) -> str:
    """The split that the best epoch of a run is chosen on: "val" or "test"."""
    return "val" if any("val_accuracy" in row for row in rows) else "test"


def best_row(rows: Sequence[Row]) -> Row | None:
    """The first row of the highest accuracy on what the best epoch is chosen on; or None."""
    return best_by(rows, f"{chosen_on(rows)}_accuracy")


def last_accuracy(rows: Sequence[Row]) -> float:
    """The last accuracy on test images, if there are any, else on validation ones; NaN before."""
    name = "test_accuracy" if any("test_accuracy" in row for row in rows) else "val_accuracy"
    return next((row[name] for row in reversed(rows_with(rows, name))), math.nan)


def name_figures(split: str, figures: Mapping[str, float]) -> dict[str, float]:
    """Figures of a split as columns of the metrics; NaN for those that are not there."""
    return {f"{split}_{name}": figures.get(name, math.nan) for name in FIGURES}
