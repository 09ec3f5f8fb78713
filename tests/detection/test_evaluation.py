"""Average precision of COCO: the oracle's 25 images."""

import json
from pathlib import Path

import numpy as np
import pytest

from keras_senet.detection.evaluation import FIGURES, compute

ORACLE = np.load(Path(__file__).parent / "oracle" / "coco_eval.npz")


def results_of(rows):
    return [
        {"image_id": int(i), "category_id": int(c), "bbox": [x, y, w, h], "score": s}
        for i, c, x, y, w, h, s in rows.tolist()
    ]


def test_figures_equal_the_oracles():
    found = compute(json.loads(str(ORACLE["truth_json"])), results_of(ORACLE["detections"]))
    expected = np.where(ORACLE["stats"] < 0, np.nan, ORACLE["stats"])
    values = [found.figures[name] for name in FIGURES]
    np.testing.assert_allclose(values, expected, atol=1e-12)
    np.testing.assert_allclose(list(found.by_class.values()), ORACLE["per_class_ap"], atol=1e-12)


def test_without_detections_all_is_zero():
    found = compute(json.loads(str(ORACLE["truth_json"])), [])
    assert set(found.figures.values()) == set(found.by_class.values()) == {0.0}


def test_a_perfect_result_is_one():
    truth = json.loads(str(ORACLE["truth_json"]))
    rows = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 1}
        for a in truth["annotations"]
        if not a["iscrowd"]
    ]
    assert compute(truth, rows).figures["AP"] == pytest.approx(1)
