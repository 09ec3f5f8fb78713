"""What a detector is, and what it is trained on: plain data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_senet.detection.anchors import Anchors
from keras_senet.fields import check_field, require_types

if TYPE_CHECKING:
    import keras

    from keras_senet.detection.faster_rcnn import Detector

MOST = 100_000  # of each count: what is above takes all memory, or is no integer of TensorFlow's


@dataclass(frozen=True)
class FasterRCNN:
    """A detector on a backbone with feature maps at strides 4 to 32. Called, it returns a
    `Detector`.

    channels            of the pyramid's maps
    anchors             an `Anchors`
    hidden              units of the layers of the box head
    pool_side           height and width of a pooled box
    pool_points         samples of a bin, along each axis
    canonical           pixels: a box with this side is pooled from P4
    proposals           per level before suppression, and per image after it
    train_proposals     the same in training
    proposal_overlap    IoU above which the lesser of two proposals is dropped
    score               detections have more
    overlap             IoU above which the lesser of two detections of a class is dropped
    most                detections per image
    short, long         pixels: the shorter side of an image is resized to `short`, or less where
                        the longer one would get more than `long`

    The defaults are torchvision's `fasterrcnn_resnet50_fpn`. Source: Ren et al., arXiv 1506.01497;
    Lin et al., arXiv 1612.03144.

    Raises:
        ValueError: for any other value, naming the field, the value and what is accepted.
    """

    channels: int = 256
    anchors: Anchors = Anchors()
    hidden: tuple[int, ...] = (1024, 1024)
    pool_side: int = 7
    pool_points: int = 2
    canonical: float = 224.0
    proposals: tuple[int, int] = (1000, 1000)
    train_proposals: tuple[int, int] = (2000, 2000)
    proposal_overlap: float = 0.7
    score: float = 0.05
    overlap: float = 0.5
    most: int = 100
    short: int = 800
    long: int = 1333

    def __post_init__(self):
        require_types(self)
        for name in ("channels", "pool_side", "pool_points", "most", "short", "long"):
            check_field(self, name, _is_count(getattr(self, name)), f"from 1 to {MOST}")
        check_field(self, "canonical", 0 < self.canonical < math.inf, "above 0")
        fits = self.hidden and all(map(_is_count, self.hidden))
        check_field(self, "hidden", fits, f"numbers of units, from 1 to {MOST}")
        for name in ("proposals", "train_proposals"):
            value = getattr(self, name)
            fits = len(value) == 2 and all(map(_is_count, value))
            check_field(self, name, fits, f"two numbers from 1 to {MOST}")
        for name in ("proposal_overlap", "score", "overlap"):
            check_field(self, name, 0 <= getattr(self, name) < 1, "from 0 to below 1")

    def __call__(self, backbone: "keras.Model", class_names: Sequence[str]) -> "Detector":
        from keras_senet.detection.faster_rcnn import Detector

        return Detector(self, backbone, class_names)


@dataclass(frozen=True)
class Sampling:
    """Which anchors and proposals of an image are trained on.

    anchors         how many per image
    anchors_matched the largest fraction of them that belong to a box
    anchors_overlap IoU below which an anchor is background, and from which it belongs to a box
    rois            how many proposals per image
    rois_matched    the largest fraction of them that belong to a box
    rois_overlap    IoU from which a proposal belongs to a box; below it is background
    straddling      whether anchors that cross the image's border are trained on (torchvision; in
                    Detectron not)
    beta            where the loss of boxes turns from square to linear; Detectron: 1 in the head
    """

    anchors: int = 256
    anchors_matched: float = 0.5
    anchors_overlap: tuple[float, float] = (0.3, 0.7)
    rois: int = 512
    rois_matched: float = 0.25
    rois_overlap: float = 0.5
    straddling: bool = True
    beta: float = 1 / 9

    def __post_init__(self):
        require_types(self)
        for name in ("anchors", "rois"):
            check_field(self, name, _is_count(getattr(self, name)), f"from 1 to {MOST}")
        for name in ("anchors_matched", "rois_matched", "rois_overlap"):
            check_field(self, name, 0 < getattr(self, name) <= 1, "above 0 and at most 1")
        low, high = self.anchors_overlap
        check_field(self, "anchors_overlap", 0 < low <= high <= 1, "rising, above 0, at most 1")
        check_field(self, "beta", 0 < self.beta < math.inf, "above 0")


def _is_count(value):
    return 1 <= value <= MOST
