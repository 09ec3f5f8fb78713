"""What is trained, on what, and how: plain data."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from keras_senet import networks
from keras_senet.fields import check_field, is_integer, require_types
from keras_senet.recipes.augmentation import Augmentation
from keras_senet.recipes.se_text import read_se
from keras_senet.se import SE

MOST_UNITS = 1000  # of a stage: more is a mistake
PARTS = ("head_epochs", "warmup_epochs", "frozen_bn_epochs")  # fields that count some of the epochs
NOT_FLAGS = ("augmentation", "source", "result", "chosen")  # fields that no flag changes


@dataclass(frozen=True)
class Recipe:
    """One training run. Rates and epochs are for the batch that is stated, over all replicas.

    Network:
    model             a constructor's name
    depths            units in each stage, to make the network smaller or larger; empty is the
                      network's own
    se                its SE blocks, a `keras_senet.SE`; None is the plain network

    Images:
    dataset           "digits", a tfds dataset, or the path of a folder of class folders, of a CSV
                      file, or of a `.npz` file of arrays
    validation_fraction  of each class, the part that is kept for validation where the dataset has
                      no validation and test images
    image_size        height and width of the images; 0 is the dataset's where all have one size,
                      else the network's
    upright           whether images are turned as their EXIF orientation says, as viewers show them
    class_balanced    whether each class comes equally often (Relay Backpropagation), instead of
                      each image
    class_weights     whether the loss weights classes inversely to their counts: that of an image
                      of class c by N / (K n_c), for N images of K classes, n_c of them of c; the
                      mean of the weights is 1. A mixed image has the mean weight of its shares
    normalization     "network" is what the network has: mean and standard deviation; "mean"
                      subtracts the mean only
    augmentation      an `Augmentation`
    pipeline          where batches are made: "device" is for images in memory, of one size;
                      "tf.data" is for all, with TensorFlow; "auto" is the first where it can be,
                      and is decided when a run begins

    Start:
    weights           what the network begins from, with a new head where the classes differ: a tag
                      such as "imagenet" (`keras-senet list --weights`), a file, FILE#NAME for a
                      part of a checkpoint, hf://owner/name, a training work directory, or a
                      `.keras` file; None is random
    freeze            the stages, by the numbers in the layers' names, whose weights and
                      batch-normalisation statistics stay as they are; the stem is 1, or 0 in
                      networks with a stage 1
    head_epochs       the first epochs, in which only the head is trained, at a constant
                      `learning_rate`; the optimizer and the schedule begin after them
    head_rate         the learning rate of the head over that of the last stage
    layer_decay       the learning rate of each stage over that of the stage after it

    Steps:
    epochs            passes over the training images
    batch_size        images per step, over all replicas; `train` lowers that of a named recipe to
                      the number of training images
    accumulation      micro-batches of a replica's batch that go through the network one after
                      another, to save memory
    precision         "float32", "mixed_float16" or "mixed_bfloat16"
    xla               whether the step is compiled by XLA; on one device only
    seed              of the initial weights, the order of the images, their augmentation, and
                      dropout

    Optimizer:
    optimizer         "sgd", "adamw" or "lamb"
    momentum          of "sgd", from 0 to below 1
    nesterov          whether that is Nesterov's momentum
    learning_rate     the largest rate of the schedule
    schedule          after the warm-up "constant", "step", or "cosine" or "linear" to 0 at the end
    milestones        of "step": the epochs after which the rate is multiplied by `decay`
    decay             that factor
    warmup_epochs     may be a fraction
    warmup            "linear" rises from `warmup_rate` (or 0) to `learning_rate`; "constant" stays
                      at `warmup_rate`
    warmup_rate       the rate at which "linear" begins and "constant" stays

    Regularisation:
    weight_decay      on kernels only: not on biases and batch normalisation, as the authors did
    decoupled         whether the decay is decoupled from the gradient (AdamW), or L2 regularisation
    label_smoothing   the fraction of the label's mass that is shared by all classes
    clip_norm         the largest norm of all gradients together; 0 is no limit
    ema               the decay of the moving average of weights and statistics that is evaluated
                      and saved; 0 is none
    sync_bn           whether batch normalisation sees the images of all replicas; on JAX it always
                      does
    frozen_bn_epochs  the last epochs in which batch normalisation (statistics, gamma and beta)
                      stays as it is

    Where it is from:
    source            where the protocol is stated
    result            what it gave where, or "not run"
    chosen            why `pick_recipe` has chosen it, where nobody named a recipe
    """

    TASK: ClassVar[str] = "classification"

    model: str = "SEResNet20"
    depths: tuple[int, ...] = ()
    se: SE | None = SE()
    dataset: str = "digits"
    image_size: int = 0
    upright: bool = True
    validation_fraction: float = 0.2
    class_balanced: bool = False
    class_weights: bool = False
    normalization: Literal["network", "mean"] = "network"
    weights: str | None = None
    freeze: tuple[int, ...] = ()
    head_epochs: int = 0
    head_rate: float = 1.0
    layer_decay: float = 1.0
    epochs: int = 10
    batch_size: int = 64
    accumulation: int = 1
    optimizer: Literal["sgd", "adamw", "lamb"] = "sgd"
    learning_rate: float = 0.1
    schedule: Literal["constant", "step", "cosine", "linear"] = "cosine"
    milestones: tuple[float, ...] = ()
    decay: float = 0.1
    warmup_epochs: float = 0.0
    warmup: Literal["linear", "constant"] = "linear"
    warmup_rate: float = 0.0
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    decoupled: bool = False
    label_smoothing: float = 0.0
    clip_norm: float = 0.0
    ema: float = 0.0
    sync_bn: bool = False
    frozen_bn_epochs: int = 0
    augmentation: Augmentation = Augmentation()
    pipeline: Literal["auto", "device", "tf.data"] = "auto"
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    xla: bool = False
    seed: int = 0
    source: str = field(default="", compare=False)
    result: str = field(default="not run", compare=False)
    chosen: str = field(default="", compare=False)

    bias_decay: ClassVar[bool] = False  # whether biases and batch normalisation decay

    def __post_init__(self):
        require_types(self)
        object.__setattr__(self, "freeze", tuple(sorted(set(self.freeze))))
        check_common(self, BOUNDS)
        self._check_start()
        for name in PARTS:
            within = getattr(self, name) <= self.epochs
            check_field(self, name, within, f"from 0 to epochs={self.epochs}")
        together = not (self.class_weights and self.class_balanced)
        check_field(self, "class_weights", together, "False with class_balanced=True")

    def _check_start(self):
        there = networks.find_row(self.model).stage_numbers
        accepted = f"stages of {self.model}: {', '.join(map(str, there))}"
        check_field(self, "freeze", set(self.freeze) <= set(there), accepted)
        if self.weights is None:
            for name, none in (("freeze", "empty"), ("head_epochs", "0")):
                accepted = f"{none} without `weights` to begin from"
                check_field(self, name, not getattr(self, name), accepted)
        else:
            is_own = self.normalization == "network"
            check_field(
                self, "normalization", is_own, '"network" with `weights`, which have theirs'
            )

    @property
    def together(self) -> int:
        """How many images must be in one micro-batch: those that are mixed."""
        return 2 if self.augmentation.mixes else 1

    def count_warmup_steps(self, steps_per_epoch: int) -> int:
        return round(self.warmup_epochs * steps_per_epoch)

    def flat(self) -> dict[str, Any]:
        """All fields by name, those of the augmentation too: what flags and messages name."""
        own = {name: value for name, value in vars(self).items() if name != "augmentation"}
        return own | vars(self.augmentation)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Recipe":
        """The recipe whose `dataclasses.asdict` was written as JSON; fields that are not there have
        their defaults, but for `pipeline`: runs of earlier versions have "tf.data".
        """
        own = with_tuples(fields)
        own.setdefault("pipeline", "tf.data")
        own["augmentation"] = Augmentation(**fields.get("augmentation", {}))
        if isinstance(own.get("se"), str):  # of earlier versions
            own["se"] = read_se(own["se"])
        elif own.get("se") is not None:
            own["se"] = SE(**own["se"])
        return cls(**own)

    def override(self, **fields: Any) -> "Recipe":
        """The recipe with some flat fields changed; `result` becomes "not run" if any does.

        With fewer `epochs`, those of its first or last epochs that are not given become fewer, too.
        """
        names = vars(self.augmentation)
        augmentation = dataclasses.replace(
            self.augmentation, **{n: v for n, v in fields.items() if n in names}
        )
        own = {name: value for name, value in fields.items() if name not in names}
        if is_integer(epochs := own.get("epochs")) and epochs > 0:
            parts = {name: getattr(self, name) for name in PARTS}
            own = {name: type(n)(epochs) for name, n in parts.items() if n > epochs} | own
        changed = dataclasses.replace(self, augmentation=augmentation, **own)
        return self if changed == self else dataclasses.replace(changed, result="not run")


def with_tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with tuples for the lists that JSON has."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}


def check_common(recipe: Any, bounds: Mapping[str, tuple[Callable[[Any], Any], str]]) -> None:
    """Raises ValueError for a field that is out of its bounds, or for another one that recipes of
    all tasks have and that does not fit.
    """
    stages = networks.find_row(recipe.model).stages
    within = all(1 <= depth <= MOST_UNITS for depth in recipe.depths)
    fits = not recipe.depths or (len(recipe.depths) == stages and within)
    or_numbers = f", or 1 to {MOST_UNITS} for each of its {stages} stages" if stages else ""
    check_field(recipe, "depths", fits, f"empty for {recipe.model}{or_numbers}")
    for name, (holds, accepted) in bounds.items():
        check_field(recipe, name, holds(getattr(recipe, name)), accepted)
    rising = list(recipe.milestones) == sorted(set(recipe.milestones))
    first, epochs = recipe.head_epochs, recipe.epochs
    in_range = all(first < milestone < epochs for milestone in recipe.milestones)
    accepted = f"rising, above {first} and below epochs={epochs}"
    check_field(recipe, "milestones", rising and in_range, accepted)
    together = not (recipe.sync_bn and recipe.accumulation > 1)
    accepted = "1 with sync_bn=True, whose replicas cannot meet inside of a loop"
    check_field(recipe, "accumulation", together, accepted)


def _natural(largest=2**31 - 1, least=0):
    return (lambda v: least <= v <= largest), f"from {least} to {largest}"


AT_LEAST_0 = (lambda v: 0 <= v < math.inf), "finite and at least 0"
ABOVE_0 = (lambda v: 0 < v < math.inf), "finite and above 0"
BELOW_1 = (lambda v: 0 <= v < 1), "from 0 to below 1"

BOUNDS = {
    "dataset": (bool, "a dataset's name or a folder"),
    "validation_fraction": ((lambda v: 0 < v < 1), "above 0 and below 1"),
    "image_size": _natural(4096),
    "weights": (lambda v: v != "", "None, or what to begin from"),
    "head_epochs": _natural(),
    "head_rate": ABOVE_0,
    "layer_decay": ((lambda v: 0 < v <= 1), "above 0 and at most 1"),
    "epochs": _natural(10**6, 1),
    "batch_size": _natural(10**7, 1),
    "accumulation": _natural(10**4, 1),
    "learning_rate": ABOVE_0,
    "decay": ABOVE_0,
    "warmup_epochs": AT_LEAST_0,
    "warmup_rate": AT_LEAST_0,
    "momentum": BELOW_1,
    "weight_decay": AT_LEAST_0,
    "label_smoothing": BELOW_1,
    "clip_norm": AT_LEAST_0,
    "ema": BELOW_1,
    "frozen_bn_epochs": _natural(),
    "seed": _natural(),
}
