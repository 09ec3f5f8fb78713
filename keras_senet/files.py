"""Reading and writing files: atomically, as CSV, and without waiting for pipes."""

import contextlib
import csv
import io
import os
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

RECIPE_FILE = "recipe.json"  # by which a training work directory is known
KEPT = 40  # characters of a file's name in that of what is being written


def read_bytes(path: str | os.PathLike, most: int = -1) -> bytes:
    """The content of a regular file, or its first `most` bytes.

    Raises:
        OSError: if it cannot be read, or is a pipe, a socket or a device, which might never end;
            names it.
    """
    # Without O_NONBLOCK, opening a pipe waits for a process that writes.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    kind = os.fstat(handle).st_mode
    if not stat.S_ISREG(kind):
        os.close(handle)
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(f"{printable(path)!r} is a folder, not a file")
        raise OSError(f"{printable(path)!r} is not a regular file")
    with os.fdopen(handle, "rb") as file:
        try:
            return file.read(most)
        except OSError as error:  # which does not name the file
            raise OSError(error.errno, error.strerror, printable(path)) from error


def printable(path: str | os.PathLike) -> str:
    """A path as text that can be written anywhere: bytes that are not UTF-8 become \\\\xff."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


@contextlib.contextmanager
def names_damage(path: str | os.PathLike, remedy: str = "") -> Iterator[None]:
    """Within, a file's content is parsed: what is wrong with it becomes a ValueError that names the
    file, and says what to do, where there is a `remedy`.
    """
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, csv.Error, RecursionError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        advice = f"; {remedy}" if remedy else ""
        raise ValueError(f"{printable(path)!r} is damaged ({reason}){advice}") from error


def check_folder(folder: Path, argument: str) -> None:
    """Raises OSError unless files can be written to a folder; creates nothing."""
    there = next(each for each in (folder, *folder.parents) if os.path.exists(each))
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return
    reason = "no permission for {!r}" if there.is_dir() else "{!r} is not a folder"
    raise OSError(f"{argument} cannot be written: {str(folder)!r} ({reason.format(str(there))})")


def check_replaceable(path: Path) -> None:
    """Raises OSError for a pipe or a device, which no file may replace."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(f"{str(path)!r} cannot be written: it is a pipe or a device, and no file")


def write_atomically(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes text or bytes so that the file has its old or its new content at any moment.

    Raises:
        OSError: if it cannot be written; names `path`.
    """
    with replacing(path) as partial:
        if isinstance(content, bytes):
            partial.write_bytes(content)
        else:
            partial.write_text(content, newline="")


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yields the path of a file to write, which then replaces `path`: whole, or not at all.

    Raises:
        OSError: if it cannot be written, such as when the disk is full; names `path`.
    """
    path = Path(path)
    check_replaceable(path)
    # The ending stays, because writers choose a format by it; not all of a name that is as long as
    # names may be. No other process has this name.
    partial = path.with_name(f".partial-{secrets.token_hex(4)}-{path.name[-KEPT:]}")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())  # a power cut, too, leaves the old or the new one
        os.replace(partial, path)
    except OSError as error:
        raise OSError(f"{str(path)!r} cannot be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def to_csv(
    rows: Sequence[Mapping],
    columns: Sequence[str] | None = None,
    *,
    header: bool = True,
    newline: str = "\r\n",
) -> str:
    """Mappings as CSV text, lines ending in "\\r\\n" (RFC 4180); None is an empty field.

    Args:
        rows: column -> value; at least one row unless `columns` are given.
        columns: their names in order; None takes those of the first row.
        header: whether the first line has the names of the columns.
        newline: what ends a line.
    """
    text = io.StringIO()
    writer = csv.DictWriter(
        text, list(rows[0]) if columns is None else columns, lineterminator=newline
    )
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
