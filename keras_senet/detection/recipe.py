"""What a detector is trained on, and how: plain data."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from keras_senet import networks
from keras_senet.detection.anchors import Anchors
from keras_senet.detection.spec import MOST, FasterRCNN, Sampling
from keras_senet.fields import check_argument, check_field, require_types
from keras_senet.recipes.recipe import ABOVE_0, BOUNDS, check_common, with_tuples
from keras_senet.se import SE

NOT_FLAGS = ("detector", "source", "result")  # fields that no flag changes
SMALLEST = 32  # pixels of a side: the largest stride of a backbone's maps
OF_ANCHORS = {"anchor_sizes": "sizes", "anchor_ratios": "ratios"}


@dataclass(frozen=True)
class Recipe:
    """One training run of a detector. Rates and epochs are for the batch that is stated, over all
    replicas.

    Backbone:
    model             a constructor's name
    depths            units in each stage, to make the network smaller or larger; empty is the
                      network's own
    se                its SE blocks, a `keras_senet.SE`; None is the plain network
    backbone_weights  what it begins from: a tag such as "imagenet", a file, a work directory of
                      `keras-senet train`, or a `.keras` file; None is random
    frozen_stages     the stem and the stages up to this number stay as they are; 0 trains all
    frozen_bn         whether batch normalisation stays as it is: statistics, gamma and beta
    sync_bn           whether batch normalisation sees the images of all replicas; on JAX it always
                      does

    Detector:
    detector          a `FasterRCNN`

    Images:
    dataset           "scenes", a tfds dataset, or the path of a folder or a JSON file of COCO
    flip              whether half of the images are mirrored
    short_sides       pixels: the shorter side of the images of a batch is one of these, at random;
                      empty is the detector's `short`
    group_by_aspect   whether the images of a batch are all landscape or all portrait
    validation_fraction  the part of the images that is kept for validation where the dataset has
                      training images only

    Samples:
    anchor_samples    how many anchors per image are trained on, and the largest fraction of them
                      that belong to a box
    anchor_overlap    IoU below which an anchor is background, and from which it belongs to a box
    box_samples       the same of proposals
    box_overlap       IoU from which a proposal belongs to a box; below it is background
    box_beta          where the loss of boxes turns from square to linear (torchvision: 1/9,
                      Detectron: 1)
    straddling        whether anchors that cross the image's border are trained on (torchvision; in
                      Detectron not)

    Steps:
    epochs            passes over the training images
    batch_size        images per step, over all replicas
    accumulation      micro-batches of a replica's batch that go through the network one after
                      another, to save memory
    precision         "float32", "mixed_float16" or "mixed_bfloat16"
    seed              of the initial weights, the order of the images, and what is drawn of them

    Optimizer:
    optimizer         "sgd" or "adamw"
    momentum          of "sgd", from 0 to below 1
    nesterov          whether that is Nesterov's momentum
    learning_rate     the largest rate of the schedule, for `batch_size`
    schedule          after the warm-up "constant", "step", or "cosine" or "linear" to 0 at the end
    milestones        of "step": the epochs after which the rate is multiplied by `decay`
    decay             that factor
    warmup_steps      steps in which the rate rises to `learning_rate`
    warmup_from       where it begins, over `learning_rate`
    bias_rate         the learning rate of biases over that of kernels (Detectron: 2)

    Regularisation:
    weight_decay      L2 regularisation, or with "adamw" decoupled decay, of kernels
    bias_decay        whether biases and batch normalisation decay, too (torchvision; in Detectron
                      not)
    clip_norm         the largest norm of all gradients together; 0 is no limit
    ema               the decay of the moving average of weights and statistics that is evaluated
                      and saved; 0 is none

    Where it is from:
    source            where the protocol is stated
    result            what it gave where, or "not run"

    Raises:
        ValueError: for any other value, naming the field, the value and what is accepted.
    """

    model: str = "SEResNet50"
    depths: tuple[int, ...] = ()
    se: SE | None = SE()
    backbone_weights: str | None = "imagenet"
    frozen_stages: int = 2
    frozen_bn: bool = True
    sync_bn: bool = False
    detector: FasterRCNN = FasterRCNN()
    dataset: str = "coco/2017"
    flip: bool = True
    short_sides: tuple[int, ...] = ()
    group_by_aspect: bool = True
    validation_fraction: float = 0.2
    anchor_samples: tuple[float, ...] = (256, 0.5)
    anchor_overlap: tuple[float, ...] = (0.3, 0.7)
    box_samples: tuple[float, ...] = (512, 0.25)
    box_overlap: float = 0.5
    box_beta: float = 1 / 9
    straddling: bool = True
    epochs: int = 26
    batch_size: int = 16
    accumulation: int = 1
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    seed: int = 0
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    learning_rate: float = 0.02
    schedule: Literal["constant", "step", "cosine", "linear"] = "step"
    milestones: tuple[float, ...] = ()
    decay: float = 0.1
    warmup_steps: int = 1000
    warmup_from: float = 0.001
    bias_rate: float = 1.0
    weight_decay: float = 1e-4
    bias_decay: bool = True
    clip_norm: float = 0.0
    ema: float = 0.0
    source: str = field(default="", compare=False)
    result: str = field(default="not run", compare=False)

    # What recipes of classification have besides, and the engine asks for
    warmup: ClassVar[str] = "linear"
    warmup_epochs: ClassVar[float] = 0.0
    head_epochs: ClassVar[int] = 0
    together: ClassVar[int] = 1
    xla: ClassVar[bool] = False

    def __post_init__(self):
        if self.backbone_weights == "":
            object.__setattr__(self, "backbone_weights", None)
        require_types(self)
        check_common(self, FIELDS)
        last = max(networks.find_row(self.model).stage_numbers)
        is_stage = 0 <= self.frozen_stages <= last
        check_field(self, "frozen_stages", is_stage, f"from 0 to {last}, the last stage")
        is_trained = not self.frozen_stages or self.backbone_weights is not None
        accepted = "0 without `backbone_weights` to begin from"
        check_field(self, "frozen_stages", is_trained, accepted)
        accepted = "False without `backbone_weights` to begin from"
        has_statistics = not self.frozen_bn or self.backbone_weights is not None
        check_field(self, "frozen_bn", has_statistics, accepted)
        short, long = self.detector.short, self.detector.long
        check_argument("short", short, short >= SMALLEST, f"pixels, at least {SMALLEST}")
        check_argument("long", long, long >= short, f"pixels, at least short={short}")
        within = all(SMALLEST <= side <= long for side in self.short_sides)
        accepted = f"pixels from {SMALLEST} to long={long}"
        check_field(self, "short_sides", within, accepted)

    @property
    def weights(self) -> str | None:
        """What the network begins from."""
        return self.backbone_weights

    @property
    def decoupled(self) -> bool:
        """Whether the decay is the optimizer's."""
        return self.optimizer == "adamw"

    @property
    def warmup_rate(self) -> float:
        """The rate at which the warm-up begins."""
        return self.warmup_from * self.learning_rate

    def count_warmup_steps(self, steps_per_epoch: int) -> int:
        return self.warmup_steps

    @property
    def sampling(self) -> Sampling:
        """Which anchors and proposals are trained on."""
        (anchors, anchors_matched), (rois, rois_matched) = self.anchor_samples, self.box_samples
        low, high = self.anchor_overlap
        return Sampling(
            anchors=int(anchors),
            anchors_matched=float(anchors_matched),
            anchors_overlap=(float(low), float(high)),
            rois=int(rois),
            rois_matched=float(rois_matched),
            rois_overlap=self.box_overlap,
            straddling=self.straddling,
            beta=self.box_beta,
        )

    def flat(self) -> dict[str, Any]:
        """All fields by name, those of the detector too: what flags and messages name."""
        own = {name: value for name, value in vars(self).items() if name != "detector"}
        detector = {name: v for name, v in vars(self.detector).items() if name != "anchors"}
        anchors = self.detector.anchors
        return own | detector | {name: getattr(anchors, n) for name, n in OF_ANCHORS.items()}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Recipe":
        """The recipe whose `dataclasses.asdict` was written as JSON; fields that are not there have
        their defaults.
        """
        own = with_tuples(fields)
        if own.get("se") is not None:
            own["se"] = SE(**own["se"])
        if "detector" in own:
            detector = with_tuples(own["detector"])
            detector["anchors"] = Anchors(**with_tuples(detector["anchors"]))
            own["detector"] = FasterRCNN(**detector)
        return cls(**own)

    def override(self, **fields: Any) -> "Recipe":
        """The same recipe with some of the flat fields changed; `result` becomes "not run" if any
        does.
        """
        given = dict(fields)
        anchors = {OF_ANCHORS[name]: given.pop(name) for name in OF_ANCHORS if name in given}
        names = [each.name for each in dataclasses.fields(FasterRCNN) if each.name in given]
        changes = {name: given.pop(name) for name in names}
        detector = given.pop("detector", self.detector)
        if anchors:
            changes["anchors"] = dataclasses.replace(detector.anchors, **anchors)
        detector = dataclasses.replace(detector, **changes)
        changed = dataclasses.replace(self, detector=detector, **given)
        return self if changed == self else dataclasses.replace(changed, result="not run")

    def describe_rate(self, batch_size: int) -> str | None:
        """What the linear rule says of this recipe's learning rate for batches of another size, a
        line of text; None for its own size.

        Source: Goyal et al., arXiv 1706.02677.
        """
        if batch_size == self.batch_size:
            return None
        rate = self.learning_rate * batch_size / self.batch_size
        steps = round(self.warmup_steps * self.batch_size / batch_size)
        return (
            f"the learning rate {self.learning_rate:g} is for batches of {self.batch_size} images; "
            f"for {batch_size} the linear rule says --learning-rate {rate:.3g} "
            f"--warmup-steps {steps}"
        )


def _is_samples(value):
    return (
        len(value) == 2
        and 1 <= value[0] <= MOST
        and value[0] % 1 == 0
        and value[1] <= 1 <= value[0] * value[1]
    )


SAMPLES = (
    _is_samples,
    f"a whole number from 1 to {MOST}, and a fraction of at most 1, of at least one sample",
)
FIELDS = {name: BOUNDS[name] for name in BOUNDS if name in Recipe.__dataclass_fields__} | {
    "dataset": (bool, "a dataset's name, or a folder or file of COCO"),
    "frozen_stages": BOUNDS["head_epochs"],
    "anchor_samples": SAMPLES,
    "box_samples": SAMPLES,
    "anchor_overlap": (
        lambda v: len(v) == 2 and 0 < v[0] <= v[1] <= 1,
        "two rising numbers above 0 and at most 1",
    ),
    "box_overlap": ((lambda v: 0 < v <= 1), "above 0 and at most 1"),
    "box_beta": ABOVE_0,
    "warmup_steps": BOUNDS["head_epochs"],
    "warmup_from": ((lambda v: 0 <= v <= 1), "from 0 to 1"),
    "bias_rate": ABOVE_0,
}
