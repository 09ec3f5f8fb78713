"""Training curves, precision by recall and mistakes of detectors."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_senet.plots.boxes import FOUND, TRUE, crop_around, paint_box
from keras_senet.plots.curves import label_epochs, points
from keras_senet.plots.figures import new_axes, save
from keras_senet.plots.images import image_grid
from keras_senet.runs.tables import Row

# Columns of a detection run's metrics, and what they are called
LOSSES = {
    "loss": "sum",
    "classifier_loss": "box head, classes",
    "box_loss": "box head, boxes",
    "objectness_loss": "proposals, objects",
    "proposal_loss": "proposals, boxes",
}
PRECISIONS = {"ap": "AP", "ap50": "AP50", "ap75": "AP75"}
THRESHOLDS = np.arange(50, 100, 5) / 100  # of the IoU
DRAWN = (0.5, 0.6, 0.7, 0.75, 0.8, 0.9)  # those with a curve
SHOWN_CLASSES = 10  # with more, the best five and the worst five
COLUMNS = 6  # of the page of mistakes
ENLARGED = 180  # pixels of a cropped mistake at least, so that lines do not cover it


def detection_curves(rows: Sequence[Row], path: str | Path, title: str) -> None:
    """The loss with its four parts and the average precision (0..1), of a run's metrics."""
    figure, (losses, precisions) = new_axes(9, 3.8, 1, 2)
    for axes, columns, marker in ((losses, LOSSES, ""), (precisions, PRECISIONS, "o")):
        for i, (name, label) in enumerate(columns.items()):
            found = points([row for row in rows if name in row], name, float)
            style = {"color": "black", "linewidth": 2} if name == "loss" else {"color": f"C{i}"}
            axes.plot(*found, "-", marker=marker, markersize=3, label=label, **style)
        label_epochs(axes)
        axes.legend(fontsize="small")
    losses.set(ylabel="loss", yscale="log")
    precisions.set(ylabel="average precision", ylim=(0, 1))
    save(figure, path, title)


def precision_recall(
    precision: np.ndarray, by_class: Mapping[str, float], path: str | Path, title: str
) -> None:
    """Precision by recall: on the left the mean over the classes, a line for each IoU threshold;
    on the right the classes at an IoU of 0.5.

    Args:
        precision: (10, 101, classes), NaN for classes without objects.
        by_class: AP by the name of the class, in the same order.
        path: a PNG file.
        title: of the figure.
    """
    figure, (means, classes) = new_axes(10, 4.4, 1, 2)
    recall = np.linspace(0, 1, precision.shape[1])
    known = known_classes(by_class)
    nothing = dict.fromkeys(DRAWN, np.zeros_like(recall))
    for threshold, mean in (mean_curves(precision, known) if known else nothing).items():
        colour = figure_colour((threshold - THRESHOLDS[0]) / (THRESHOLDS[-1] - THRESHOLDS[0]))
        label = f"IoU {threshold:.2f}: {mean.mean():.3f}"
        means.plot(recall, mean, color=colour, linewidth=1.8, label=label)
    means.set_title("mean over classes")
    names, averages = list(by_class), precision[0].mean(axis=0)
    half = SHOWN_CLASSES // 2
    is_cut = len(known) > SHOWN_CLASSES
    which = f"the best {half} and the worst {half} classes" if is_cut else "classes"
    classes.set_title(f"{which}, IoU 0.50")
    for i, k in enumerate(best_and_worst(precision, known, SHOWN_CLASSES)):
        label = f"{shorten(names[k])}: {averages[k]:.3f}"
        classes.plot(recall, precision[0][:, k], color=f"C{i}", linewidth=1.3, label=label)
    for axes in (means, classes):
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize="small", title="average", title_fontsize="small")
    save(figure, path, title)


def known_classes(by_class: Mapping[str, float]) -> list[int]:
    """The indices of the classes that have objects."""
    return [i for i, value in enumerate(by_class.values()) if math.isfinite(value)]


def mean_curves(precision: np.ndarray, classes: Sequence[int]) -> dict[float, np.ndarray]:
    """The mean over classes of the precision by recall, (101,), at the thresholds `DRAWN`."""
    return {
        threshold: precision[i][:, classes].mean(axis=1)
        for i, threshold in enumerate(THRESHOLDS.tolist())
        if threshold in DRAWN
    }


def best_and_worst(precision: np.ndarray, classes: Sequence[int], most: int) -> list[int]:
    """Classes by their average precision at an IoU of 0.5, the best first: of more than `most` the
    best half of so many, and the worst.
    """
    ranked = sorted(classes, key=lambda k: -precision[0][:, k].mean())
    half = most // 2
    return [*ranked[:half], *ranked[-half:]] if len(ranked) > most else ranked


def figure_colour(part: float) -> tuple[float, ...]:
    """Dark blue for 0 to orange for 1: readable on white."""
    colours = np.array([(0.05, 0.16, 0.45), (0.55, 0.13, 0.50), (0.93, 0.50, 0.14)])
    at = np.linspace(0, 1, len(colours))
    return tuple(float(np.interp(part, at, channel)) for channel in colours.T)


def shorten(name: str, most: int = 24) -> str:
    """A name of at most so many characters."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def confident_mistakes(
    mistakes: Sequence[Any],
    read: Callable[[int], np.ndarray],
    class_names: Sequence[str],
    path: str | Path,
    title: str,
) -> None:
    """The most confident mistakes: a row for each kind, with what was detected in red and the
    object in green.

    Args:
        mistakes: `Mistake`s, the most confident first.
        read: the index of an image -> uint8 (H, W, C).
        class_names: of the detector.
        path: a PNG file.
        title: of the figure.
    """
    kinds = dict.fromkeys(each.kind for each in mistakes)
    rows = []
    for kind in kinds:
        own = [each for each in mistakes if each.kind == kind]
        shown = [
            (crop_mistake(each, read(each.image)), describe_mistake(each, class_names))
            for each in own[:COLUMNS]
        ]
        rows.append((f"{kind}\n{len(own):,}", shown))
    image_grid(rows, path, title)


def crop_mistake(mistake: Any, image: np.ndarray) -> np.ndarray:
    """The part of the image around a `Mistake`, with the boxes of the object and the detection."""
    boxes = [each for each in (mistake.truth, mistake.box) if each is not None]
    part, (left, top) = crop_around(image, boxes)
    factor = math.ceil(ENLARGED / max(part.shape[:2]))
    part = part.repeat(factor, axis=0).repeat(factor, axis=1)
    for each, colour in ((mistake.truth, TRUE), (mistake.box, FOUND)):
        if each is not None:
            corners = (np.asarray(each) - (left, top, left, top)) * factor
            part = paint_box(part, corners, colour)
    return part


def describe_mistake(mistake: Any, class_names: Sequence[str]) -> str:
    """Two lines: what was detected, and what is there."""
    true = shorten(class_names[mistake.truth_label], 14) if mistake.truth is not None else ""
    if mistake.box is None:
        return f"{true}\nnot found"
    found = f"{shorten(class_names[mistake.label], 14)} {mistake.score:.2f}"
    if mistake.kind == "wrong class":
        return f"{found}\nis {true}"
    return f"{found}\n{f'IoU {mistake.overlap:.2f}' if true else 'on nothing'}"
