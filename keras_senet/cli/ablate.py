"""`keras-senet ablate`: a table of variants of the SE block, each trained with several seeds."""

import dataclasses
import sys

from keras_senet.analysis.ablation import (
    DEFAULTS,
    HEADER,
    VARIANTS,
    Ablation,
    table,
    variant_of,
    write_results,
)
from keras_senet.cli import console, make_table, show
from keras_senet.cli.train import add_recipe_arguments, recipe_of
from keras_senet.extras import require
from keras_senet.training.network import describe
from keras_senet.training.signals import Terminated


def add_arguments(parser):
    """What is varied, then the fields of the recipe but these."""
    parser.add_argument(
        "--workdir", required=True, help="where the runs are left, and continued if begun there"
    )
    parser.add_argument(
        "--variants",
        nargs="+",
        metavar="V",
        default=list(DEFAULTS),
        help=f"of {', '.join(VARIANTS)}, or NAME:FIELDS with fields of `keras_senet.SE`, such as r64:reduction=64; "
        f"default: {' '.join(DEFAULTS)}",
    )
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[0, 1], metavar="N", help="default: 0 1"
    )
    parser.add_argument(
        "--data-dir", help="where tensorflow_datasets has its data; default: its own"
    )
    parser.add_argument(
        "--table", action="store_true", help="train nothing: the table of the runs that have ended"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    add_recipe_arguments(parser, besides=("se", "seed"))


def run(options):
    """Trains what is missing, and leaves the table and the picture behind each run."""
    require("matplotlib", "train")
    recipe = recipe_of(options)
    variants = [variant_of(text) for text in options.variants]
    ablation = Ablation(
        recipe,
        options.workdir,
        variants,
        options.seeds,
        data_dir=options.data_dir,
        verbose=not options.quiet,
    )
    title = (
        f"Variants of {describe(dataclasses.replace(recipe, se='default'))}, {recipe.epochs} epochs"
    )
    if not options.table:
        _train(ablation, title)
    rows = ablation.rows()
    write_results(rows, options.workdir, title)
    narrow = lambda cells: (
        *cells[:2],
        *cells[3:],
    )  # without multiply-adds, for terminals of 80 columns
    printed = make_table(title, *narrow(HEADER))
    for cells in table(rows):
        printed.add_row(*narrow(cells))
    show(printed)
    console.print(
        f"errors in %; the paper's are of SE-ResNet-50 on ImageNet; results in {options.workdir}/"
    )


def _train(ablation, title):
    """The table grows behind each run."""
    try:
        ablation.train(after_each=lambda: write_results(ablation.rows(), ablation.workdir, title))
    except Terminated as error:
        print(f"keras-senet ablate: {error}", file=sys.stderr)
        raise
