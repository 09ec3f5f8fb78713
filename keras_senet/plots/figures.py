"""The one style of figures, and the one way to save them."""

from pathlib import Path
from typing import Any

from keras_senet.extras import require
from keras_senet.files import replacing


def new_figure(width: float, height: float) -> Any:
    """A matplotlib figure of a size in inches, for which no window system is needed."""
    figures = require("matplotlib.figure", "train")
    return figures.Figure(figsize=(width, height), layout="constrained", dpi=120)


def save(figure: Any, path: str | Path) -> None:
    """Writes a figure to a file, by default a PNG, which has its old or its new content at any
    moment.

    Raises:
        OSError: if it cannot be written; names `path`.
    """
    path = Path(path)
    with replacing(path if path.suffix else path.with_suffix(".png")) as partial:
        figure.savefig(partial)
