"""The measured rows of a comparison: `results/NAME.csv`."""

import csv
from pathlib import Path

from benchmarks.comparisons import COMPARISONS

FOLDER = Path(__file__).parent / "results"
COLUMNS = (
    # what
    *("network", "setting", "subject", "plain"),
    # measured: wall time of a call; (maximum - minimum) / median; the least CPU time; the peak of
    # the process, and how much of it came after the imports
    *("median_ms", "minimum_ms", "spread", "cpu_ms", "peak_mib", "after_imports_mib", "error"),
    # how, and beside what other work: the load average before, cores that others used during it
    *("rounds", "threads", "onednn", "load", "others"),
    # where and when
    *("cpu", "cores", "isa", "gpu", "versions", "date", "command"),
)


def read(name, folder=FOLDER):
    """The rows, values as text; none if it was not measured."""
    path = Path(folder, f"{name}.csv")
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(name, rows, folder=FOLDER):
    """Replaces the rows of the same network and setting on the same machine; keeps the others."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    rows = [{key: str(row.get(key, "")) for key in COLUMNS} for row in rows]
    new = {_place(row) for row in rows}
    kept = [row for row in read(name, folder) if _place(row) not in new]
    networks = [case.network for case in COMPARISONS[name].cases()]
    rows = sorted(kept + rows, key=lambda row: networks.index(row["network"]))
    path = Path(folder, f"{name}.csv")
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)


def _place(row):
    return tuple(row[key] for key in ("network", "setting", "cpu", "cores", "isa", "gpu"))
