"""Axes, ticks and curves, placed in percent of a chart's width and height: the page draws them at
any size.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from keras_senet.runs.tables import Row

DRAWN = 500  # points of a curve
DECADES = 5  # highest over lowest value from which an axis is logarithmic


class Tick(NamedTuple):
    """A mark of an axis: where (percent), and its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Axis:
    """Values `low`..`high` as 0..100 percent."""

    low: float
    high: float
    log: bool = False

    def place(self, value: float) -> float:
        """Where a value is, in percent."""
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return 100 * (value - low) / (high - low)

    def ticks(self, most: int = 8) -> list[Tick]:
        """Round values of the axis."""
        values = (
            _round_logarithms(self.low, self.high)
            if self.log
            else _round_values(self.low, self.high, most)
        )
        return [Tick(self.place(value), f"{value:g}") for value in values]


def _round_values(low, high, most):
    """Multiples of 1, 2 or 5 times a power of ten; `most` of them at most."""
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(
        step * factor for factor in (1, 2, 5, 10, 20) if (high - low) / (step * factor) < most
    )
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{n * step:.12g}") for n in range(first, last + 1)]


def _round_logarithms(low, high):
    """1, 2 and 5 times the powers of ten, or these alone where they are many."""
    factors = (1, 2, 5) if high / low < 1e3 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [float(f"{factor}e{power}") for power in powers for factor in factors]
    return [value for value in values if low * 0.999 <= value <= high * 1.001]


def value_axis(values: Sequence[float], *, may_be_log: bool = False) -> Axis:
    """An axis from 0 for finite values, or logarithmic if they differ by much and it may be."""
    low, high = min(values), max(values)
    if may_be_log and low > 0 and high / low >= DECADES:
        return Axis(low / 1.1, high * 1.1, log=True)
    low, high = min(low, 0.0), max(high, 0.0)
    return Axis(low, low + (high - low) * 1.05 if high > low else low + 1.0)


def epoch_axis(epochs: float) -> Axis:
    """From the first epoch to the last of `epochs`."""
    return Axis(1.0, float(epochs)) if epochs > 1 else Axis(0.0, 1.0)


class Curve(NamedTuple):
    """One line of a chart.

    name  "training", "test", ...
    style "training", which is dashed, or one of "curve0", "curve1", ...
    path  of an SVG in 0..100 each way
    end   where the last value is: (x, y)
    last  the text of that value, or of what else the chart's `summary` names
    texts of all the chart's points
    """

    name: str
    style: str
    path: str
    end: tuple[float, float]
    last: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Chart:
    """Curves over epochs, or over what else `axis` names.

    title   what is drawn
    axis    "epoch"
    unit    after numbers: "%" or ""
    at      where each point is, in percent of the width
    points  where it is on the axis: the epochs
    every   how many epochs lie between two points
    summary  of a curve: "At the end", or what else its `last` is
    """

    title: str
    axis: str
    summary: str
    unit: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    log: bool
    at: tuple[float, ...]
    points: tuple[float, ...]
    every: int
    curves: tuple[Curve, ...]

    @property
    def description(self) -> str:
        """The chart in words."""
        ends = ", ".join(f"{curve.name} {curve.last}{self.unit}" for curve in self.curves)
        scale = ", on a logarithmic scale" if self.log else ""
        return f"{self.title} by {self.axis}{scale}. {self.summary}: {ends}."

    @property
    def readout(self) -> str:
        """What the page's script shows of the point under the pointer, as JSON."""
        return json.dumps(
            {
                "axis": self.axis,
                "at": self.at,
                "points": self.points,
                "texts": [curve.texts for curve in self.curves],
            }
        )


class Style(NamedTuple):
    """How a chart's numbers are shown.

    unit      after them
    form      their format
    ticks     at most so many of values
    averages  whether each curve is summed up by its mean, in place of its last value
    """

    unit: str = ""
    form: str = ".3g"
    ticks: int = 6
    averages: bool = False


PLAIN = Style()


def thin(rows: Sequence[Row], most: int) -> tuple[list[Row], int]:
    """(at most so many of the rows, evenly, the last one among them; one of how many each is)."""
    every = math.ceil(len(rows) / most) if rows else 1
    return [row for i, row in enumerate(reversed(rows)) if i % every == 0][::-1], every


def line_chart(
    title: str,
    rows: Sequence[Row],
    curves: Mapping[str, Callable[[Row], float]],
    *,
    epochs: int,
    style: Style = PLAIN,
    may_be_log: bool = False,
) -> Chart | None:
    """The `Chart` of rows of metrics, or None if none of its curves has a value.

    Args:
        title: what is drawn.
        rows: with "epoch".
        curves: name -> a function from a row to a number, NaN where there is none.
        epochs: the end of the axis.
        style: of its numbers.
        may_be_log: whether the axis may be logarithmic.
    """
    rows, every = thin(rows, DRAWN)
    values = {name: [of(row) for row in rows] for name, of in curves.items()}
    values = {name: found for name, found in values.items() if any(map(math.isfinite, found))}
    if not values:
        return None
    x = epoch_axis(max(epochs, *(row["epoch"] for row in rows)))
    y = value_axis(
        [v for found in values.values() for v in found if math.isfinite(v)], may_be_log=may_be_log
    )
    points = [int(row["epoch"]) for row in rows]
    chart = make_chart(title, "epoch", points, values, (x, y), style)
    whole = [tick for tick in chart.x_ticks if tick.text.isdigit()]
    return dataclasses.replace(chart, x_ticks=whole, every=every)


def make_chart(
    title: str,
    axis: str,
    points: Sequence[float],
    values: Mapping[str, Sequence[float]],
    axes: tuple[Axis, Axis],
    style: Style = PLAIN,
) -> Chart:
    """The `Chart` of curves, of which each has a value, NaN where there is none, at each point of
    the horizontal axis. `axes` are the horizontal and the vertical one.
    """
    x, y = axes
    at = tuple(round(x.place(point), 2) for point in points)
    return Chart(
        title=title,
        axis=axis,
        summary="Average" if style.averages else "At the end",
        unit=style.unit,
        x_ticks=x.ticks(),
        y_ticks=y.ticks(style.ticks),
        log=y.log,
        at=at,
        points=tuple(points),
        every=1,
        curves=tuple(
            _make_curve(name if name == "training" else f"curve{i}", name, at, found, y, style)
            for i, (name, found) in enumerate(values.items())
        ),
    )


def _make_curve(kind, name, at, values, axis, style):
    """A straight line crosses epochs without a value, such as those that were not evaluated."""
    form = style.form
    points = [(x, value) for x, value in zip(at, values, strict=True) if math.isfinite(value)]
    places = [(x, round(100 - axis.place(value), 2)) for x, value in points]
    path = "M" + "L".join(f"{x:g} {y:g}" for x, y in places)
    texts = tuple(f"{value:{form}}" if math.isfinite(value) else "–" for value in values)
    mean = sum(value for _, value in points) / len(points)
    last = mean if style.averages else points[-1][1]
    return Curve(name, kind, path, places[-1], f"{last:{form}}", texts)
