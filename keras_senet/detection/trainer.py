"""Training of detectors: the task that the training engine does."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from keras_senet import models, training
from keras_senet.data.division import format_rows
from keras_senet.detection.data import DetectionBatches, load_data, splits
from keras_senet.detection.evaluation import AveragePrecision, evaluate
from keras_senet.detection.faster_rcnn import Detector
from keras_senet.detection.files import save
from keras_senet.detection.loss import losses
from keras_senet.detection.recipe import Recipe
from keras_senet.detection.spec import Sampling
from keras_senet.graphs import flat_layers, stages_of
from keras_senet.layers.data_format import arrange
from keras_senet.plots.detection import detection_curves
from keras_senet.runs import BEST_MODEL, DETECTION, MODEL
from keras_senet.runs.history import Segment
from keras_senet.runs.record import describe_recipe
from keras_senet.runs.splits import WORDS
from keras_senet.runs.tables import Row
from keras_senet.runs.workdir import WorkDir
from keras_senet.training.inputs import RunImages
from keras_senet.training.network import find_constructor, precision
from keras_senet.training.phases import Phase, make_phase, make_rates
from keras_senet.training.start import read_start
from keras_senet.training.task import Task

CHANNELS = 3
LOSSES = {  # the columns of the metrics, and what `losses` calls them
    "classifier_loss": "classes",
    "box_loss": "boxes",
    "objectness_loss": "objectness",
    "proposal_loss": "proposals",
}
FIGURES = {  # the columns of the metrics, and COCO's names
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "AP_small",
    "ap_medium": "AP_medium",
    "ap_large": "AP_large",
}


class Trainer(training.Trainer):
    """Trains the detector of a recipe in a work directory: `training.Trainer` with its work
    directories, its exact continuation, replicas and workers, and with its other arguments.

    Args:
        recipe: a `detection.Recipe`.
        workdir: a folder; one that holds an unfinished run of the same recipe is continued, and a
            run with fewer epochs is extended.

    Attributes:
        detector: the `Detector`, trained after `train()`.
    """

    def __init__(self, recipe: Recipe, workdir: str | Path, **options: Any):
        if not isinstance(recipe, Recipe):
            raise ValueError(f"`recipe` must be a detection.Recipe. Received: {recipe!r}")
        super().__init__(recipe, workdir, make_task=Detection, **options)

    @property
    def detector(self) -> Detector:
        return self.model.detector


class DetectorNetwork(keras.Model):
    """The parts of a detector as one model: what is trained, averaged and saved in checkpoints."""

    def __init__(self, detector: Detector):
        super().__init__(name="detector")
        self.detector = detector
        self.proposer, self.head = detector.proposer, detector.head
        self.built = True


@dataclass(frozen=True, eq=False)
class Losses:
    """The sum of a detector's four losses, and each of them, as means over the images of batches
    of `batch_size`. See `training.objective.Objective`.
    """

    figures: ClassVar[tuple[str, ...]] = tuple(LOSSES)
    detector: Detector
    sampling: Sampling
    batch_size: int

    def __call__(self, call: Any, batch: Any, seeds: Any) -> tuple[Any, Mapping[str, Any]]:
        canvas, truths = batch
        found = losses(
            self.detector,
            canvas.images,
            canvas.sizes,
            truths,
            self.sampling,
            seeds,
            training=True,
        )
        figures = {name: found[own] / self.batch_size for name, own in LOSSES.items()}
        return tf.add_n(list(figures.values())), figures


class Detection(Task):
    """Images with boxes, and a detector of their classes. See `training.task.Task`."""

    name, best, score = DETECTION, BEST_MODEL, "ap"

    def __init__(self, recipe: Recipe, workdir: str | Path, data_dir: str | None = None):
        self.recipe: Any = recipe
        there = splits(recipe.dataset, data_dir)
        is_divided = there == ("train",)
        split = "val" if is_divided or "val" in there else "test"
        if not there:  # one file, whose images are all there are
            split = "train"
        division: dict[str, Any] = {}
        if is_divided:
            division = {"validation_fraction": recipe.validation_fraction, "seed": recipe.seed}
        train, evaluation = (
            load_data(recipe.dataset, each, data_dir, **division) for each in ("train", split)
        )
        if train.class_names != evaluation.class_names:
            raise ValueError(
                f"The {WORDS[split]} images of {recipe.dataset!r} have the classes "
                f"{', '.join(evaluation.class_names[:10])}, the training images "
                f"{', '.join(train.class_names[:10])}"
            )
        self.images = RunImages(train, evaluation, split, None, is_divided)
        self.class_names = train.class_names
        # After the images: weights may have to be downloaded.
        self.start = read_start(recipe, workdir)

    @property
    def title(self) -> str:
        """The backbone and the dataset."""
        return f"Faster R-CNN, {describe_recipe(self.recipe)}"

    def notes(self) -> list[str]:
        named = {"training": self.images.train, WORDS[self.images.split]: self.images.evaluation}
        notes = [f"{what} images: {note}" for what, each in named.items() for note in each.notes]
        if self.images.is_divided:  # both were counted as one
            notes = [*self.images.describe_division(), *self.images.train.notes]
        if self.images.split == "train":
            notes.append(
                f"{self.recipe.dataset!r} is one file: average precision is of the images that are "
                "trained on, and says nothing of others"
            )
        return notes

    def format_division(self) -> bytes:
        rows = []
        for split, images in self.images.by_split().items():
            for file, truth in zip(images.list_files(), images.truths, strict=True):
                names = [images.class_names[label] for label in np.unique(truth.classes)]
                rows.append((file, ", ".join(names), split))
        return format_rows(rows)

    @functools.cached_property
    def _preprocessing(self):
        """What the backbone takes."""
        if self.start is None:
            return models.get(self.recipe.model).preprocessing
        return self.start.preprocessing.for_channels(CHANNELS)

    def make_batches(self) -> DetectionBatches:
        recipe = self.recipe
        return DetectionBatches(
            self.images.train,
            batch_size=recipe.batch_size,
            canvas=(recipe.detector.short, recipe.detector.long),
            preprocessing=self._preprocessing,
            seed=recipe.seed,
            flip=recipe.flip,
            short_sides=recipe.short_sides,
            group_by_aspect=recipe.group_by_aspect,
        )

    def count_steps(self) -> int:
        return self.make_batches().steps_per_epoch

    def make_network(self) -> DetectorNetwork:
        recipe = self.recipe
        constructor = find_constructor(recipe, self.start and self.start.spec)
        shape = arrange(None, None, CHANNELS)
        with precision(recipe.precision):
            backbone: Any = constructor(include_top=False, weights=None, input_shape=shape)
            backbone.preprocessing = self._preprocessing
            return DetectorNetwork(recipe.detector(backbone, self.class_names))

    def load_start(self, model: Any) -> str | None:
        if self.start is None:
            return None
        self.start.load_into(model.detector.backbone, self.recipe, ())
        return f"the backbone begins from the weights of {self.start.source!r}"

    def make_objective(self, model: Any) -> Losses:
        return Losses(model.detector, self.recipe.sampling, self.recipe.batch_size)

    def make_phases(
        self, segments: Sequence[Segment], model: Any, steps_per_epoch: int
    ) -> tuple[Phase, ...]:
        """One phase, in which the frozen layers stay as they are."""
        recipe, backbone = self.recipe, model.detector.backbone
        frozen = {
            layer: stage <= recipe.frozen_stages > 0
            for layer, stage in stages_of(backbone).items()
            if stage is not None
        }
        norms = [
            each
            for each in flat_layers(backbone)
            if recipe.frozen_bn and isinstance(each, keras.layers.BatchNormalization)
        ]
        untrained = dict.fromkeys((*(layer for layer in frozen if frozen[layer]), *norms))
        rates = {v.path: recipe.bias_rate if is_bias(v) else 1.0 for v in model.variables}
        schedule = make_rates(segments, steps_per_epoch)
        return (make_phase(recipe, model, 0, schedule, tuple(untrained), rates),)

    def average(self, sums: Mapping[str, float], steps: int) -> dict[str, float]:
        return {name: value / steps for name, value in sums.items()}

    def evaluate(
        self, model: Any, split: str, *, skip_corrupt: bool
    ) -> tuple[dict[str, float], AveragePrecision]:
        found = evaluate(model.detector, self.images.of(split), skip_corrupt=skip_corrupt)
        return {name: found.figures[theirs] for name, theirs in FIGURES.items()}, found

    def missing(self, split: str) -> dict[str, float]:
        return dict.fromkeys(FIGURES, math.nan)

    def describe_epoch(self, row: Row) -> str:
        text = f"epoch {row['epoch']}: loss {row['loss']:.4f}"
        if math.isfinite(row.get("ap", math.nan)):  # only the chief evaluates
            ap, ap50 = (100 * row[name] for name in ("ap", "ap50"))
            text += f"; {WORDS[self.images.split]} AP {ap:.1f}%, AP50 {ap50:.1f}%"
        return text

    def save_weights(self, model: Any, path: Path) -> None:
        save(model.detector, path)

    def save_results(self, model: Any, workdir: WorkDir) -> None:
        save(model.detector, workdir.path / MODEL)
        if rows := workdir.metrics.read():
            detection_curves(rows, workdir.path / "curves.png", self.title)


def is_bias(variable: keras.Variable) -> bool:
    """Whether a variable is a bias, such as those of SE blocks."""
    return variable.path.endswith("bias")
