"""The tables of networks: `keras_senet/networks.csv`, made from what is built,
`keras_senet/latency.csv`, from what `python -m benchmarks exported` measured, and README.md's.

`python tests/network_table.py` writes them: after a network was added or changed, or measured.
"""

import csv
import dataclasses
import re
from pathlib import Path

from keras_senet import models, networks, zoo
from keras_senet.complexity import complexity
from keras_senet.files import to_csv
from keras_senet.graphs import stages_of
from keras_senet.initializers import shapes_only

TABLE = Path(networks.__file__).with_name("networks.csv")
OF_THE_PAPER = [f for f in networks.NetworkRow._fields if f.startswith("paper")]  # typed by hand


ROOT = Path(__file__).parents[1]
LATENCIES = TABLE.with_name("latency.csv")
MEASURED = ROOT / "benchmarks" / "results" / "exported.csv"
IN_README = re.compile("(?<=<!-- zoo -->\n).*(?=<!-- /zoo -->)", re.DOTALL)
README_COLUMNS = ("name", "parameters", "multiply_adds", "paper_top1", "checkpoints")


def count(constructor, se):
    """The `Complexity` of a network of its own size with these SE blocks; its weights get no
    values.
    """
    with shapes_only():
        spec = dataclasses.replace(constructor.spec, se=se)
        return complexity(constructor.variant(spec)(weights=None))


def row(name, counts, plain):
    """A network's row of the table, by the counts with and without SE blocks."""
    constructor, paper = getattr(models, name), networks.read_table().get(name)
    with shapes_only():
        stages = stages_of(constructor(weights=None))
    return networks.NetworkRow(
        name,
        constructor.input_size,
        constructor.classes,
        len(getattr(constructor.spec, "depths", ())),
        tuple(sorted({stage for stage in stages.values() if stage is not None})),
        counts.parameters,
        counts.multiply_adds,
        counts.multiply_adds_with_rescaling,
        plain.multiply_adds,
        plain.parameters,
        *(paper[-len(OF_THE_PAPER) :] if paper else [None] * len(OF_THE_PAPER)),
    )


def write_networks():
    """`networks.csv`."""
    constructors = {name: getattr(models, name) for name in models.__all__}
    rows = [row(n, count(c, c.spec.se), count(c, None)) for n, c in constructors.items()]
    written = [
        each._asdict() | {"stage_numbers": " ".join(map(str, each.stage_numbers))} for each in rows
    ]
    TABLE.write_text(to_csv(written, networks.NetworkRow._fields).replace("\r\n", "\n"))
    networks.read_table.cache_clear()


def read_measured(path):
    """The rows of `latency.csv` in a table of the benchmarks: our float32 files on one image of the
    network's own size, by the newest run.
    """
    found = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in sorted(csv.DictReader(file), key=lambda row: row["date"]):
            runtime, _, what = row["subject"].partition(", ")
            size = networks.find_row(row["network"]).input_size
            ours = what in ("keras_senet", "keras_senet, plain") and not row["gpu"]
            if ours and not row["error"] and row["setting"] == f"batch 1, size {size}":
                se = "no" if row["plain"] else "yes"
                where = f"{row['threads']} threads, {row['cpu']}, {row['date'][:10]}"
                conditions = f"exported in float32, one image, {where}"
                latency = float(row["median_ms"])
                found[row["network"], se, runtime] = latency, conditions
    order = list(networks.read_table())
    keys = sorted(found, key=lambda key: (order.index(key[0]), key[1] == "no"))
    return [zoo.Latency(*key, *found[key]) for key in keys]


def write_latencies():
    """`latency.csv`, if something was measured."""
    if MEASURED.exists():
        rows = [each._asdict() for each in read_measured(MEASURED)]
        LATENCIES.write_text(to_csv(rows, zoo.Latency._fields).replace("\r\n", "\n"))
        zoo.read_latencies.cache_clear()


def readme_table():
    """What README.md has between its marks."""
    return zoo.markdown([row for row in zoo.rows() if row["se"]], README_COLUMNS)


if __name__ == "__main__":
    write_networks()
    write_latencies()
    readme = ROOT / "README.md"
    readme.write_text(IN_README.sub(lambda _: f"\n{readme_table()}\n", readme.read_text()))
