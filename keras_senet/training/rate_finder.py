"""A range test of the learning rate: the loss while the rate rises, and a rate to train with.

A line is fitted through the losses of each window of an eighth of the steps, over the logarithm of
the rate: its middle is the smoothed loss. The suggestion is the rate in the middle of the window
whose line falls most, of those up to the lowest smoothed loss; where none falls by more than four
times the standard error of its slope, as in networks that are trained already, the windows are
twice and then four times as wide. The test ends when the loss is not finite, or four times the
lowest smoothed one.

Source: Smith, arXiv 1506.01186, Section 3.3.
"""

import math
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_senet.data import DeviceImages
from keras_senet.fields import check_argument
from keras_senet.files import to_csv, write_atomically
from keras_senet.plots.rates import rate_curve
from keras_senet.recipes.recipe import Recipe
from keras_senet.runs.record import describe_recipe
from keras_senet.training.backends import give_batches, load_backend
from keras_senet.training.classification import Classification
from keras_senet.training.inputs import lower_batch_size, resolve_pipeline
from keras_senet.training.phases import make_phase, rate_factors, untrained_layers
from keras_senet.training.progress import Progress

BELOW, ABOVE = 1e-3, 1e2  # the first and the last rate, over that of the recipe
WINDOW = 1 / 8  # of the steps: what a line is fitted through
CERTAIN = 4.0  # times its standard error is a slope that is not noise
DIVERGED = 4.0  # times the lowest smoothed loss


class RateTest(NamedTuple):
    """What `find_rate` has found.

    rates       of each step, (N,)
    losses      of its batch, (N,)
    smoothed    the same from lines through windows of steps, NaN at both ends, (N,)
    suggestion  the rate at which the loss fell fastest; None if it did not fall by more than noise
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    suggestion: float | None


class Rising(keras.optimizers.schedules.LearningRateSchedule):
    """From `lowest` to `highest` in so many steps, by the same factor in each."""

    def __init__(self, lowest: float, highest: float, steps: int):
        self.lowest, self.highest, self.steps = lowest, highest, steps

    def __call__(self, step: Any) -> Any:
        factor = math.log(self.highest / self.lowest) / max(self.steps - 1, 1)
        return self.lowest * ops.exp(factor * ops.cast(step, "float32"))


def find_rate(
    recipe: Recipe,
    workdir: str | Path | None = None,
    *,
    steps: int = 200,
    data_dir: str | None = None,
    verbose: bool = False,
) -> RateTest:
    """A `RateTest`: trains the recipe's network from its beginning on the recipe's batches, with a
    learning rate that rises from a thousandth of the recipe's to a hundred times as much. Stages
    that are frozen stay so, and the rates of the head and of the stages keep their ratios; the
    `head_epochs` are left out.

    Args:
        recipe: a `Recipe`; its schedule, epochs and `ema` do not count.
        workdir: a folder for `rates.csv` and `rates.png`, in which no run is begun; None writes
            nothing.
        steps: how many, at least 24.
        data_dir: where tensorflow_datasets has its data.
        verbose: whether to show a progress bar.

    Raises:
        ValueError: for fewer steps, or a recipe that cannot be trained.
    """
    check_argument("steps", steps, steps >= 24, "at least 24")
    devices = load_backend().Devices("none")
    task = _make_task(recipe, workdir, data_dir, devices)
    batches, rate = task.make_batches(), task.recipe.learning_rate
    schedule = Rising(BELOW * rate, ABOVE * rate, steps)
    step = _make_step(task, devices, schedule, batches)
    window = max(round(WINDOW * steps), 3)
    given = give_batches(devices, batches, 0, steps)
    with Progress(steps, 0, task.recipe.batch_size, verbose) as bar:
        losses = np.array(list(_measure(step, given, window, bar)))
    rates = np.array([float(schedule(number)) for number in range(len(losses))])
    found = RateTest(rates, losses, *analyse_losses(rates, losses, window))
    if workdir is not None:
        write_rates(found, Path(workdir), describe_recipe(task.recipe))
    return found


def _make_task(recipe, workdir, data_dir, devices):
    with tempfile.TemporaryDirectory() as empty:
        task = Classification(recipe, empty if workdir is None else workdir, data_dir)
    if recipe.batch_size > len(task.images.train):
        recipe = lower_batch_size(recipe, len(task.images.train))
    task.recipe = resolve_pipeline(recipe, task.images.train, None, devices.pipelines)
    return task


def _make_step(task, devices, schedule, batches):
    recipe = task.recipe
    keras.utils.set_random_seed(recipe.seed)
    model = task.make_network()
    task.load_start(model)
    untrained = untrained_layers(recipe, model, is_head=False)
    phase = make_phase(recipe, model, 0, schedule, untrained, rate_factors(recipe, model))
    source = batches if isinstance(batches, DeviceImages) else None
    return load_backend().TrainStep(task, model, [phase], None, devices, source)


def _measure(step, batches, window, bar):
    """Yields the loss of each batch, until one is not finite or the losses have diverged."""
    losses: list[float] = []
    for number, batch in enumerate(batches):
        outcome = step(batch, number)
        if outcome.failed or not math.isfinite(outcome.loss):
            return
        losses.append(outcome.loss)
        yield outcome.loss
        bar.advance(outcome.loss)
        if _has_diverged(losses, window):
            return


def _has_diverged(losses, window):
    if len(losses) < 2 * window:
        return False
    means = np.convolve(losses, np.ones(window) / window, "valid")
    return bool(means[-1] > DIVERGED * means.min())


def analyse_losses(
    rates: np.ndarray, losses: np.ndarray, window: int
) -> tuple[np.ndarray, float | None]:
    """(smoothed losses, the suggestion) by lines through windows of losses."""
    smoothed, *_ = _fit_lines(rates, losses, window)
    if np.isnan(smoothed).all():
        return smoothed, None
    end = int(np.nanargmin(smoothed)) + 1
    widest = min(4 * window, len(losses))
    for width in sorted({window, min(2 * window, widest), widest}):
        _, slopes, errors = _fit_lines(rates, losses, width)
        slopes[end:] = np.nan
        certain = np.where(slopes < -CERTAIN * errors, slopes, np.nan)
        if not np.isnan(certain).all():
            return smoothed, float(rates[int(np.nanargmin(certain))])
    return smoothed, None


def _fit_lines(rates, losses, window):
    """The middle, the slope and its standard error of the line through each window of losses over
    the logarithm of the rate; NaN at both ends.
    """
    middles, slopes, errors = np.full((3, len(losses)), np.nan)
    for first in range(len(losses) - window + 1):
        part, middle = slice(first, first + window), first + window // 2
        x, y = np.log(rates[part]), losses[part]
        slope, offset = np.polyfit(x, y, 1)
        rest = np.sum((y - slope * x - offset) ** 2) / max(window - 2, 1)
        slopes[middle], errors[middle] = slope, math.sqrt(rest / np.sum((x - x.mean()) ** 2))
        middles[middle] = offset + slope * math.log(rates[middle])
    return middles, slopes, errors


def write_rates(found: RateTest, folder: Path, title: str) -> None:
    """Writes `rates.csv` and `rates.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = zip(found.rates, found.losses, found.smoothed, strict=True)
    rows = [
        {
            "step": step,
            "learning_rate": float(rate),
            "loss": float(loss),
            "smoothed": None if math.isnan(smoothed) else float(smoothed),
        }
        for step, (rate, loss, smoothed) in enumerate(columns)
    ]
    names = ("step", "learning_rate", "loss", "smoothed")
    write_atomically(folder / "rates.csv", to_csv(rows, names))
    rate_curve(
        found.rates, found.losses, found.smoothed, found.suggestion, folder / "rates.png", title
    )
