"""Detectors in files, and images with boxes in COCO's."""

import json

import numpy as np
import pytest
from eager import run_eagerly

from keras_senet import detection
from keras_senet.detection.data.scenes import load_scenes, write_scenes
from keras_senet.detection.evaluation import to_results


def test_a_detector_is_saved_and_loaded(detector, oracle, tmp_path):
    detection.save(detector, tmp_path / "detector.safetensors")
    again = detection.load(tmp_path / "detector.safetensors")
    assert again.spec == detector.spec
    assert again.class_names == detector.class_names
    images = [oracle["image0"], oracle["image1"]]
    with run_eagerly():
        found, expected = list(again.detect(images)), list(detector.detect(images))
    for own, other in zip(found, expected, strict=True):
        for name in ("boxes", "scores", "classes"):
            np.testing.assert_array_equal(getattr(own, name), getattr(other, name))
        assert own.names == other.names


def test_other_files_are_refused(detector, tmp_path):
    with pytest.raises(ValueError, match="`path` must end in one of .safetensors"):
        detection.save(detector, tmp_path / "detector.h5")
    with pytest.raises(OSError, match="a.safetensors. cannot be written: No such file"):
        detection.save(detector, tmp_path / "gone" / "a.safetensors")
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3, "float32")}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="holds no detector"):
        detection.load(tmp_path / "other.safetensors")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A folder of few scenes."""
    folder = tmp_path_factory.mktemp("scenes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detection.data.scenes, "COUNTS", {"train": 30, "test": 3})
        write_scenes(folder)
    return folder


def test_scenes_are_read_as_they_were_written(scenes):
    read = detection.load_coco(scenes / "train.json")
    own = load_scenes("train", 30)
    assert len(read) == 30
    assert read.class_names == own.class_names == tuple("0123456789")
    assert read.categories == tuple(range(1, 11))
    empty = sum(not len(truth.boxes) for truth in own.truths)
    assert empty > 0
    assert read.notes == [f"images without boxes: {empty}"]
    for a, b in zip(read.truths, own.truths, strict=True):
        for one, other in zip(a, b, strict=True):
            np.testing.assert_array_equal(one, other)


def test_scenes_follow_from_the_seed():
    first, again, other = (load_scenes("test", 2, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.images[1], again.images[1])
    assert first.images[1].shape != other.images[1].shape or (
        (first.images[1] != other.images[1]).any()
    )


def test_boxes_of_scenes_are_within_their_image():
    """They are within the image, and at least as large as a thin digit of 16 pixels."""
    scene = load_scenes("train", 8)
    for image, truth in zip(scene.images, scene.truths, strict=True):
        height, width = image.shape[:2]
        x1, y1, x2, y2 = truth.boxes.T if len(truth.boxes) else np.zeros((4, 0))
        assert np.minimum(x1, y1).min(initial=0) == 0
        assert (x2 <= width).all()
        assert (y2 <= height).all()
        assert np.minimum(x2 - x1, (y2 - y1) / 2).min(initial=3) >= 3


def change(scenes, tmp_path, edit):
    """A JSON file beside the scenes with an edit to its content."""
    content = json.loads((scenes / "test.json").read_text())
    edit(content)
    file = scenes / f"{tmp_path.name}.json"
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.pop("images"), "not a JSON file of COCO: there is no 'images'"),
        (lambda c: c["annotations"].clear(), "has no boxes in its 3 images"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, float("nan"), 3]), "not four numbers"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), "not four numbers"),
        (lambda c: c["annotations"][0].update(bbox="1234"), "not four numbers"),
        (lambda c: c["annotations"][0].update(category_id=99), "a box of category 99, which is"),
        (lambda c: c["annotations"][0].update(image_id=99), "a box of image 99, which is not"),
        (lambda c: c["images"][1].update(file_name="no.png"), "an image that cannot be read"),
        (lambda c: c["images"][0].update(file_name="no.png"), "'no.png' of .* is in none of"),
        (lambda c: c["images"][1].update(id=c["images"][0]["id"]), "two images of the number"),
        (lambda c: c["categories"].clear(), "has no categories"),
        (lambda c: c["images"].clear(), "has no images"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(scenes, tmp_path, edit, message):
    with pytest.raises(ValueError, match=message):
        detection.load_coco(change(scenes, tmp_path, edit))


def test_a_file_that_is_not_json(tmp_path):
    (tmp_path / "a.json").write_text("[1, 2")
    with pytest.raises(ValueError, match="is not a JSON file of COCO"):
        detection.load_coco(tmp_path / "a.json")


def test_boxes_at_the_border_are_cut_and_those_without_area_left_out(scenes, tmp_path):
    def edit(content):
        content["annotations"][0]["bbox"] = [-5, -5, 20, 30]
        content["annotations"][1]["bbox"] = [10, 10, 0, 5]
        content["annotations"][2] |= {"bbox": [2, 2, 9, 9], "iscrowd": 1, "area": 7}

    read = detection.load_coco(change(scenes, tmp_path, edit))
    boxes = np.concatenate([truth.boxes for truth in read.truths])
    assert [0, 0, 15, 25] in boxes.tolist()
    notes = " ".join(read.notes)
    assert "boxes without an area in their image, left out: 1" in notes
    assert "boxes cut at the border of their image: 1" in notes
    (crowd,) = np.flatnonzero(np.concatenate([truth.crowds for truth in read.truths]))
    assert np.concatenate([truth.areas for truth in read.truths])[crowd] == 7


def test_a_detector_of_truths_has_an_ap_of_one(scenes):
    read = detection.load_coco(scenes / "test.json")
    found = [
        detection.Detections(
            t.boxes, np.ones(len(t.boxes), "float32"), t.classes, [str(c) for c in t.classes]
        )
        for t in read.truths
    ]
    results = to_results(found, read.ids, read.categories)
    score = detection.evaluation.compute(read.to_coco(), results)
    assert score.figures["AP"] == pytest.approx(1)


def test_a_file_that_cannot_be_decoded_is_named(detector, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match="Not an image that can be decoded: .*photo.jpg"):
        next(detector.detect([tmp_path / "photo.jpg"]))
    with pytest.raises(FileNotFoundError):
        next(detector.detect([tmp_path / "gone.jpg"]))
