"""Average precision of COCO: the oracle's 25 images."""

import json
from pathlib import Path

import numpy as np
import pytest

from keras_senet.detection import BoxedImages, evaluate
from keras_senet.detection.data.truths import make_truth
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
    truth = json.loads(str(ORACLE["truth_json"]))
    found = compute(truth, [])
    assert set(found.figures.values()) == set(found.by_class.values()) == {0.0}
    truth["categories"].append({"id": 99, "name": "none of them"})
    assert np.isnan(compute(truth, []).by_class["none of them"])


def test_a_perfect_result_is_one():
    truth = json.loads(str(ORACLE["truth_json"]))
    rows = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 1}
        for a in truth["annotations"]
        if not a["iscrowd"]
    ]
    assert compute(truth, rows).figures["AP"] == pytest.approx(1)


def test_numbers_that_numpy_would_round_are_told_apart():
    """With a negative one, NumPy makes floats of those above 63 bits."""
    large, negative = 2**63 + 1, -3
    box = {"bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}
    annotations = [
        {"id": 1, "image_id": large, "category_id": negative, **box},
        {"id": 2, "image_id": negative, "category_id": large, **box},
    ]
    truth = {
        "images": [{"id": large}, {"id": negative}],
        "annotations": annotations,
        "categories": [{"id": large, "name": "a"}, {"id": negative, "name": "b"}],
    }
    results = [{**each, "score": 1.0} for each in annotations]
    assert compute(truth, results).by_class == {"a": pytest.approx(1), "b": pytest.approx(1)}
    assert compute(truth, results[:1]).by_class == {"a": 0, "b": pytest.approx(1)}


def images_of(detector, class_names, label, categories):
    """One image, and as the truth in it what the detector finds with `label`."""
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), "uint8")
    (found,) = detector.detect([image])
    boxes = found.boxes[found.classes == label][:1]
    assert len(boxes)
    number = class_names.index(detector.class_names[label])
    truth = make_truth([(boxes[0].tolist(), number, 500.0, False)])
    names = tuple(class_names)
    return BoxedImages([image], [(60, 90)], [truth], names, [5], categories)


def test_classes_may_have_another_order_and_numbers_that_are_none(detector, monkeypatch):
    """As COCO's 80 classes, and the 90 places of torchvision's detector."""
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), "uint8")
    (found,) = detector.detect([image])
    label = int(found.classes[0])
    monkeypatch.setattr(detector, "class_names", ("a", "", "c", "d", "e"))
    label = label if label != 1 else int(found.classes[found.classes != 1][0])
    same = evaluate(detector, images_of(detector, "acde", label, (1, 2, 3, 4)))
    other = evaluate(detector, images_of(detector, "edca", label, (7, 9, 11, 20)))
    name = detector.class_names[label]
    assert same.by_class[name] == other.by_class[name] > 0
    assert set(other.by_class) == set("acde")
    with pytest.raises(ValueError, match="has 4 classes, the images 3. Only one of both has: a"):
        evaluate(detector, images_of(detector, "cde", max(label, 2), (1, 2, 3)))


def test_images_that_cannot_be_used_are_left_out_if_asked(detector, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), "uint8")
    (found,) = detector.detect([image])
    truth = make_truth([(found.boxes[0].tolist(), int(found.classes[0]), 500.0, False)])
    (tmp_path / "bad.png").write_bytes(b"text")
    names, categories = tuple(detector.class_names), tuple(range(1, 6))
    one = BoxedImages([image], [(60, 90)], [truth], names, [1], categories)
    two = BoxedImages(
        [tmp_path / "bad.png", image], [(60, 90)] * 2, [truth] * 2, names, [1, 2], categories
    )
    with pytest.raises(ValueError, match=r"bad\.png"):
        evaluate(detector, two)
    assert evaluate(detector, two, skip_corrupt=True).by_class == pytest.approx(
        evaluate(detector, one).by_class, nan_ok=True
    )


def test_images_are_taken_when_they_are_asked_for():
    """Those of records are decoded then: a divided dataset of these holds none."""

    class Records(list):
        def __getitem__(self, index):
            taken.append(index)
            return super().__getitem__(index)

    taken = []
    image = np.zeros((40, 48, 3), "uint8")
    truth = make_truth([((1, 2, 30, 30), 0, 500.0, False)])
    count = 4
    images = BoxedImages(
        Records([image] * count), [(40, 48)] * count, [truth] * count, ("a",), [1, 2, 3, 4], (1,)
    )
    some = images.subset([3, 1, 2]).subset(np.array([1, 2]))
    assert not taken
    assert (len(some), some.ids) == (2, [2, 3])
    some.read(1)
    assert taken == [2]


def test_an_image_is_evaluated_on_its_own_canvas(detector):
    """Other images, which are larger, change nothing."""
    random = np.random.default_rng(1)
    images = [random.integers(0, 256, size, "uint8") for size in ((60, 90, 3), (128, 70, 3))]
    together = list(detector.detect(images))
    for image, found in zip(images, together, strict=True):
        (alone,) = detector.detect([image])
        for name in ("boxes", "scores", "classes"):
            np.testing.assert_array_equal(getattr(found, name), getattr(alone, name))
