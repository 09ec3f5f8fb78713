"""Boxes on images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_senet.extras import require
from keras_senet.plots.figures import new_figure, save

SHORTEST, LONGEST = 960, 1920  # pixels of the long side of a picture: labels are readable
# Of classes, one after another; readable as a line and as the ground of a label
COLOURS = (
    *("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#42d4f4", "#f032e6", "#bfef45"),
    *("#fabed4", "#469990"),
)
MARGIN = 0.6  # around boxes, over the longer side of all of them
FOUND, TRUE = (255, 77, 46), (0, 214, 143)  # of painted boxes: detections and objects


class LabelledBox(NamedTuple):
    """A box (x1, y1, x2, y2) in pixels of its image, with a text and the index of its colour."""

    box: Sequence[float]
    text: str
    colour: int


def boxes_on_image(image: np.ndarray, boxes: Sequence[LabelledBox], path: str | Path) -> None:
    """An image (H, W, C) of 0..255 with boxes, the first ones on top, and nothing around it.

    Small images are enlarged and large ones reduced, so that the texts are readable.
    """
    height, width = image.shape[:2]
    figure = new_figure(1, 1)
    long_side = min(max(height, width, SHORTEST), LONGEST) / figure.dpi
    sides = np.array([width, height]) * long_side / max(height, width)
    figure.set_size_inches(*np.maximum(sides, 0.5))
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    shown = image[..., 0] if image.shape[-1] == 1 else image
    axes.imshow(shown, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.apply_aspect()
    agg = require("matplotlib.backends.backend_agg", "train")
    renderer = agg.FigureCanvasAgg(figure).get_renderer()
    for each in reversed(boxes):
        _draw(axes, renderer, each)
    save(figure, path)


def _draw(axes, renderer, each: LabelledBox):
    """A line with a dark and a light edge, and a label at its upper left corner."""
    patches, effects = (require(f"matplotlib.{n}", "train") for n in ("patches", "patheffects"))
    x1, y1, x2, y2 = map(float, each.box)
    colour = COLOURS[each.colour % len(COLOURS)]
    line = patches.Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color=colour, linewidth=2)
    line.set_path_effects(
        [
            effects.Stroke(linewidth=4.5, foreground="white", alpha=0.7),
            effects.Stroke(linewidth=3.2, foreground="black"),
            effects.Normal(),
        ]
    )
    axes.add_patch(line)
    text = axes.text(
        *(x1, y1, each.text),
        fontsize=9,
        color="black" if _is_light(colour) else "white",
        va="bottom",
        bbox={"facecolor": colour, "edgecolor": "black", "linewidth": 0.6, "pad": 1.5},
        clip_on=True,
        parse_math=False,
    )
    _keep_within(axes, renderer, text)


def _keep_within(axes, renderer, text):
    """Moves a label that leaves the axes back into them, as far as it fits."""
    box, own = axes.get_window_extent(renderer), text.get_window_extent(renderer).padded(4)
    right = max(min(box.x1 - own.x1, 0.0), box.x0 - own.x0)
    up = max(min(box.y1 - own.y1, 0.0), box.y0 - own.y0)
    x, y = axes.transData.transform(text.get_position())
    text.set_position(axes.transData.inverted().transform((x + right, y + up)))


def _is_light(colour):
    """Whether black is more readable on a colour than white (WCAG 2's relative luminance)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return np.dot((0.2126, 0.7152, 0.0722), linear) > 0.179


def paint_box(image: np.ndarray, box: Any, colour: tuple[int, int, int]) -> np.ndarray:
    """A copy of an image uint8 (H, W, C) with a box (x1, y1, x2, y2): a line in its pixels that
    has a black edge inside, thicker on larger images.
    """
    painted = np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image.copy()
    height, width = painted.shape[:2]
    x1, y1, x2, y2 = np.round(np.asarray(box)).astype(int)
    line = max(1, round(max(height, width) / 90))
    for inset, value in ((0, colour), (line, (0, 0, 0)), (line + max(1, line // 2), None)):
        left, top = max(x1 + inset, 0), max(y1 + inset, 0)
        right, bottom = min(x2 - inset, width), min(y2 - inset, height)
        if right <= left or bottom <= top:
            break
        inner = painted[top:bottom, left:right]
        inner[...] = image[top:bottom, left:right] if value is None else value
    return painted


def crop_around(image: np.ndarray, boxes: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """The part of an image (H, W, C) around boxes, with a margin, and its corner (x, y)."""
    hull = np.array(boxes, "float32").reshape(-1, 4)
    x1, y1, x2, y2 = *hull[:, :2].min(axis=0), *hull[:, 2:].max(axis=0)
    height, width = image.shape[:2]
    side = max(x2 - x1, y2 - y1) * (1 + 2 * MARGIN)
    side = min(max(side, 48.0), max(height, width))
    left = int(np.clip((x1 + x2 - side) / 2, 0, max(width - side, 0)))
    top = int(np.clip((y1 + y2 - side) / 2, 0, max(height - side, 0)))
    end = int(np.ceil(side))
    return image[top : top + end, left : left + end], np.array([left, top])
