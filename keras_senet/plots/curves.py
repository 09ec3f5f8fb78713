"""Loss and error of runs by epoch, training dashed and validation or test solid, as in the paper's
Figure 4.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_senet.plots.figures import new_axes, save
from keras_senet.runs.splits import WORDS, chosen_on
from keras_senet.runs.tables import Row


def training_curves(rows: Sequence[Row], path: str | Path, title: str) -> None:
    """Loss and top-1 error (%) of one run, given the rows of its metrics."""
    split = chosen_on(rows)
    figure, (losses, errors) = new_axes(9, 3.6, 1, 2)
    for axes, name, scale in ((losses, "loss", lambda v: v), (errors, "accuracy", _error)):
        evaluated = points(rows, f"{split}_{name}", scale)
        axes.plot(*points(rows, name, scale), "--", color="tab:blue", label="training")
        axes.plot(*evaluated, "-", color="tab:red", label=WORDS[split])
        label_epochs(axes)
    losses.set(ylabel="cross-entropy", yscale="log")
    errors.set(ylabel="top-1 error (%)", ylim=(0, None))
    losses.legend()
    save(figure, path, title)


def compared_curves(
    runs: Mapping[str, Sequence[Sequence[Row]]], path: str | Path, title: str
) -> None:
    """Top-1 error (%) of several runs.

    Args:
        runs: label -> the metrics of each of its runs, such as one per seed; they have one colour.
        path: a PNG file.
        title: of the figure.
    """
    figure, axes = new_axes(6.4, 4.6)
    for i, (label, seeds) in enumerate(runs.items()):
        for j, rows in enumerate(seeds):
            split = chosen_on(rows)
            training, evaluated = (
                points(rows, name, _error) for name in ("accuracy", f"{split}_accuracy")
            )
            names = (f"{label}, training", f"{label}, {WORDS[split]}") if j == 0 else (None, None)
            axes.plot(*training, "--", color=f"C{i}", alpha=0.6, label=names[0])
            axes.plot(*evaluated, "-", color=f"C{i}", label=names[1])
    label_epochs(axes)
    axes.set(ylabel="top-1 error (%)", title=title, ylim=(0, None))
    axes.legend()
    save(figure, path)


def _error(accuracy):
    return 100 * (1 - accuracy)


def points(
    rows: Sequence[Row], name: str, scale: Callable[[float], float]
) -> tuple[list[float], list[float]]:
    """Epochs and values, where there is a value."""
    found = [(row["epoch"], scale(row[name])) for row in rows if row[name] == row[name]]
    return [epoch for epoch, _ in found], [value for _, value in found]


def label_epochs(axes: Any) -> None:
    """Names the horizontal axis, whose ticks are whole."""
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.3)
    axes.xaxis.get_major_locator().set_params(integer=True)
