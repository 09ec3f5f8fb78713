"""What commands say of images, one row per image: as a table, as JSON or as a CSV file."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_senet.cli.tables import console, print_left_out, show_json
from keras_senet.files import check_folder, check_replaceable, to_csv, write_atomically


def check_csv(path: str | None) -> None:
    """Raises OSError unless --csv can be written: before the long work."""
    if path is None:
        return
    if Path(path).is_dir():
        raise OSError(f"--csv must be a file, and is a folder: {path!r}")
    check_replaceable(Path(path))
    check_folder(Path(path).parent, "--csv")
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(f"The folder of --csv {path!r} does not exist")


def report(
    options: Any,
    rows: Sequence[Any],
    columns: Sequence[str],
    *,
    to_lines: Callable[[Any], Iterable[Mapping[str, Any]]],
    to_json: Callable[[Any], Any],
    show: Callable[[Sequence[Any]], None],
) -> None:
    """Prints or writes rows; what was left out is named.

    Args:
        options: with `csv`, `json` and `skip_corrupt`.
        rows: of all images, each with its name `image`, and why it cannot be used: `error`, or "".
        columns: of the CSV file.
        to_lines: a row without an error -> the lines of the CSV file.
        to_json: such a row -> what JSON has of it.
        show: prints rows as a table.

    Raises:
        ValueError: if images cannot be used, and are not to be left out.
    """
    bad = [row for row in rows if row.error]
    if options.skip_corrupt:
        rows = [row for row in rows if not row.error]
        print_left_out(row.image for row in bad)
    elif bad and len(bad) == len(rows):
        raise ValueError(_describe(bad))
    if options.csv:
        lines: list[Mapping[str, Any]] = []
        for row in rows:
            lines += [_name_error(row)] if row.error else to_lines(row)
        write_atomically(options.csv, to_csv(lines, columns))
        console.print(f"{options.csv}: {len(rows):,} images")
    if options.json:
        show_json([_name_error(row) if row.error else to_json(row) for row in rows])
    elif not options.csv:
        show(rows)
    if bad and not options.skip_corrupt:
        raise ValueError(f"{_describe(bad)}. --skip-corrupt leaves out such images")


def _name_error(row):
    return {"image": row.image, "error": row.error}


def _describe(bad):
    more = f", and {len(bad) - 1:,} more" if len(bad) > 1 else ""
    return f"{bad[0].image!r} cannot be used: {bad[0].error}{more}"
