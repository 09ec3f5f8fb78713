"""`keras-senet ablate`: a table of variants of the SE block, each trained with several seeds."""

import dataclasses
import sys

from keras_senet.analysis.ablation import HEADER, Ablation, table, write_results
from keras_senet.cli.options import AblateOptions
from keras_senet.cli.tables import console, make_table, show, show_json
from keras_senet.extras import require
from keras_senet.runs.record import describe_recipe
from keras_senet.se import SE
from keras_senet.training.signals import Terminated


def run(options: AblateOptions) -> None:
    """Trains what is missing, and writes the table and the picture after each run."""
    require("matplotlib", "train")
    recipe = options.recipe
    ablation = Ablation(
        recipe,
        options.workdir,
        options.variants,
        options.seeds,
        data_dir=options.data_dir,
        verbose=not options.quiet,
    )
    name = describe_recipe(dataclasses.replace(recipe, se=SE()))
    title = f"Variants of {name}, {recipe.epochs} epochs"
    if not options.table:
        _train(ablation, title)
    rows = ablation.rows()
    write_results(rows, options.workdir, title)
    if options.json:
        show_json([_figures(row) for row in rows])
        return
    show(make_table(title, *_narrow(HEADER), rows=map(_narrow, table(rows))))
    console.print(
        f"errors in %; the paper's are of SE-ResNet-50 on ImageNet; results in {options.workdir}/"
    )


def _figures(row):
    return {
        "variant": row.variant.name,
        "parameters": row.parameters,
        "multiply_adds": row.multiply_adds,
        "test_error": row.mean,
        "runs": [run._asdict() for run in row.runs],
    }


def _narrow(cells):
    """Without multiply-adds, for terminals of 80 columns."""
    return (*cells[:2], *cells[3:])


def _train(ablation, title):
    """The table grows after each run."""
    try:
        ablation.train(after_each=lambda: write_results(ablation.rows(), ablation.workdir, title))
    except Terminated as error:
        print(f"keras-senet ablate: {error}", file=sys.stderr)
        raise
