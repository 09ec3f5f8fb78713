"""Gates of SE blocks: the figures of the paper's "Role of Excitation", and one by depth."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_senet.graphs import stage_of
from keras_senet.imagenet import readable
from keras_senet.plots.figures import new_axes, save

CHANNELS = 50  # drawn of a block, evenly sampled, as in the paper
PANELS = 12  # blocks that all fit into a figure


def excited_classes(result: Any, classes: Sequence[int], path: str | Path, title: str) -> None:
    """The mean gates of some classes and, in black, of all images: a panel per block, as in the
    paper.

    Args:
        result: `Excitations`.
        classes: rows of its classes.
        path: a PNG file.
        title: of the figure.
    """
    names = readable(result.class_names)

    def draw(axes, block, shown):
        for i, k in enumerate(classes):
            axes.plot(shown, block.class_means[k][shown], color=f"C{i}", lw=1.1, label=names[k])
        axes.plot(shown, block.mean[shown], color="black", lw=1.8, label="all classes")

    _draw_panels(result, draw, path, title)


def excited_instances(result: Any, classes: Sequence[int], path: str | Path, title: str) -> None:
    """The mean gates of some classes, with a standard deviation within the class to both sides: a
    panel per block. Arguments as for `excited_classes`.
    """
    names = readable(result.class_names)

    def draw(axes, block, shown):
        for i, k in enumerate(classes):
            mean, std = block.class_means[k][shown], block.class_stds[k][shown]
            label = f"{names[k]}: mean ± standard deviation"
            axes.plot(shown, mean, color=f"C{i}", lw=1.3, label=label)
            axes.fill_between(shown, mean - std, mean + std, color=f"C{i}", alpha=0.2, lw=0)

    _draw_panels(result, draw, path, title)


def choose_blocks(names: Sequence[str]) -> list[str]:
    """The blocks that are drawn: all up to 12; of more, the last of each stage, and of the last
    stage the last three.

    For SE-ResNet-50 these are the paper's: SE_2_3, SE_3_4, SE_4_6, SE_5_1, SE_5_2, SE_5_3.
    """
    if len(names) <= PANELS:
        return list(names)
    stages = [list(blocks) for _, blocks in itertools.groupby(names, stage_of)]
    return [*(blocks[-1] for blocks in stages[:-1]), *stages[-1][-3:]][-PANELS:]


def _draw_panels(result, draw, path, title):
    """A panel per block, in which `draw(axes, block, indices of channels)` draws lines."""
    names = choose_blocks(list(result.blocks))
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    size = max(4.2 * columns, 5), 2.7 * rows + 1
    figure, grid = new_axes(*size, rows, columns, squeeze=False)
    panels = grid.flatten()
    for empty in panels[len(names) :]:
        empty.remove()
    for name, axes in zip(names, panels, strict=False):
        block = result.blocks[name]
        channels = len(block.mean)
        shown = np.linspace(0, channels - 1, min(CHANNELS, channels)).round().astype(int)
        axes.set(title=name, xlabel="channel", ylabel="gate")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        draw(axes, block, shown)
        _include_0_to_1(axes)
    lines = panels[0].lines
    # Given one by one, labels that begin with "_" are in the legend, too.
    labels = [line.get_label() for line in lines]
    columns = 5 if max(map(len, labels)) < 20 else 2
    figure.legend(lines, labels, loc="outside lower center", ncols=min(columns, len(labels)))
    save(figure, path, title)


def _include_0_to_1(axes):
    """Extends the limits of the vertical axis to 0..1, the range of a sigmoid."""
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -0.03), max(high, 1.03))


def overview(rows: Sequence[Any], path: str | Path, title: str) -> None:
    """The `BlockStatistics` by depth: mean gate, specificity, saturation, redundancy."""
    figure, panels = new_axes(max(7.0, 2.5 + 0.35 * len(rows)), 11.5, 5, 1, sharex=True)
    means, specificities, saturation, constancy, redundancy = panels
    x = np.arange(len(rows))
    means.errorbar(
        x, _field(rows, "mean"), _field(rows, "std"), fmt="o-", capsize=3, label=DRAWN["mean"]
    )
    for axes, field, colour in (
        (specificities, "specificity", "C1"),
        (saturation, "closed", "C3"),
        (saturation, "opened", "C2"),
        (constancy, "constant", "C5"),
        (redundancy, "from_identity", "C4"),
        (redundancy, "variation", "C0"),
    ):
        axes.plot(x, _field(rows, field), "o-", color=colour, label=DRAWN[field])
    for axes, name in zip(panels, PANEL_NAMES, strict=True):
        axes.set(ylabel=name, xlim=(-0.5, len(rows) - 0.5))
        _include_0_to_1(axes)
        _shade_stages(axes, rows)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", loc="best")
    redundancy.set_xticks(x, [row.block for row in rows], rotation="vertical", fontsize="small")
    save(figure, path, title)


PANEL_NAMES = ("gate", "specificity", "fraction of gates", "fraction of channels", "difference")
DRAWN = {
    "mean": "mean, and standard deviation of a gate over images",
    "specificity": "fraction of the gates' variance that is between classes",
    "closed": "gates of a magnitude below 0.1",
    "opened": "gates of a magnitude above 0.9",
    "constant": "channels whose gate hardly changes (standard deviation < 0.01)",
    "from_identity": "from a gate of 1: mean |gate - 1|",
    "variation": "from one constant gate per channel, relative to the gates",
}


def _field(rows, name):
    """A field of all rows; NaN, of which nothing is drawn, where it is None."""
    return np.array([getattr(row, name) for row in rows], "float64")


def _shade_stages(axes, rows):
    at = 0
    for i, (_, blocks) in enumerate(itertools.groupby(rows, lambda row: stage_of(row.block))):
        count = len(list(blocks))
        if i % 2:
            axes.axvspan(at - 0.5, at + count - 0.5, color="grey", alpha=0.12, lw=0)
        at += count
