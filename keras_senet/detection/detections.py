"""What a detector finds in an image."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from keras_senet.detection import boxes as box


class Detections(NamedTuple):
    """What was found in an image, the most certain first.

    boxes    float32 (N, 4): x1, y1, x2, y2 in pixels of the image
    scores   float32 (N,): probabilities
    classes  int64 (N,): 0, 1, ...
    names    the classes' names
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    names: list[str]


def to_detections(outputs, factor, class_names: Sequence[str]) -> Detections:
    """The `Detections` of the arrays that `Detector.function` returns; `factor` is how much larger
    the image is than in the canvas, (vertically, horizontally).
    """
    found = int(outputs["count"])
    classes = outputs["classes"][:found].astype("int64")
    return Detections(
        box.scale(outputs["boxes"][:found], factor).numpy(),
        outputs["scores"][:found],
        classes,
        [class_names[each] for each in classes],
    )
