"""What people watch: TensorBoard's event files."""

import contextlib

from keras_senet.extras import require


class TensorBoard(contextlib.AbstractContextManager):
    """Writes rows of metrics to event files in `folder`, one curve a metric; nothing if `folder` is
    None.
    """

    def __init__(self, folder):
        self.writer = (
            None if folder is None else require("tensorboard.summary", "train").Writer(str(folder))
        )

    def write(self, row):
        if self.writer is None:
            return
        for name, value in row.items():
            if name != "step":
                self.writer.add_scalar(name, value, step=int(row["step"]))
        self.writer.flush()

    def __exit__(self, *exception):
        if self.writer is not None:
            self.writer.close()
