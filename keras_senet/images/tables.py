"""CSV files of paths and labels: which image is of which split and class."""

import codecs
import csv
import io
import math
import os
from pathlib import Path
from typing import NamedTuple

from keras_senet.fields import list_some
from keras_senet.files import printable, read_bytes
from keras_senet.images.layout import SPLITS

ENDINGS = (".csv", ".tsv", ".txt")
DELIMITERS = ",;\t"
BEGINNING = 2**16  # bytes
SHOWN = 40  # characters of a name or a path in messages
COLUMNS = {
    "path": ("path", "file", "filename", "image"),
    "label": ("label", "class"),
    "split": ("split", "set", "subset"),
}


class Row(NamedTuple):
    """An image: its path as written, file, label, and "train", "val", "test" or else "all"."""

    path: str
    file: str
    label: str
    split: str


class Table:
    """A CSV file with the header path,label or path,label,split.

    The columns may also be called as `COLUMNS` says, in any capitals; others are ignored. Values
    are separated by commas, semicolons or tabs. Paths are relative to the file; splits are called
    as those of folders are. Classes are sorted, as numbers where all are.

    Raises:
        ValueError: if the file is not such a table, a row lacks its path or label, a path comes
            twice, a file is missing, or a split is unknown or has a class that "train" has not.
        OSError: if the file cannot be read.
    """

    def __init__(self, path: Path):
        self.path = path
        self.rows = self._read()
        there = {row.split for row in self.rows}
        self.splits = tuple(split for split in SPLITS if split in there)
        own = [row for row in self.rows if row.split == "train"] or self.rows
        self.class_names = sort_labels({row.label for row in own})
        unknown = sort_labels({row.label for row in self.rows} - set(self.class_names))
        if unknown:
            raise self._error(
                "must not have classes outside of 'train' that 'train' has not: "
                f"{', '.join(unknown[:5])}"
            )

    def rows_of(self, split: str) -> list[Row]:
        """Those of "train", "val" or "test", or "all" where there is no column of splits.

        Raises:
            ValueError: if there are none.
        """
        rows = [row for row in self.rows if row.split == split]
        if not rows:
            there = " and ".join(map(repr, self.splits))
            raise self._error(f"has no rows of {split!r}, only of {there}")
        return rows

    def _error(self, text):
        return ValueError(f"{printable(self.path)!r} {text}")

    def _read(self):
        try:
            # First the beginning: what is no text, such as an archive, may have gigabytes
            codecs.getincrementaldecoder("utf-8")().decode(read_bytes(self.path, BEGINNING))
            lines, columns = self._read_header(read_bytes(self.path).decode("utf-8-sig"))
            rows = [self._read_row(line, fields, columns) for line, fields in lines]
        except UnicodeDecodeError as error:
            reason = f"{error.reason} at byte {error.start}"
            raise self._error(f"must be a CSV file in UTF-8 ({reason})") from error
        except csv.Error as error:
            raise self._error(f"must be a CSV file ({error})") from error
        if not rows:
            raise self._error("has no rows, only a header")
        self._check_files(rows)
        return rows

    def _read_header(self, text):
        """(an iterator over (number of the line, fields), the places of the columns)."""
        names, header, columns = [text.strip()[:SHOWN]], [], {}
        for delimiter in DELIMITERS:
            reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
            try:
                first = next((fields for fields in reader if any(map(str.strip, fields))), [])
                header = [name.strip().lower() for name in first]
            except csv.Error:  # quotes that end before another delimiter
                continue
            names = names if len(names) > len(header) else header
            columns = {
                column: [i for i, name in enumerate(header) if name in accepted]
                for column, accepted in COLUMNS.items()
            }
            if columns["path"] and columns["label"]:
                break
        else:
            raise self._error(
                "must have a header with a column of paths "
                f"({', '.join(COLUMNS['path'])}) and one of labels "
                f"({', '.join(COLUMNS['label'])}). Received: {_describe_header(names)}"
            )
        for column, places in columns.items():
            if len(places) > 1:
                received = ", ".join(repr(header[i]) for i in places)
                raise self._error(f"must have one column of {column}s. Received: {received}")
        lines = ((reader.line_num, fields) for fields in reader if any(map(str.strip, fields)))
        return lines, (len(header), {name: at[0] for name, at in columns.items() if at})

    def _read_row(self, line, fields, columns):
        count, places = columns
        if len(fields) != count:
            raise self._error(f"must have {count} values in line {line}. Received: {len(fields)}")
        values = {name: fields[at].strip() for name, at in places.items()}
        for name in ("path", "label"):
            if not values[name]:
                raise self._error(f"has no {name} in line {line}")
        path = os.path.normpath(values["path"])
        return Row(
            path.replace(os.sep, "/"),
            os.path.join(self.path.parent, path),
            values["label"],
            self._read_split(values["split"], line) if "split" in values else "all",
        )

    def _read_split(self, text, line):
        found = next((key for key, names in SPLITS.items() if text.lower() in names), None)
        if found is None:
            accepted = ", ".join(name for names in SPLITS.values() for name in names)
            raise self._error(
                f"must have a split in line {line}, one of {accepted}. Received: {text!r}"
            )
        return found

    def _check_files(self, rows):
        seen = set()
        for row in rows:
            if row.file in seen:
                raise self._error(f"must have each path once. Received: {row.path!r} again")
            seen.add(row.file)
        missing = [row.file for row in rows if not os.path.isfile(row.file)]
        if missing:
            raise self._error(
                f"must name files that are there. Missing: {len(missing):,} of {len(rows):,}, "
                f"first {missing[0]!r}"
            )


def _describe_header(names):
    """The first names in a few words, whatever the file is."""
    return list_some([repr(name[:SHOWN])[1:-1] for name in names], 8) or "nothing"


def sort_labels(labels: set[str]) -> tuple[str, ...]:
    """The labels in order: as numbers where all are, else as texts."""
    try:
        numbers = {label: float(label) for label in labels}
        if all(map(math.isfinite, numbers.values())):
            return tuple(sorted(labels, key=lambda label: (numbers[label], label)))
    except ValueError:
        pass
    return tuple(sorted(labels))
