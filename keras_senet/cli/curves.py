"""`keras-senet curves`: the errors of several runs in one picture."""

from keras_senet.cli.options import CurvesOptions
from keras_senet.plots.curves import compared_curves
from keras_senet.runs.record import describe_recipe, read_run


def run(options: CurvesOptions) -> None:
    """Draws each run's error by epoch; runs that differ only in the seed have one colour."""
    runs = {}
    for workdir in options.workdirs:
        recipe, rows = read_run(workdir)
        runs.setdefault(describe_recipe(recipe), []).append(rows)
    compared_curves(runs, options.output, options.title)
