"""What a detector got wrong, and how: by kinds after Bolya et al., arXiv 2008.08115 (TIDE)."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from keras_senet.detection import boxes as box
from keras_senet.detection.detections import Detections

FOUND, TOUCHED = 0.5, 0.1  # IoU from which a box is right, and from which it is of an object at all
# The kinds of mistakes, and what they mean
KINDS = {
    "wrong class": f"on an object, IoU of at least {FOUND}, but of another class",
    "poor box": f"of an object, but with an IoU of {TOUCHED} to {FOUND} only",
    "found twice": "a second box on an object that a more certain one has found",
    "background": f"on no object: every IoU is below {TOUCHED}",
    "missed": f"an object that no detection touches, with an IoU of at least {TOUCHED}",
}


class Mistake(NamedTuple):
    """A detection that is wrong, or an object that was missed.

    kind        one of `KINDS`
    image       the index of its image
    box         float32 (4,) of the detection, x1, y1, x2, y2 in pixels of the image; None: missed
    label       the class that was detected, or -1
    score       of the detection, or 0
    truth       float32 (4,) of the object that the detection overlaps most, or that was missed;
                None for background
    truth_label its class, or -1
    overlap     the IoU of both boxes
    """

    kind: str
    image: int
    box: np.ndarray | None
    label: int
    score: float
    truth: np.ndarray | None
    truth_label: int
    overlap: float


def find_mistakes(found: Sequence[Detections], truths: Sequence) -> list[Mistake]:
    """All mistakes in images, whose `Truth`s these are: the most confident detections first, then
    what was missed, the largest first.

    As for average precision, the most certain detections of an image choose their objects first,
    among those of their class; what lies in a crowd of its class does not count.
    """
    mistakes = []
    for index, (detections, truth) in enumerate(zip(found, truths, strict=True)):
        mistakes += _judge(index, detections, truth)

    def rank(mistake):
        if mistake.box is not None:
            return -mistake.score, 0.0
        x1, y1, x2, y2 = mistake.truth.tolist()
        return 1.0, -(x2 - x1) * (y2 - y1)

    return sorted(mistakes, key=rank)


def _judge(index, found, truth) -> Iterator[Mistake]:
    """The mistakes in an image."""
    is_object = ~truth.crowds
    objects, labels = truth.boxes[is_object], truth.classes[is_object]
    overlaps = box.iou(found.boxes, objects).numpy()
    in_crowd = _in_crowd(found, truth)
    taken, touched = np.zeros(len(objects), bool), np.zeros(len(objects), bool)
    for i in np.argsort(-found.scores, kind="stable"):
        row = overlaps[i]
        own = np.where((labels == found.classes[i]) & ~taken, row, 0)
        if own.max(initial=0) >= FOUND:
            taken[own.argmax()] = True
            continue
        if in_crowd[i]:
            continue
        kind, best = _kind_of(row, labels == found.classes[i])
        on_object = kind != "background"
        if on_object:
            touched[best] = True
        yield Mistake(
            kind,
            index,
            found.boxes[i],
            int(found.classes[i]),
            float(found.scores[i]),
            objects[best] if on_object else None,
            int(labels[best]) if on_object else -1,
            float(row[best]) if len(row) else 0.0,
        )
    for i in np.flatnonzero(~taken & ~touched):
        yield Mistake("missed", index, None, -1, 0.0, objects[i], int(labels[i]), 0.0)


def _kind_of(overlaps, is_own):
    """The kind of a detection that is not right, and the object that it is about: one of its own
    class where that decides.
    """
    own = np.where(is_own, overlaps, 0)
    if own.max(initial=0) >= FOUND:
        return "found twice", own.argmax()
    if overlaps.max(initial=0) >= FOUND:
        return "wrong class", overlaps.argmax()
    if overlaps.max(initial=0) >= TOUCHED:
        return "poor box", (own if own.max() >= TOUCHED else overlaps).argmax()
    return "background", overlaps.argmax() if len(overlaps) else -1


def _in_crowd(found, truth):
    """Whether at least half of each detection lies in a crowd of its class."""
    crowds, labels = truth.boxes[truth.crowds], truth.classes[truth.crowds]
    a, b = found.boxes[:, None], crowds[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.maximum(sides, 0).prod(-1)
    part = common / np.maximum(box.area(found.boxes).numpy()[:, None], 1e-9)
    return ((part >= FOUND) & (labels[None] == found.classes[:, None])).any(axis=1)
