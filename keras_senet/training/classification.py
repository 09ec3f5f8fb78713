"""The task of classification."""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_senet.data.division import format_splits
from keras_senet.evaluation import Evaluation, evaluate, per_class_csv, prediction_step
from keras_senet.extras import MissingExtraError
from keras_senet.files import write_atomically
from keras_senet.initializers import draw_weights
from keras_senet.plots.curves import training_curves
from keras_senet.recipes.recipe import Recipe
from keras_senet.runs import BEST, CLASSIFICATION, PER_CLASS
from keras_senet.runs.history import Segment
from keras_senet.runs.splits import WORDS, name_figures
from keras_senet.runs.tables import Row
from keras_senet.runs.workdir import WorkDir
from keras_senet.training.inputs import load_images, make_batches, weigh_classes
from keras_senet.training.network import make_network
from keras_senet.training.objective import CrossEntropy
from keras_senet.training.phases import Phase, make_phases
from keras_senet.training.start import read_start
from keras_senet.training.task import Task
from keras_senet.weights import save_weights


class Classification(Task):
    """Images of one class each, and a network with an output for each class. See `Task`."""

    name, best = CLASSIFICATION, BEST

    def __init__(self, recipe: Recipe, workdir: str | Path, data_dir: str | None = None):
        self.recipe = recipe
        self.start = read_start(recipe, workdir)
        self.images = load_images(recipe, data_dir)
        self.class_names = self.images.train.class_names
        self._step = None
        self.score = f"{self.images.split}_accuracy"

    @property
    def _preprocessing(self):
        return self.start and self.start.preprocessing

    def notes(self) -> list[str]:
        return self.images.notes()

    def format_division(self) -> bytes:
        return format_splits(self.images.by_split())

    def check_images(self) -> None:
        self.images.check_evaluated()

    def make_batches(self) -> Any:
        return make_batches(self.recipe, self.images.train, self._preprocessing)

    def count_steps(self) -> int:
        return len(self.images.train) // self.recipe.batch_size

    def make_network(self) -> keras.Model:
        spec = self.start and self.start.spec
        model = make_network(self.recipe, self.images.train, spec, self._preprocessing)
        if self.recipe.pipeline == "device":  # whose batches are equal, too
            draw_weights(model, self.recipe.seed)
        return model

    def load_start(self, model: keras.Model) -> str | None:
        if self.start is None:
            return None
        self.start.load_into(model, self.recipe, self.class_names)
        return self.start.describe(self.class_names)

    def make_objective(self, model: keras.Model) -> CrossEntropy:
        recipe = self.recipe
        weights = weigh_classes(self.images.train) if recipe.class_weights else None
        network: Any = model
        return CrossEntropy(
            network.preprocessing, recipe.batch_size, recipe.label_smoothing, weights
        )

    def make_phases(
        self, segments: Sequence[Segment], model: keras.Model, steps_per_epoch: int
    ) -> tuple[Phase, ...]:
        return make_phases(segments, model, steps_per_epoch)

    def average(self, sums: Mapping[str, float], steps: int) -> dict[str, float]:
        images = steps * self.recipe.batch_size
        return {"loss": sums["loss"] / steps, "accuracy": sums["correct"] / images}

    def prediction_step(self, model: keras.Model) -> Any:
        """The network's `prediction_step`, traced once."""
        self._step = self._step or prediction_step(model)
        return self._step

    def evaluate(
        self, model: keras.Model, split: str, *, skip_corrupt: bool
    ) -> tuple[dict[str, float], Evaluation]:
        images = self.images.of(split)
        step = self.prediction_step(model)
        result = evaluate(model, images, step=step, skip_corrupt=skip_corrupt)
        return name_figures(split, figures_of(result)), result

    def missing(self, split: str) -> dict[str, float]:
        return name_figures(split, {})

    def record(self, workdir: Path, split: str, result: Evaluation) -> None:
        """Writes the figures class by class."""
        names = self.images.of(split).class_names
        write_atomically(workdir / PER_CLASS, per_class_csv(result, names))

    def describe_epoch(self, row: Row) -> str:
        figures = (
            f"epoch {row['epoch']}: loss {row['loss']:.4f}, accuracy {100 * row['accuracy']:.2f}%"
        )
        for split in ("val", "test"):
            loss, accuracy = (row.get(f"{split}_{name}", math.nan) for name in ("loss", "accuracy"))
            if math.isfinite(loss):
                word = WORDS[split]
                figures += f"; {word} loss {loss:.4f}, {word} accuracy {100 * accuracy:.2f}%"
        return figures

    def save_weights(self, model: keras.Model, path: Path) -> None:
        save_weights(model, path)

    def save_results(self, model: keras.Model, workdir: WorkDir) -> None:
        workdir.save_network(model)
        if rows := workdir.metrics.read():
            try:
                training_curves(rows, workdir.path / "curves.png", self.title)
            except MissingExtraError as error:  # the run itself is whole
                print(f"without curves.png: {error}", file=sys.stderr)


def figures_of(result: Evaluation) -> dict[str, float]:
    """Loss, top-1 and top-5 accuracy, as columns of the metrics are called."""
    return {"loss": result.loss, "accuracy": result.top1, "top5": result.top5}
