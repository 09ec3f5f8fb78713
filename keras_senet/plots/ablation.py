"""Errors of variants of the SE block."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_senet.plots.figures import new_axes, save
from keras_senet.recipes.variants import BASE


def variant_errors(rows: Sequence[Any], path: str | Path, title: str) -> None:
    """Test errors (%) of variants: a dot per run, a line at their mean; on the right those of the
    paper.

    Args:
        rows: a `VariantResult` of each variant.
        path: a PNG file.
        title: of the figure.
    """
    figure, (ours, papers) = new_axes(9.5, 1.2 + 0.34 * len(rows), 1, 2)
    for place, row in enumerate(rows):
        colour = "tab:red" if row.variant.name == BASE else "tab:blue"
        errors = [run.test_error for run in row.runs]
        ours.plot(errors, [place] * len(errors), "o", color=colour, alpha=0.6)
        if row.mean is not None:
            ours.plot(row.mean, place, "|", color=colour, markersize=16, markeredgewidth=2)
        if row.variant.paper is not None:
            papers.plot(row.variant.paper, place, "D", color=colour)
    base = next((row for row in rows if row.variant.name == BASE), None)
    for axes, reference in ((ours, base and base.mean), (papers, base and base.variant.paper)):
        axes.set_yticks(range(len(rows)), [row.variant.name for row in rows])
        axes.set(ylim=(len(rows) - 0.5, -0.5))
        axes.grid(axis="x", alpha=0.3)
        if reference is not None:
            axes.axvline(reference, color="tab:red", linewidth=0.8, alpha=0.6)
    ours.set(xlabel="test error (%): runs, and their mean")
    papers.set(xlabel="paper: SE-ResNet-50, ImageNet, top-1 error (%)")
    save(figure, path, title)
