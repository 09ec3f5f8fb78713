"""TensorBoard's event files."""

import contextlib
from pathlib import Path
from typing import Any

from keras_senet.extras import require
from keras_senet.runs.tables import Row


class TensorBoard(contextlib.AbstractContextManager):
    """Writes rows of metrics to event files in `folder`, a curve per metric; None: nothing."""

    def __init__(self, folder: Path | None):
        self.writer: Any = None
        if folder is not None:
            self.writer = require("tensorboard.summary", "train").Writer(str(folder))

    def write(self, row: Row) -> None:
        """Adds a point to the curve of each metric."""
        if self.writer is None:
            return
        for name, value in row.items():
            if name != "step":
                self.writer.add_scalar(name, value, step=int(row["step"]))
        self.writer.flush()

    def __exit__(self, *exception):
        if self.writer is not None:
            self.writer.close()
