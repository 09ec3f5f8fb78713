"""What commands print."""

import contextlib
import json
import shlex
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from keras_senet.files import printable
from keras_senet.progress import quiet_console, track

# Names of files and of classes are printed as they are, and not read as rich's markup.
PLAIN: Any = {"markup": False, "emoji": False, "highlight": False}
console = Console(**PLAIN)
WIDEST = 1000  # characters


def status(text: str) -> Status:
    """Shows a text while the block within lasts, if this is a terminal."""
    return console.status(Text(printable(text)))


def shell_command(*words: object) -> str:
    """A `keras-senet` command, quoted for a shell."""
    return shlex.join(["keras-senet", *map(str, words)])


def say(text: str) -> None:
    """Prints a line that is neither wrapped nor coloured."""
    console.print(text, soft_wrap=True)


def collect(steps: Iterable, is_shown: bool, total: int, text: str = "Working...") -> list[Any]:
    """What the steps make, with a progress bar on a terminal, if it is to be shown."""
    with quiet_console() as errors:
        return list(track(steps, is_shown and errors, text, total))


def print_left_out(names: Iterable[str]) -> None:
    """Prints the names of images that are left out, if there are any."""
    if names := ", ".join(names):
        console.print(f"left out, as they cannot be used: {names}")


def make_table(title: str, *columns: str, rows: Iterable[Iterable[str]] = ()) -> Table:
    """A table of rows of cells, whose columns after the first are numbers."""
    table = Table(*columns, title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    for cells in rows:
        table.add_row(*cells)
    return table


def show(table: Table) -> None:
    """Prints a table at its own width: a narrower terminal wraps it, and nothing is cut."""
    own = console.measure(table, options=console.options.update(max_width=WIDEST)).maximum
    Console(width=max(own, console.width), **PLAIN).print(table)


@contextlib.contextmanager
def messages_aside(aside: bool) -> Iterator[None]:
    """Within, `console` prints to the error stream, if asked: the output is for another program."""
    console.stderr = aside
    try:
        yield
    finally:
        console.stderr = False


def show_json(content: Any) -> None:
    """Prints JSON that other programs read: never wrapped or coloured."""
    print(json.dumps(content, indent=2))
