"""Confusion matrices."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_senet.plots.figures import new_axes, save

NUMBERED = 20  # classes: with more there is no room for counts in the cells
NAMED = 100  # classes: with more there is none for their names


def confusion_matrix(
    counts: np.ndarray, class_names: Sequence[str], path: str | Path, title: str
) -> None:
    """Counts by true and predicted class; correct predictions in grey tones, wrong ones in red.

    With more than 20 classes darker means a larger fraction of the true class' images, in place of
    numbers.
    """
    classes = len(class_names)
    side = 6 if classes <= NUMBERED else 11
    figure, axes = new_axes(side, side - 0.4)
    (_draw_counts if classes <= NUMBERED else _draw_fractions)(axes, counts)
    wrong, total = counts.sum() - counts.trace(), counts.sum()
    axes.set(xlabel="predicted", ylabel="true", title=f"{title}: {wrong:,} of {total:,} wrong")
    if classes <= NAMED:
        font = "medium" if classes <= NUMBERED else "xx-small"
        turned = "vertical" if max(map(len, class_names)) > 2 else "horizontal"
        axes.set_xticks(range(classes), class_names, rotation=turned, fontsize=font)
        axes.set_yticks(range(classes), class_names, fontsize=font)
    save(figure, path)


def _draw_counts(axes, counts):
    axes.imshow(counts, cmap="Greys", vmax=2 * max(counts.max(), 1))
    for i, j in zip(*counts.nonzero(), strict=True):
        style = {"color": "black"} if i == j else {"color": "tab:red", "weight": "bold"}
        axes.text(j, i, counts[i, j], ha="center", va="center", **style)


def _draw_fractions(axes, counts):
    """A square for each count, darker for a larger fraction of the row; of three pixels or more."""
    classes = len(counts)
    pixels = max(3.0, 0.85 * axes.figure.get_figwidth() * axes.figure.dpi / classes)
    area = (72 / axes.figure.dpi * pixels) ** 2  # in square points
    true, predicted = counts.nonzero()
    fractions = counts[true, predicted] / counts.sum(axis=1)[true]
    right = true == predicted
    for chosen, colours in ((~right, "Reds"), (right, "Greys")):
        order = fractions[chosen].argsort()  # the darkest on top
        where = predicted[chosen][order], true[chosen][order]
        shades = 0.25 + 0.6 * fractions[chosen][order] ** 0.5
        style = {"cmap": colours, "vmin": 0, "vmax": 1, "marker": "s", "linewidths": 0}
        axes.scatter(*where, s=area, c=shades, **style)
    axes.set(xlim=(-0.5, classes - 0.5), ylim=(classes - 0.5, -0.5), aspect="equal")
