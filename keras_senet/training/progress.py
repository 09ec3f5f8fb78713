"""A progress bar: steps, loss, images a second, remaining time."""

import contextlib

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress


class Progress(contextlib.AbstractContextManager):
    """Shows a run of `steps` steps, of which `first` are done; on a terminal it updates in place."""

    def __init__(self, steps, first, batch_size, visible=True):
        self.batch_size = batch_size
        self.visible = visible
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
        self.task = self.bar.add_task("training", total=steps, completed=first, loss=0.0, throughput=0.0)

    def __enter__(self):
        self.bar.start()
        return self

    def __exit__(self, *exception):
        self.bar.stop()

    def advance(self, totals):
        """One step more; reads the loss only now and then, as that waits for the device."""
        task = self.bar.tasks[0]
        fields = {"loss": totals.loss} if totals.steps % 10 == 1 else {}
        self.bar.update(self.task, advance=1, throughput=(task.speed or 0.0) * self.batch_size, **fields)

    def note(self, row):
        """A line above the bar for the end of an epoch."""
        if not self.visible:
            return
        self.bar.console.print(
            f"epoch {row['epoch']}: loss {row['loss']:.4f}, accuracy {100 * row['accuracy']:.2f}%; "
            f"test loss {row['test_loss']:.4f}, test accuracy {100 * row['test_accuracy']:.2f}%",
            highlight=False,
        )
