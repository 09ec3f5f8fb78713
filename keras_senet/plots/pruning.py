"""Error and cost of networks with fewer channels or SE blocks."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_senet.plots.figures import new_axes, save


class PrunedNetwork(NamedTuple):
    """One network: "original", or how it was made of it, one of `STYLES`; its top-1 error (%) and
    multiply-adds per image; the fraction of the channels that it keeps, or the stages without SE
    blocks.
    """

    kind: str
    error: float
    multiply_adds: int
    keep: float | None = None
    stages: tuple[int, ...] | None = None

    @property
    def point(self) -> tuple[float, float]:
        """Millions of multiply-adds, and the error."""
        return self.multiply_adds / 1e6, self.error


# kind         what it is called, and how it is drawn
STYLES = {
    "gates": ("channels ranked by gates", {"marker": "o", "color": "tab:red"}),
    "random": ("channels drawn at random", {"marker": "x", "color": "tab:grey"}),
    "removed": ("SE blocks removed", {"marker": "s", "color": "tab:orange"}),
    "constant": ("their mean gates kept", {"marker": "D", "color": "tab:green"}),
}
PANELS = (("gates", "random"), ("removed", "constant"))


def pruned_networks(rows: Sequence[PrunedNetwork], path: str | Path, title: str) -> None:
    """Top-1 error (%) of networks, the first of them the original.

    Of those that keep a fraction of the channels by multiply-adds: points, and a curve through the
    mean of each fraction. Of those without SE blocks, which cost about as much as the original, by
    the stages that have none.
    """
    panels = [kinds for kinds in PANELS if any(row.kind in kinds for row in rows)]
    widths = [2 if kinds == PANELS[0] else 1 for kinds in panels]
    figure, (all_axes,) = new_axes(
        7.2, 5, 1, len(panels), sharey=True, squeeze=False, width_ratios=widths
    )
    for axes, kinds in zip(all_axes, panels, strict=True):
        (_draw_curves if kinds == PANELS[0] else _draw_stages)(axes, rows, kinds)
        axes.axhline(rows[0].error, color="black", linestyle=":", linewidth=1, label="the network")
        axes.margins(x=0.08)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    all_axes[0].set(ylabel="top-1 error (%)", ylim=(0, None))
    save(figure, path, title)


def _draw_curves(axes, rows, kinds):
    end = rows[0].point
    axes.plot(*end, "*", color="black", markersize=13, zorder=4)
    for kind in kinds:
        label, style = STYLES[kind]
        points = {}
        for row in (row for row in rows if row.kind == kind):
            points.setdefault(row.keep, []).append(row.point)
        if points:
            every = [point for group in points.values() for point in group]
            axes.plot(*np.transpose(every), linestyle="none", label=label, zorder=3, **style)
            means = sorted([*(tuple(np.mean(group, axis=0)) for group in points.values()), end])
            axes.plot(*np.transpose(means), color=style["color"])
        for keep, (first, *_) in points.items():
            if kind == "gates":
                offset = {"xytext": (5, 5), "textcoords": "offset points"}
                axes.annotate(f"{keep:g}", first, fontsize="small", **offset)
    axes.set_xlabel("multiply-adds per image (millions)")


def _draw_stages(axes, rows, kinds):
    stages = list(dict.fromkeys(row.stages for row in rows if row.kind in kinds))
    for kind, aside in zip(kinds, (-0.08, 0.08), strict=True):
        label, style = STYLES[kind]
        chosen = [row for row in rows if row.kind == kind]
        found = [(stages.index(row.stages) + aside, row.error) for row in chosen]
        if found:
            axes.plot(*np.transpose(found), linestyle="none", label=label, zorder=3, **style)
    axes.set_xticks(range(len(stages)), [", ".join(map(str, each)) or "all" for each in stages])
    axes.set(xlabel="stages without SE blocks", xlim=(-0.5, len(stages) - 0.5))
