"""Pictures of a run, as PNG files."""

from keras_senet.extras import require
from keras_senet.runs.splits import WORDS, chosen_on


def _figure(width, height, columns=1):
    """A figure that no window system is needed for."""
    figure = require("matplotlib.figure", "train").Figure(
        figsize=(width, height), layout="constrained", dpi=120
    )
    return figure, figure.subplots(1, columns)


def training_curves(rows, path, title):
    """Loss and error (%) by epoch of one run, training dashed, validation or test solid as in the
    paper's Figure 4.
    """
    split = chosen_on(rows)
    figure, (losses, errors) = _figure(9, 3.6, columns=2)
    for axes, name, scale in (
        (losses, "loss", lambda v: v),
        (errors, "accuracy", lambda v: 100 * (1 - v)),
    ):
        axes.plot(*_points(rows, name, scale), "--", color="tab:blue", label="training")
        axes.plot(
            *_points(rows, f"{split}_{name}", scale), "-", color="tab:red", label=WORDS[split]
        )
        _epochs(axes)
    losses.set(ylabel="cross-entropy", yscale="log")
    errors.set(ylabel="top-1 error (%)", ylim=(0, None))
    losses.legend()
    figure.suptitle(title)
    figure.savefig(path)


def compared_curves(runs, path, title):
    """Top-1 error (%) by epoch of several runs, training dashed, validation or test solid as in the
    paper's Figure 4.

    Args:
        runs: label -> a list of runs' rows, such as one a seed, which have one colour.
        path: a PNG file.
        title: of the picture.
    """
    figure, axes = _figure(6.4, 4.6)
    for i, (label, seeds) in enumerate(runs.items()):
        for j, rows in enumerate(seeds):
            split = chosen_on(rows)
            names = (f"{label}, training", f"{label}, {WORDS[split]}") if j == 0 else (None, None)
            axes.plot(*_error(rows, ""), "--", color=f"C{i}", alpha=0.6, label=names[0])
            axes.plot(*_error(rows, f"{split}_"), "-", color=f"C{i}", label=names[1])
    _epochs(axes)
    axes.set(ylabel="top-1 error (%)", title=title, ylim=(0, None))
    axes.legend()
    figure.savefig(path)


def _error(rows, prefix):
    return _points(rows, f"{prefix}accuracy", lambda value: 100 * (1 - value))


def _points(rows, name, scale):
    """Epochs and values, where there is a value."""
    found = [(row["epoch"], scale(row[name])) for row in rows if row[name] == row[name]]
    return [epoch for epoch, _ in found], [value for _, value in found]


def _epochs(axes):
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.3)
    axes.xaxis.get_major_locator().set_params(integer=True)


NUMBERED = 20  # classes: with more there is no room for counts in the cells
NAMED = 100  # classes: with more there is none for their names


def confusion_matrix(counts, class_names, path, title):
    """Counts by true and predicted class; right answers in grey tones, wrong ones in red.

    With more than 20 classes darker means a larger part of the true class' images, in place of
    numbers.
    """
    classes = len(class_names)
    side = 6 if classes <= NUMBERED else 11
    figure, axes = _figure(side, side - 0.4)
    (_draw_counts if classes <= NUMBERED else _draw_parts)(axes, counts)
    wrong, total = counts.sum() - counts.trace(), counts.sum()
    axes.set(xlabel="predicted", ylabel="true", title=f"{title}: {wrong:,} of {total:,} wrong")
    if classes <= NAMED:
        font = "medium" if classes <= NUMBERED else "xx-small"
        turned = "vertical" if max(map(len, class_names)) > 2 else "horizontal"
        axes.set_xticks(range(classes), class_names, rotation=turned, fontsize=font)
        axes.set_yticks(range(classes), class_names, fontsize=font)
    figure.savefig(path)


def _draw_counts(axes, counts):
    """Each count in its cell."""
    axes.imshow(counts, cmap="Greys", vmax=2 * max(counts.max(), 1))
    for i, j in zip(*counts.nonzero(), strict=True):
        style = {"color": "black"} if i == j else {"color": "tab:red", "weight": "bold"}
        axes.text(j, i, counts[i, j], ha="center", va="center", **style)


def _draw_parts(axes, counts):
    """A square for each count, dark by its part of the row; of at least three pixels, as a cell may
    have one.
    """
    classes = len(counts)
    pixels = max(3.0, 0.85 * axes.figure.get_figwidth() * axes.figure.dpi / classes)
    area = (72 / axes.figure.dpi * pixels) ** 2  # in square points
    true, predicted = counts.nonzero()
    parts = counts[true, predicted] / counts.sum(axis=1)[true]
    right = true == predicted
    for chosen, colours in ((~right, "Reds"), (right, "Greys")):
        order = parts[chosen].argsort()  # the darkest on top
        where = predicted[chosen][order], true[chosen][order]
        shades = 0.25 + 0.6 * parts[chosen][order] ** 0.5
        axes.scatter(
            *where, s=area, c=shades, cmap=colours, vmin=0, vmax=1, marker="s", linewidths=0
        )
    axes.set(xlim=(-0.5, classes - 0.5), ylim=(classes - 0.5, -0.5), aspect="equal")


def ablation(rows, path, title):
    """Test errors (%) of variants: a dot a run, a line at their mean; beside them those of the
    paper.

    Args:
        rows: `Row`s of `keras_senet.analysis.ablation`.
        path: a PNG file.
        title: of the picture.
    """
    figure, (ours, papers) = _figure(9.5, 1.2 + 0.34 * len(rows), columns=2)
    names = [row.variant.name for row in rows]
    base = next((row for row in rows if row.variant.name == "se"), None)
    for place, row in enumerate(rows):
        colour = "tab:red" if row is base else "tab:blue"
        ours.plot(
            [run.test_error for run in row.runs],
            [place] * len(row.runs),
            "o",
            color=colour,
            alpha=0.6,
        )
        if row.runs:
            ours.plot(row.mean, place, "|", color=colour, markersize=16, markeredgewidth=2)
        if row.variant.paper is not None:
            papers.plot(row.variant.paper, place, "D", color=colour)
    for axes, mean in (
        (ours, base.mean if base else None),
        (papers, base.variant.paper if base else None),
    ):
        axes.set_yticks(range(len(names)), names)
        axes.set(ylim=(len(names) - 0.5, -0.5))
        axes.grid(axis="x", alpha=0.3)
        if mean is not None:
            axes.axvline(mean, color="tab:red", linewidth=0.8, alpha=0.6)
    ours.set(xlabel="test error (%): runs, and their mean")
    papers.set(xlabel="paper: SE-ResNet-50, ImageNet, top-1 error (%)")
    figure.suptitle(title)
    figure.savefig(path)
