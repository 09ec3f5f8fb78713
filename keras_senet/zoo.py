"""The zoo as one table: every network and its plain counterpart, with counts, the paper's figures,
checkpoints and measured latencies; nothing is built, and Keras is not imported.

The command line, the README and the documentation show it by `markdown`.
"""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from keras_senet.networks import NetworkRow, read_table
from keras_senet.weights.registry import Checkpoint, list_weights

DATASETS = {1000: "ImageNet", 10: "CIFAR-10", 100: "CIFAR-100"}  # of the paper, by classes


class Latency(NamedTuple):
    """One row of `latency.csv`: a float32 file that was exported here, on one image at a time.

    network       the constructor's name
    se            "yes", or "no" for the plain counterpart
    runtime       what ran the file
    milliseconds  for an image of the network's input size
    conditions    threads, machine and date
    """

    network: str
    se: str
    runtime: str
    milliseconds: float
    conditions: str


@cache
def read_latencies() -> tuple[Latency, ...]:
    """What was measured, in the order of the file."""
    with files(__package__).joinpath("latency.csv").open(newline="", encoding="utf-8") as file:
        return tuple(
            Latency(**row | {"milliseconds": float(row["milliseconds"])})
            for row in csv.DictReader(file)
        )


def rows() -> list[dict[str, Any]]:
    """A row for each network, followed by one for the same network without SE blocks.

    name            the constructor's, for the plain counterpart with ", plain"
    network, se     the constructor's name; whether this row is of the network with SE blocks
    input_size      height and width of its images by default, in pixels
    classes         by default
    dataset         of the paper's figures: ImageNet, CIFAR-10 or CIFAR-100
    parameters      trainable ones
    multiply_adds   of one image of this size, by convolutions and dense layers
    paper_gflops    as printed in Tables 2 and 3, or None
    paper_top1, paper_top5
                    accuracy in percent: 100 less the error that the paper prints, or None
    checkpoints     dicts with `tag` (what `weights=` takes), `top1` and `top5` in percent as their
                    publishers state, `input_size`, `licence` and `source`
    latency         dicts with `runtime`, `milliseconds` and `conditions`; empty where not measured
    """
    return [_make_row(network, se) for network in read_table().values() for se in (True, False)]


def _make_row(network: NetworkRow, se: bool) -> dict[str, Any]:
    kind = "paper" if se else "paper_plain"
    errors = (getattr(network, f"{kind}_{top}_error") for top in ("top1", "top5"))
    top1, top5 = (None if error is None else round(100 - error, 2) for error in errors)
    return {
        "name": network.name if se else f"{network.name}, plain",
        "network": network.name,
        "se": se,
        "input_size": network.input_size,
        "classes": network.classes,
        "dataset": DATASETS[network.classes],
        "parameters": network.parameters if se else network.plain_parameters,
        "multiply_adds": network.multiply_adds if se else network.plain_multiply_adds,
        "paper_gflops": network.paper if se else network.paper_plain,
        "paper_top1": top1,
        "paper_top5": top5,
        "checkpoints": [
            _describe(checkpoint)
            for checkpoint in list_weights()
            if checkpoint.model == network.name and checkpoint.se == se
        ],
        "latency": [
            {key: getattr(each, key) for key in ("runtime", "milliseconds", "conditions")}
            for each in read_latencies()
            if (each.network, each.se) == (network.name, "yes" if se else "no")
        ],
    }


def _describe(checkpoint: Checkpoint) -> dict[str, Any]:
    fields = ("tag", "top1", "top5", "input_size", "licence", "source")
    return {field: getattr(checkpoint, field) for field in fields}


class Column(NamedTuple):
    """A column of a table: its heading, of one line or two, and the text of its cell in a row."""

    heading: str
    cell: Callable[[Mapping[str, Any]], str]


def columns() -> dict[str, Column]:
    """What a table can show, by name; the last ones are the runtimes of `read_latencies`."""
    runtimes = dict.fromkeys(each.runtime for each in read_latencies())
    return COLUMNS | {name: Column(f"{name},\nms/image", _measured(name)) for name in runtimes}


def markdown(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """A Markdown table of `rows`, with these of `zoo.columns()`; under it, the conditions of the
    latencies that it shows.

    Raises:
        ValueError: for an unknown column; it lists the known ones.
    """
    shown, there = list(rows), find_columns(columns)
    lines = [[column.heading.replace("\n", " ") for column in there]]
    lines += [["---", *["---:"] * (len(there) - 1)]]
    lines += [[column.cell(row) for column in there] for row in shown]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join([table, *describe_conditions(shown, columns)]) + "\n"


def describe_conditions(rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> list[str]:
    """A sentence for each set of conditions that these latencies were measured under."""
    measured: dict[str, dict[str, None]] = {}
    for row in rows:
        for each in row["latency"]:
            if each["runtime"] in columns:
                measured.setdefault(each["conditions"], {})[each["runtime"]] = None
    return [f"{', '.join(names)}: {conditions}." for conditions, names in measured.items()]


def find_columns(names: Sequence[str]) -> list[Column]:
    """These columns.

    Raises:
        ValueError: for none, or an unknown one; it lists the known ones.
    """
    known = columns()
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(f"`columns` must be of {', '.join(known)}. Received: {unknown}")
    return [known[name] for name in names]


def _number(field: str, form: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: "" if row[field] is None else format(row[field], form)


def _best(row: Mapping[str, Any]) -> str:
    published = [each["top1"] for each in row["checkpoints"]]
    return f"{max(published):.2f}" if published else ""


def _checkpoints(row: Mapping[str, Any]) -> str:
    return ", ".join(f"`{each['tag']}` {each['top1']:.2f}" for each in row["checkpoints"])


def _sources(row: Mapping[str, Any]) -> str:
    return ", ".join(
        f"[{each['tag']}]({each['source']})"
        if each["source"].startswith("https:")
        else f"{each['tag']}: {each['source']}"
        for each in row["checkpoints"]
    )


def _measured(runtime: str) -> Callable[[Mapping[str, Any]], str]:
    def cell(row: Mapping[str, Any]) -> str:
        found = (each for each in row["latency"] if each["runtime"] == runtime)
        return ", ".join(f"{each['milliseconds']:.1f}" for each in found)

    return cell


COLUMNS = {
    "name": Column("network", lambda row: f"`{row['network']}`" + ("" if row["se"] else ", plain")),
    "input_size": Column("input", lambda row: f"{row['input_size']} x {row['input_size']}"),
    "parameters": Column("parameters", _number("parameters", ",")),
    "multiply_adds": Column("multiply-adds", _number("multiply_adds", ",")),
    "paper_gflops": Column("GFLOPs in\nthe paper", _number("paper_gflops", "")),
    "paper_top1": Column("top-1 in\nthe paper", _number("paper_top1", ".2f")),
    "paper_top5": Column("top-5 in\nthe paper", _number("paper_top5", ".2f")),
    "best": Column("best\ntop-1", _best),
    "checkpoints": Column("weights and their top-1", _checkpoints),
    "sources": Column("source of the weights", _sources),
}
