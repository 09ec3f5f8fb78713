"""The loss of a range test of the learning rate."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_senet.plots.figures import new_axes, save


def rate_curve(
    rates: Sequence[float] | Any,
    losses: Sequence[float] | Any,
    smoothed: Sequence[float] | Any,
    suggestion: float | None,
    path: str | Path,
    title: str,
) -> None:
    """The loss of each step over its rate, the smoothed loss, and a line at the suggestion."""
    figure, axes = new_axes(6.4, 4)
    axes.plot(rates, losses, ".", color="tab:blue", alpha=0.35, label="loss of a batch")
    axes.plot(rates, smoothed, "-", color="tab:blue", label="smoothed")
    if suggestion is not None:
        label = f"falls fastest: {suggestion:.2g}"
        axes.axvline(suggestion, color="tab:red", linestyle="--", label=label)
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, path)
