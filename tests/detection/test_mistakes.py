"""Mistakes of a detector: one of each kind, and pycocotools' matches on the oracle's images."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from keras_senet.detection import Detections
from keras_senet.detection.data.truths import make_truth
from keras_senet.detection.mistakes import KINDS, find_mistakes

ORACLE = np.load(Path(__file__).parent / "oracle" / "coco_eval.npz")


def detected(*rows):
    """Detections of (box, class, score)."""
    boxes, classes, scores = zip(*rows, strict=True) if rows else ((), (), ())
    return Detections(
        np.array(boxes, "float32").reshape(-1, 4),
        np.array(scores, "float32"),
        np.array(classes, "int64"),
        [f"class {label}" for label in classes],
    )


def test_each_kind():
    square, other, crowd = (0, 0, 10, 10), (20, 0, 30, 10), (50, 50, 90, 90)
    lost, small = (0, 60, 20, 80), (0, 40, 5, 45)
    truth = make_truth(
        [
            (square, 0, 100, False),
            (other, 1, 100, False),
            (crowd, 1, 1600, True),
            (small, 2, 25, False),
            (lost, 2, 400, False),
        ]
    )
    found = detected(
        (square, 0, 0.9),
        ((0, 0, 10, 9), 0, 0.8),  # IoU 0.9 with the square, which is taken
        (other, 0, 0.7),
        ((20, 0, 30, 3), 1, 0.6),  # IoU 0.3
        ((100, 100, 110, 110), 1, 0.5),
        ((60, 60, 70, 70), 1, 0.4),  # in the crowd of its class
        ((60, 60, 70, 70), 0, 0.3),
    )
    mistakes = find_mistakes([found], [truth])
    assert [(each.kind, round(each.score, 2)) for each in mistakes] == [
        ("found twice", 0.8),
        ("wrong class", 0.7),
        ("poor box", 0.6),
        ("background", 0.5),
        ("background", 0.3),
        ("missed", 0),
        ("missed", 0),
    ]
    assert {each.kind for each in mistakes} == set(KINDS)
    twice, wrong, poor, nothing, _, largest, last = mistakes
    assert (twice.label, twice.truth_label, round(twice.overlap, 2)) == (0, 0, 0.9)
    assert (wrong.label, wrong.truth_label, wrong.overlap) == (0, 1, 1)
    assert (poor.truth.tolist(), round(poor.overlap, 2)) == (list(other), 0.3)
    assert (nothing.truth, nothing.truth_label) == (None, -1)
    assert (largest.truth.tolist(), last.truth.tolist()) == (list(lost), list(small))
    assert (largest.box, largest.label, largest.truth_label) == (None, -1, 2)


def test_nothing_is_found_or_there():
    empty, one = make_truth([]), make_truth([((0, 0, 9, 9), 0, 81, False)])
    assert find_mistakes([detected()], [empty]) == []
    assert [each.kind for each in find_mistakes([detected()], [one])] == ["missed"]
    background = find_mistakes([detected(((0, 0, 9, 9), 0, 0.5))], [empty])
    assert [each.kind for each in background] == ["background"]


def test_the_most_certain_detection_chooses_first():
    truth = make_truth([((0, 0, 10, 10), 0, 100, False)])
    worse, better = ((0, 0, 10, 6), 0, 0.9), ((0, 0, 10, 10), 0, 0.8)
    (mistake,) = find_mistakes([detected(better, worse)], [truth])
    assert round(mistake.score, 1) == 0.8


def test_what_is_no_mistake_is_what_pycocotools_matches():
    """At an IoU of 0.5, over the oracle's images, among them crowds."""
    content = json.loads(str(ORACLE["truth_json"]))
    rows = ORACLE["detections"].tolist()
    names = sorted({each["id"] for each in content["categories"]})
    ids = [each["id"] for each in content["images"]]
    found, truths = [], []
    for number in ids:
        own = sorted((row for row in rows if row[0] == number), key=lambda row: -row[-1])
        found.append(
            detected(
                *(
                    ((x, y, x + w, y + h), names.index(int(c)), score)
                    for _, c, x, y, w, h, score in own
                )
            )
        )
        boxes = [each for each in content["annotations"] if each["image_id"] == number]
        truths.append(
            make_truth(
                [
                    (
                        (x, y, x + w, y + h),
                        names.index(each["category_id"]),
                        each["area"],
                        bool(each["iscrowd"]),
                    )
                    for each in boxes
                    for x, y, w, h in [each["bbox"]]
                ]
            )
        )
    mistakes = find_mistakes(found, truths)
    wrong = Counter(each.image for each in mistakes if each.box is not None)

    coco = COCO()
    coco.dataset = {"info": {}, **content}
    coco.createIndex()
    results = [
        {"image_id": int(i), "category_id": int(c), "bbox": [x, y, w, h], "score": s}
        for i, c, x, y, w, h, s in rows
    ]
    evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
    evaluation.params.areaRng = evaluation.params.areaRng[:1]
    evaluation.evaluate()
    unmatched = Counter()
    for each in filter(None, evaluation.evalImgs):
        unmatched[ids.index(each["image_id"])] += int((each["dtMatches"][0] == 0).sum())
    assert sum(wrong.values()) > 20
    assert +wrong == +unmatched
