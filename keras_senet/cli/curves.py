"""`keras-senet curves`: the errors of several runs in one picture."""

from keras_senet.cli.options import Curves
from keras_senet.plots.training import compared_curves
from keras_senet.runs.workdir import read_run
from keras_senet.training.network import describe


def run(options: Curves) -> None:
    """Draws the error of each run, epoch by epoch; runs that differ only in the seed have one
    colour.
    """
    runs = {}
    for workdir in options.workdirs:
        recipe, rows = read_run(workdir)
        runs.setdefault(describe(recipe), []).append(rows)
    compared_curves(runs, options.output, options.title)
