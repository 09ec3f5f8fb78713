"""One picture per comparison, from its rows: bars, or lines over what a setting says."""

from pathlib import Path

import keras_senet_cli

keras_senet_cli.parsing = True  # figures need no Keras

from benchmarks import storage  # noqa: E402
from benchmarks.comparisons import COMPARISONS  # noqa: E402
from keras_senet.plots.figures import new_figure, save  # noqa: E402

LABELS = {
    "median_ms": "ms: median, and the least round",
    "minimum_ms": "ms: the least round",
    "peak_mib": "MiB",
}


def draw(name, folder=storage.FOLDER):
    """Writes NAME.png; nothing without a measured row."""
    comparison = COMPARISONS[name]
    rows = [row for row in storage.read(name, folder) if row[comparison.value]]
    if rows:
        make = _lines if comparison.axis else _bars
        figure = make(rows, comparison)
        figure.suptitle(comparison.measured)
        save(figure, Path(folder, f"{name}.png"))


def _group(rows, *keys):
    """Rows by the values of some columns, in their order."""
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def _machine(row, rows):
    """A row's processors, where the rows have several; else ""."""
    several = len({(each["cpu"], each["gpu"]) for each in rows}) > 1
    return ", ".join(filter(None, (row["cpu"], row["gpu"]))) if several else ""


def _lines(rows, comparison):
    figure = new_figure(6.4, 4.6)
    axes = figure.subplots()
    for (subject, _), own in _group(rows, "subject", "cpu").items():
        points = sorted(
            (_number(row["setting"], comparison.axis), float(row[comparison.value])) for row in own
        )
        label = ", ".join(filter(None, (subject, _machine(own[0], rows))))
        axes.plot(*zip(*points, strict=True), "o-", label=label)
    axes.set(xlabel=comparison.axis, ylabel=LABELS[comparison.value], ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _number(setting, axis):
    """16 of "batch 16, size 224"."""
    words = (part.rsplit(" ", 1) for part in setting.split(", "))
    return next(float(value) for name, value in words if name == axis)


def _bars(rows, comparison):
    """A panel for each network and setting: bars, lines from the least; plain networks are pale."""
    groups = _group(rows, "network", "setting", "cpu", "gpu")
    columns = 2 if len(groups) > 8 else 1
    lengths = [len(own) + 1.5 for own in groups.values()]
    heights = [max(lengths[i : i + columns]) for i in range(0, len(lengths), columns)]
    figure = new_figure(9 * columns, 0.8 + 0.27 * sum(heights))
    panels = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights).flat
    for (network, setting, *_), own in groups.items():
        axes = next(panels)
        values = [float(row[comparison.value]) for row in own]
        least = [float(row["minimum_ms"]) for row in own]
        colours = ["tab:red" if "keras_senet" in row["subject"] else "tab:blue" for row in own]
        bars = axes.barh(range(len(own)), values, color=colours)
        for bar, row in zip(bars, own, strict=True):
            bar.set_alpha(0.45 if row["plain"] else 0.9)
        if comparison.value == "median_ms":
            axes.plot(least, range(len(own)), "|", color="black", markersize=8)
        axes.set_yticks(range(len(own)), [row["subject"] for row in own])
        axes.set(ylim=(len(own) - 0.5, -0.5), xlim=(0, None))
        title = ", ".join(filter(None, (network, setting, _machine(own[0], rows))))
        axes.set_title(title, fontsize="medium", loc="left")
        axes.grid(axis="x", alpha=0.3)
    for axes in panels:
        axes.set_axis_off()  # beside the last one
    figure.supxlabel(LABELS[comparison.value], fontsize="medium")
    return figure
