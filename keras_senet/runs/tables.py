"""The tables of a run: `metrics.csv`, a row per epoch, and `skipped.csv`, its corrupt images."""

import csv
import io
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from keras_senet.files import names_damage, to_csv, write_atomically

Row = dict[str, float]


class Metrics:
    """The rows of a `metrics.csv`, in which a kill or a power cut may have cut the last line.

    Such a line is dropped, as part of a number is another number.
    """

    def __init__(self, path: Path):
        self.path = path

    def read(self) -> list[Row]:
        """The rows, numbers as float; none if the file is not there.

        Raises:
            ValueError: if the file is damaged.
        """
        with names_damage(self.path, "remove it, the run itself can go on"):
            table = csv.DictReader(io.StringIO(self._read_whole_lines(), newline=""), strict=True)
            if not {"step", "epoch"} <= set(table.fieldnames or ("step", "epoch")):
                raise ValueError("it has no columns 'step' and 'epoch'")
            return [{name: float(value) for name, value in row.items()} for row in table]

    def _read_whole_lines(self) -> str:
        """The text up to the end of its last whole line; a power cut may leave zeros after it."""
        content = self.path.read_bytes().rstrip(b"\0") if self.path.exists() else b""
        return content[: content.rfind(b"\n") + 1].decode()

    def append(self, row: Mapping[str, float]) -> None:
        """Adds a row; the first one writes the header.

        Where the rows have other columns, such as those of an earlier version, all get both.
        """
        rows = self.read()
        if rows and rows[0].keys() != row.keys():
            columns = dict.fromkeys([*rows[0], *row], math.nan)
            self.write([columns | dict(each) for each in (*rows, row)])
            return
        before = self._read_whole_lines()
        write_atomically(self.path, before + _format([row], header=not before))

    def write(self, rows: list[Row]) -> None:
        """Replaces all rows."""
        write_atomically(self.path, _format(rows))

    def drop_after(self, step: int) -> None:
        """Drops the rows of steps that a continued run repeats."""
        kept = [row for row in self.read() if row["step"] <= step]
        if kept:
            self.write(kept)
        else:
            self.path.unlink(missing_ok=True)


def _format(rows: Iterable[Mapping[str, float]], header: bool = True) -> str:
    whole = ("step", "epoch")
    return to_csv(
        [{name: int(v) if name in whole else v for name, v in row.items()} for row in rows],
        header=header,
    )


def rows_with(rows: Iterable[Row], name: str) -> list[Row]:
    """The rows that have a figure of this name."""
    return [row for row in rows if math.isfinite(row.get(name, math.nan))]


def best_by(rows: Iterable[Row], name: str) -> Row | None:
    """The first row of the highest figure of this name; None if no row has it."""
    return max(rows_with(rows, name), key=lambda row: row[name], default=None)


class SkippedImages:
    """A `skipped.csv`: the images that training leaves out, by index, each with file and reason."""

    def __init__(self, path: Path):
        self.path = path

    def read(self) -> dict[int, str]:
        """Index -> file and reason; nothing if the file is not there.

        Raises:
            ValueError: if the file is damaged.
        """
        if not self.path.exists():
            return {}
        with (
            names_damage(self.path, "remove it, the run can go on"),
            self.path.open(newline="") as file,
        ):
            return {int(row["index"]): row["reason"] for row in csv.DictReader(file)}

    def write(self, skipped: Mapping[int, str]) -> None:
        """Replaces the list."""
        rows = [{"index": index, "reason": reason} for index, reason in sorted(skipped.items())]
        write_atomically(self.path, to_csv(rows))
