"""Images of a dataset, and their sizes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_senet.plots.figures import new_axes, save

INCHES = 1.35  # of the side of an image


def image_grid(
    rows: Sequence[tuple[str, Sequence[tuple[np.ndarray, str]]]], path: str | Path, title: str
) -> None:
    """Rows (name, images (H, W, C) of 0..255 with captions)."""
    columns = max(len(images) for _, images in rows)
    lines = max(text.count("\n") + bool(text) for _, images in rows for _, text in images)
    height = INCHES + 0.17 * lines
    size = columns * INCHES + 1, len(rows) * height + 0.4
    figure, grid = new_axes(*size, len(rows), columns, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for line, (name, images) in zip(grid, rows, strict=True):
        for axes, (image, text) in zip(line, images, strict=False):
            shown = image[..., 0] if image.shape[-1] == 1 else image
            axes.imshow(shown, cmap="gray", vmin=0, vmax=255)
            axes.set_title(text, fontsize="x-small", pad=2)
        line[0].set_anchor("W")  # next to its name
        line[0].text(
            *(-0.08, 0.5, name),
            transform=line[0].transAxes,
            ha="right",
            va="center",
        )
    save(figure, path, title)


def image_sizes(sizes: Sequence[tuple[int, int]], path: str | Path, title: str) -> None:
    """How often each (width, height) occurs; the distribution of short sides and aspect ratios."""
    pairs, counts = np.unique(np.array(sizes), axis=0, return_counts=True)
    width, height = np.array(sizes).T
    figure, (places, short, ratio) = new_axes(11, 3.8, 1, 3)
    area = 12 + 150 * np.sqrt(counts / counts.max())
    places.scatter(*pairs.T, s=area, alpha=0.45, linewidths=0)
    largest = pairs.max()
    places.plot((0, largest), (0, largest), color="grey", linewidth=0.8, linestyle=":")
    places.set(xlabel="width", ylabel="height", xlim=(0, None), ylim=(0, None))
    short.hist(np.minimum(width, height), 40)
    short.xaxis.get_major_locator().set_params(integer=True)
    short.set(xlabel="short side (pixels)", ylabel="images")
    ratio.hist(np.log2(width / height), 40)
    most = max(1, np.ceil(np.abs(np.log2(width / height)).max()))
    ticks = [t for t in range(-5, 6) if abs(t) <= most]
    ratio.set_xticks(ticks, [f"{2.0**t:g}" for t in ticks])
    ratio.set(xlabel="width / height", ylabel="images")
    for axes in (places, short, ratio):
        axes.grid(alpha=0.3)
    kinds = "one size" if len(pairs) == 1 else f"{len(pairs):,} sizes"
    save(figure, path, f"{title}: {len(sizes):,} images of {kinds}")
