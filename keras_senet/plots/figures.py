"""The one style of figures, and the one way to save them."""

from pathlib import Path
from typing import Any

from keras_senet.extras import require
from keras_senet.files import replacing


def new_figure(width: float, height: float) -> Any:
    """A matplotlib figure of a size in inches, for which no window system is needed."""
    figures = require("matplotlib.figure", "train")
    return figures.Figure(figsize=(width, height), layout="constrained", dpi=120)


def new_axes(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Any, Any]:
    """(a `new_figure`, its axes), as `figure.subplots` makes them with these options."""
    figure = new_figure(width, height)
    return figure, figure.subplots(rows, columns, **options)


def save(figure: Any, path: str | Path, title: str | None = None) -> None:
    """Writes a figure, under a title, to a file, by default a PNG, which has its old or its new
    content at any moment.

    Raises:
        OSError: if it cannot be written; names `path`.
    """
    path = Path(path)
    if title is not None:
        figure.suptitle(title)
    with replacing(path if path.suffix else path.with_suffix(".png")) as partial:
        figure.savefig(partial)
