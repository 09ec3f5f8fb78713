"""Loss and figures of an epoch so far."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class Outcome:
    """What a step returns: float32 values, which may still be computed. Whoever reads one waits for
    the device, once.

    values  the mean loss, figures of these names, whether the step failed, whether a process is to
            stop
    """

    def __init__(self, names: Sequence[str], values: Any):
        self.names, self.values = names, values

    @functools.cached_property
    def _read(self):
        return np.asarray(self.values).tolist()

    @property
    def loss(self) -> float:
        """The mean loss."""
        return self._read[0]

    @property
    def figures(self) -> dict[str, float]:
        """Those of the objective, by name."""
        return dict(zip(self.names, self._read[1:-2], strict=True))

    @property
    def failed(self) -> bool:
        """Whether the loss or the gradient was not finite."""
        return bool(self._read[-2])

    @property
    def stop(self) -> bool:
        """Whether a process is to stop."""
        return bool(self._read[-1])


class Totals:
    """Sums of the epoch so far, "loss" and figures by name; only `read` waits for the device."""

    def __init__(self, sums: Mapping[str, float]):
        self.sums, self.last_loss, self.stop = dict(sums), 0.0, False
        self._unread: list[tuple[int, Outcome]] = []

    def add(self, step: int, outcome: Outcome) -> None:
        """Keeps the outcome of a step, which may still be computed."""
        self._unread.append((step, outcome))

    def read(self) -> int | None:
        """Adds up the outcomes since the last call; returns the first step that failed, or None."""
        unread, self._unread = self._unread, []
        for step, outcome in unread:
            self.last_loss = outcome.loss
            if outcome.failed:
                return step
            self.sums["loss"] += self.last_loss
            for name, value in outcome.figures.items():
                self.sums[name] += value
            self.stop = self.stop or outcome.stop
        return None
