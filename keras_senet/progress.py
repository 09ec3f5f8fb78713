"""Progress bars of long work, on the error stream."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from keras_senet_cli import quiet

if TYPE_CHECKING:
    from rich.console import Console


def track(
    steps: Any, progress: bool | Console, description: str, total: int | None = None
) -> Iterable[Any]:
    """The steps, with a bar to `total`: on a terminal if `progress`, or on the console it is."""
    from rich.console import Console
    from rich.progress import track as track_on

    console = progress if isinstance(progress, Console) else Console(stderr=True)
    visible = progress and console.is_terminal
    total = len(steps) if total is None else total
    return track_on(steps, description, total, console=console, transient=True, disable=not visible)


@contextlib.contextmanager
def quiet_console() -> Iterator[Console]:
    """A console on the error stream, which TensorFlow's messages are held back from: it writes of
    each image that it cannot decode.
    """
    from rich.console import Console

    with open(os.dup(2), "w") as errors, quiet():
        yield Console(file=errors)
