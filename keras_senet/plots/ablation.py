"""Errors of variants of the SE block."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from keras_senet.plots.figures import new_axes, save


class VariantErrors(NamedTuple):
    """A variant: its test errors (%) by run, mean, the paper's or None; whether it is the base."""

    name: str
    errors: Sequence[float]
    mean: float | None
    paper: float | None
    is_base: bool = False


def variant_errors(rows: Sequence[VariantErrors], path: str | Path, title: str) -> None:
    """Test errors (%) of variants: a dot per run, a line at their mean; on the right those of the
    paper.

    Args:
        rows: the variants.
        path: a PNG file.
        title: of the figure.
    """
    figure, (ours, papers) = new_axes(9.5, 1.2 + 0.34 * len(rows), 1, 2)
    for place, row in enumerate(rows):
        colour = "tab:red" if row.is_base else "tab:blue"
        ours.plot(row.errors, [place] * len(row.errors), "o", color=colour, alpha=0.6)
        if row.mean is not None:
            ours.plot(row.mean, place, "|", color=colour, markersize=16, markeredgewidth=2)
        if row.paper is not None:
            papers.plot(row.paper, place, "D", color=colour)
    base = next((row for row in rows if row.is_base), None)
    for axes, reference in ((ours, base and base.mean), (papers, base and base.paper)):
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        axes.set(ylim=(len(rows) - 0.5, -0.5))
        axes.grid(axis="x", alpha=0.3)
        if reference is not None:
            axes.axvline(reference, color="tab:red", linewidth=0.8, alpha=0.6)
    ours.set(xlabel="test error (%): runs, and their mean")
    papers.set(xlabel="paper: SE-ResNet-50, ImageNet, top-1 error (%)")
    save(figure, path, title)
