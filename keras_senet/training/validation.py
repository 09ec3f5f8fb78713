"""Evaluations in training: of each epoch, and of the best one at the end."""

import contextlib
import math
from collections.abc import Callable
from pathlib import Path

import keras

from keras_senet.evaluation import Evaluation, evaluate, prediction_step
from keras_senet.evaluation.networks import Images
from keras_senet.runs import BEST
from keras_senet.runs.splits import best_row, name_figures
from keras_senet.runs.tables import Row
from keras_senet.runs.workdir import WorkDir
from keras_senet.training.average import Average
from keras_senet.training.inputs import RunImages
from keras_senet.weights import save_weights


class Validation:
    """Evaluates a network that is trained, and keeps the weights of its best epoch.

    Args:
        model: the network.
        average: of its weights, which is evaluated in their place; or None.
        images: the run's.
        workdir: where the metrics and `best.weights.h5` are.
        record: called with each split that is evaluated, its images and its `Evaluation`.
        skip_corrupt: whether images that cannot be decoded are left out.

    Attributes:
        step: the network's `prediction_step`.
    """

    def __init__(
        self,
        model: keras.Model,
        average: Average | None,
        images: RunImages,
        workdir: WorkDir,
        record: Callable[[str, Images, Evaluation], None],
        *,
        skip_corrupt: bool = False,
    ):
        self.model, self.average, self.images, self.workdir = model, average, images, workdir
        self.record, self.skip_corrupt = record, skip_corrupt
        self.step = prediction_step(model)

    @property
    def _best_file(self) -> Path:
        return self.workdir.path / BEST

    def describe(self) -> str:
        """Which images the best epoch is chosen on."""
        count = len(self.images.evaluation)
        if self.images.split == "test":
            return (
                "there are no validation images: the best epoch is chosen on the "
                f"{count:,} test images"
            )
        once = ""
        if self.images.test is not None:
            once = f"; the {len(self.images.test):,} test images are evaluated once, at the end"
        return f"the best epoch is chosen on the {count:,} validation images{once}"

    def evaluate_epoch(self, is_due: bool) -> Row:
        """The figures of an epoch as columns of the metrics, NaN where it is not evaluated.

        The weights are kept if they are the best ones so far.
        """
        columns = name_figures("test", {}) if self.images.test is not None else {}
        if not is_due:
            return name_figures(self.images.split, {}) | columns
        name = f"{self.images.split}_accuracy"
        earlier = [row.get(name, math.nan) for row in self.workdir.metrics.read()]
        with self.average.applied() if self.average else contextlib.nullcontext():
            result = self._evaluate(self.images.split, self.images.evaluation)
            if all(not before >= result.top1 for before in earlier):  # some may be NaN
                save_weights(self.model, self._best_file)
        return name_figures(self.images.split, figures_of(result)) | columns

    def test_best(self) -> None:
        """Evaluates the best epoch's weights on the test images, once; the figures go into that
        epoch's row.
        """
        rows = self.workdir.metrics.read()
        best = best_row(rows)
        if best is None or not self._best_file.exists():
            return
        if math.isfinite(best.get("test_accuracy", math.nan)):
            return
        trained = self.model.get_weights()
        self.model.load_weights(self._best_file)
        best |= name_figures("test", figures_of(self._evaluate("test", self.images.test)))
        self.model.set_weights(trained)
        self.workdir.metrics.write(rows)

    def _evaluate(self, split, images):
        result = evaluate(self.model, images, step=self.step, skip_corrupt=self.skip_corrupt)
        self.record(split, images, result)
        return result


def figures_of(result: Evaluation) -> dict[str, float]:
    """Loss, top-1 and top-5 accuracy, as columns of the metrics are called."""
    return {"loss": result.loss, "accuracy": result.top1, "top5": result.top5}
