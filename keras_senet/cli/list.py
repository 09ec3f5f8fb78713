"""`keras-senet list`: the networks, the published weights, or the named recipes; without Keras."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keras_senet import zoo
from keras_senet.cli.options import ListOptions
from keras_senet.cli.tables import console, make_table, show, show_json
from keras_senet.detection import recipes as detection
from keras_senet.networks import NetworkRow, read_table
from keras_senet.recipes import RECIPES
from keras_senet.weights.registry import list_weights


def run(options: ListOptions) -> None:
    """Prints what is asked for, by default every network."""
    if options.weights:
        _list_weights(options.json)
    elif options.recipes:
        _list_recipes(RECIPES, "train", options.json)
    elif options.detectors:
        _list_recipes(detection.RECIPES, "detect train", options.json)
    elif options.json:
        show_json(_describe_networks())
    elif options.paper:
        _list_figures(read_table().values())
    else:
        _list_networks([row for row in zoo.rows() if row["se"]])


def _describe_networks() -> list[dict[str, Any]]:
    rows = zoo.rows()
    return [
        network._asdict() | row | {"plain": plain}
        for network, row, plain in zip(read_table().values(), rows[::2], rows[1::2], strict=True)
    ]


def _list_networks(rows: Sequence[Mapping[str, Any]]) -> None:
    runtimes = [name for name in zoo.columns() if name not in zoo.COLUMNS]
    names = ("input_size", "parameters", "multiply_adds", "paper_top1", "best", *runtimes)
    columns = zoo.find_columns(names)
    headings = (each.heading for each in columns)
    cells = ((row["name"], *(each.cell(row) or "-" for each in columns)) for row in rows)
    show(make_table("Networks of keras_senet", "model", *headings, rows=cells))
    console.print(
        "Accuracy in percent on ImageNet; at 32 x 32 on CIFAR-10 (SEShakeEven29: CIFAR-100). "
        "Best: of the weights that `keras-senet list --weights` shows.",
        *zoo.describe_conditions(rows, runtimes),
        sep="\n",
        soft_wrap=True,
    )


def _list_figures(networks: Iterable[NetworkRow]) -> None:
    """GFLOPs of each network and its plain counterpart with those of the paper's Tables 2 and 3."""
    columns = ("model", "plain", "paper", "SE", "+ rescaling", "paper")
    table = make_table("GFLOPs: one per multiply-add, and one per rescaled element", *columns)
    for each in networks:
        digits = 3 if each.multiply_adds < 1e9 else 2
        figures = (
            each.plain_multiply_adds / 1e9,
            each.paper_plain,
            each.multiply_adds / 1e9,
            each.with_rescaling / 1e9,
            each.paper,
        )
        table.add_row(each.name, *("-" if n is None else f"{n:.{digits}f}" for n in figures))
    show(table)


def _list_weights(as_json: bool) -> None:
    if as_json:
        show_json([dataclasses.asdict(w) | {"source": w.source} for w in list_weights()])
        return
    columns = ("network", "tag", "top-1", "top-5", "size", "parameters", "licence")
    table = make_table("Weights, with their accuracy on ImageNet or CIFAR-10", *columns)
    for w in list_weights():
        figures = (f"{w.top1:.2f}", f"{w.top5:.2f}", f"{w.input_size}", f"{w.parameters:.2f} M")
        table.add_row(w.model, w.tag, *figures, w.licence)
    show(table)
    for w in list_weights():
        console.print(f"{w.model} {w.tag}: {w.source}", soft_wrap=True)


def _list_recipes(recipes: Mapping[str, Any], command: str, as_json: bool) -> None:
    if as_json:
        show_json({name: dataclasses.asdict(recipe) for name, recipe in recipes.items()})
        return
    columns = ("recipe", "network", "dataset", "epochs", "batch", "rate")
    rows = (
        (name, r.model, r.dataset, f"{r.epochs}", f"{r.batch_size}", f"{r.learning_rate:g}")
        for name, r in recipes.items()
    )
    show(make_table(f"Recipes of keras-senet {command}", *columns, rows=rows))
    for name, recipe in recipes.items():
        line = f"{name}: {recipe.source}. Result: {recipe.result}"
        console.print(line, soft_wrap=True)
