"""What is trained, on what, and how: plain data, and the named recipes."""

import dataclasses
import math
from dataclasses import dataclass

from keras_senet import models
from keras_senet.data import DATASETS

SCHEDULES = ("constant", "cosine")
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")


@dataclass(frozen=True)
class Recipe:
    """One training run.

    model            a constructor's name
    dataset          a dataset's name
    epochs           passes over the training images
    batch_size       images a step, over all replicas
    learning_rate    the largest rate of the schedule
    schedule         "constant", or "cosine" to 0 at the end, both behind a linear warm-up
    warmup_epochs    of that warm-up; may be a fraction
    momentum         of stochastic gradient descent with Nesterov's momentum
    weight_decay     coupled, on kernels alone: biases and batch normalisation are spared, as the authors did
    label_smoothing  the part of the label's mass that is spread over all classes
    pad_and_crop     pixels of black around the image from which a crop of its size is taken
    flip             whether to mirror half of the images
    precision        "float32", "mixed_float16" or "mixed_bfloat16"
    seed             of the initial weights, the order of the images and their augmentation
    """

    model: str = "SEResNet20"
    dataset: str = "digits"
    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 0.1
    schedule: str = "cosine"
    warmup_epochs: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    pad_and_crop: int = 0
    flip: bool = False
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self):
        for field in dataclasses.fields(self):
            accepted = (int, float) if field.type is float else field.type
            value = getattr(self, field.name)
            is_type = isinstance(value, accepted) and (field.type is bool or not isinstance(value, bool))
            self._require(field.name, is_type, f"of type {field.type.__name__}")
        models.get(self.model)
        for field, accepted in (("dataset", tuple(DATASETS)), ("schedule", SCHEDULES), ("precision", PRECISIONS)):
            self._require(field, getattr(self, field) in accepted, f"one of {', '.join(accepted)}")
        for field in ("epochs", "batch_size"):
            self._require(field, getattr(self, field) >= 1, "at least 1")
        for field in ("pad_and_crop", "seed"):
            self._require(field, 0 <= getattr(self, field) < 2**31, "from 0 to 2^31 - 1")
        for field in ("momentum", "label_smoothing"):
            self._require(field, 0 <= getattr(self, field) < 1, "from 0 to below 1")
        self._require("weight_decay", 0 <= self.weight_decay < math.inf, "at least 0")
        self._require("learning_rate", 0 < self.learning_rate < math.inf, "above 0")
        self._require("warmup_epochs", 0 <= self.warmup_epochs <= self.epochs, f"from 0 to epochs={self.epochs}")

    def _require(self, field, holds, accepted):
        if not holds:
            raise ValueError(f"`{field}` must be {accepted}. Received: {field}={getattr(self, field)!r}")


RECIPES = {
    # keras-senet quickstart. 2 CPU cores: see README, "What the quickstart prints".
    "digits": Recipe(model="SEResNet20", dataset="digits", epochs=14, pad_and_crop=3),
}
