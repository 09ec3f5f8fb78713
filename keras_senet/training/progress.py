"""A progress bar: steps, loss, images/s, remaining time."""

import contextlib
import math
import sys
import time

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

REFRESH = 0.1  # seconds


class Progress(contextlib.AbstractContextManager):
    """Shows a run of `steps` steps, of which `first` are done; updates in place on a terminal."""

    def __init__(self, steps: int, first: int, batch_size: int, visible: bool = True):
        self.batch_size = batch_size
        self.visible = visible
        self.done, self.loss, self.shown_at = first, 0.0, -math.inf
        self.bar = RichProgress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TextColumn("{task.fields[throughput]:.0f} images/s"),
            TimeElapsedColumn(),
            TextColumn("remaining"),
            TimeRemainingColumn(),
            disable=not visible,
        )
        self.task = self.bar.add_task(
            "training", total=steps, completed=first, loss=0.0, throughput=0.0
        )

    def __enter__(self):
        self.bar.start()
        return self

    def __exit__(self, *exception):
        self._show()
        self.bar.stop()

    def advance(self, loss: float) -> None:
        """Adds a step, with the loss that was last read: reading one would wait for the device."""
        self.done, self.loss = self.done + 1, loss
        if time.monotonic() - self.shown_at > REFRESH:  # it costs more than a fast step may
            self._show()

    def _show(self):
        self.shown_at = time.monotonic()
        throughput = (self.bar.tasks[0].speed or 0.0) * self.batch_size
        self.bar.update(self.task, completed=self.done, throughput=throughput, loss=self.loss)

    def say(self, text: str) -> None:
        """Prints a line above the bar."""
        if self.visible:
            self.bar.console.print(text, highlight=False)

    def tell(self, text: str) -> None:
        """Prints a line above the bar, or without a bar to the error stream."""
        if self.visible:
            self.say(text)
        else:
            print(text, file=sys.stderr)
