"""Numbers and fields as the text of a page: the filters of its template."""

import math
from collections.abc import Callable
from typing import Any

from keras_senet.recipes.se_text import write_se
from keras_senet.se import SE


def _percent(fraction, decimals=2):
    """A fraction in percent; "–" for None."""
    return "–" if fraction is None else f"{100 * fraction:.{decimals}f}%"


def _number(value, form=".4f"):
    """ "–" for None and what is not finite."""
    return "–" if value is None or not math.isfinite(value) else f"{value:{form}}"


def _thousands(value):
    return "–" if value is None else f"{value:,.0f}"


def _short(value):
    """41.2 M, 272 k."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            form = ".3g" if value < 1000 * size else ",.0f"
            return f"{value / size:{form}} {unit}"
    return f"{value:,}"


def _size(count):
    if count is None:
        return "–"
    return f"{count / 2**20:,.1f} MiB" if count >= 2**20 else f"{count / 2**10:,.0f} KiB"


def _metric(value, name):
    if "accuracy" in name or "top" in name:
        return "–" if not math.isfinite(value) else _percent(value)
    return _number(value, ".3g" if name == "learning_rate" else ".4f")


def _density(fraction, right):
    """How dense a fraction's colour is, in percent: readable text, visible small mistakes."""
    return round(45 * fraction if right else 8 + 62 * fraction**0.5, 1)


def _value(value):
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or isinstance(value, SE):
        return write_se(value)
    if isinstance(value, (tuple, list)):
        return ", ".join(f"{v:g}" for v in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"


FILTERS: dict[str, Callable[..., Any]] = {
    "percent": _percent,
    "number": _number,
    "metric": _metric,
    "density": _density,
    "thousands": _thousands,
    "short": _short,
    "size": _size,
    "value": _value,
}
