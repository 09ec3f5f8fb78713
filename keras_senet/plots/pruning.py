"""The errors of pruned networks, as a PNG file."""

import numpy as np

from keras_senet.extras import require

# kind         what it is called, and how it is drawn
STYLES = {
    "gates": ("channels ranked by gates", {"marker": "o", "color": "tab:red"}),
    "random": ("channels drawn at random", {"marker": "x", "color": "tab:grey"}),
    "removed": ("SE blocks removed", {"marker": "s", "color": "tab:orange"}),
    "constant": ("their mean gates kept", {"marker": "D", "color": "tab:green"}),
}
PANELS = (("gates", "random"), ("removed", "constant"))


def pruning(rows, path, title):
    """Top-1 error (%) of the rows of `keras-senet prune`, the first of them the network itself.

    Of those that keep a fraction of the channels by multiply-adds: points, and a curve through the
    mean of each fraction. Of those without SE blocks, which cost about as much as the network, by
    the stages that have none.
    """
    panels = [kinds for kinds in PANELS if any(row.variant.kind in kinds for row in rows)]
    figure = require("matplotlib.figure", "analysis").Figure(
        figsize=(7.2, 5), layout="constrained", dpi=120
    )
    widths = [2 if kinds == PANELS[0] else 1 for kinds in panels]
    every = figure.subplots(1, len(panels), sharey=True, squeeze=False, width_ratios=widths)[0]
    for axes, kinds in zip(every, panels, strict=True):
        (_draw_curves if kinds == PANELS[0] else _draw_stages)(axes, rows, kinds)
        axes.axhline(rows[0].error, color="black", linestyle=":", linewidth=1, label="the network")
        axes.margins(x=0.08)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    every[0].set(ylabel="top-1 error (%)", ylim=(0, None))
    figure.suptitle(title)
    figure.savefig(path, format="png")


def _draw_curves(axes, rows, kinds):
    """Error by multiply-adds; the fractions that stay are written at the points."""
    end = _point(rows[0])
    axes.plot(*end, "*", color="black", markersize=13, zorder=4)
    for kind in kinds:
        label, style = STYLES[kind]
        points = {}
        for row in (row for row in rows if row.variant.kind == kind):
            points.setdefault(row.variant.keep, []).append(_point(row))
        if points:
            every = [point for group in points.values() for point in group]
            axes.plot(*np.transpose(every), linestyle="none", label=label, zorder=3, **style)
            means = sorted([*(tuple(np.mean(group, axis=0)) for group in points.values()), end])
            axes.plot(*np.transpose(means), color=style["color"])
        for keep, (first, *_) in points.items():
            if kind == "gates":
                axes.annotate(
                    f"{keep:g}", first, xytext=(5, 5), textcoords="offset points", fontsize="small"
                )
    axes.set_xlabel("multiply-adds per image (millions)")


def _draw_stages(axes, rows, kinds):
    """Error by the stages that have no SE blocks."""
    stages = list(dict.fromkeys(row.variant.stages for row in rows if row.variant.kind in kinds))
    for kind, aside in zip(kinds, (-0.08, 0.08), strict=True):
        label, style = STYLES[kind]
        found = [
            (stages.index(row.variant.stages) + aside, row.error)
            for row in rows
            if row.variant.kind == kind
        ]
        if found:
            axes.plot(*np.transpose(found), linestyle="none", label=label, zorder=3, **style)
    axes.set_xticks(range(len(stages)), [", ".join(map(str, each)) or "all" for each in stages])
    axes.set(xlabel="stages without SE blocks", xlim=(-0.5, len(stages) - 0.5))


def _point(row):
    return row.cost.multiply_adds / 1e6, row.error
