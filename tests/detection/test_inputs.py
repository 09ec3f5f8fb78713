"""What is given to a detector as images: one clear error for all that is not of 0..255."""

import math

import little_scenes
import numpy as np
import pytest
import tensorflow as tf
from eager import run_eagerly

from keras_senet import detection
from keras_senet.detection.canvas import MARGIN, read_image
from keras_senet.export.detector import ExportedDetector

NOISE = np.random.default_rng(0).integers(0, 256, (40, 48, 3), "uint8")
ACCEPTED = r"An image must be a file or an array \(H, W, 3\) of 0..255. Received: "


@pytest.fixture(scope="module")
def exported():
    """What runs a file, whose calls no image of this module may reach."""
    about = {
        "class_names": ["a"],
        "preprocessing": {"mean": [0.0] * 3, "std": [1.0] * 3},
        "detector": {"canvases": [[64, 64]], "short": 64, "long": 64},
    }
    return ExportedDetector("onnx", about, {})


@pytest.fixture(params=["keras", "file"])
def any_detector(request, detector, exported):
    return {"keras": detector, "file": exported}[request.param]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (NOISE / np.float32(255), ACCEPTED + "an array of 0..1, which look like 0..1$"),
        (NOISE / 127.5 - 1, ACCEPTED + "an array of -1..1$"),
        (NOISE / 50 - 0.2, ACCEPTED + "an array of -0.2..4.9$"),
        (NOISE - 110.0, ACCEPTED + "an array of -110..145$"),
        (NOISE * 1.2, ACCEPTED + "an array of 0..306$"),
        (np.full((40, 48, 3), np.nan), ACCEPTED + "an array with values that are not finite"),
        (np.full((40, 48, 3), np.inf, "float16"), ACCEPTED + "an array with values that are not"),
        (NOISE.astype("uint16") * 257, ACCEPTED + "an array of 0..65535$"),
        (NOISE.astype("int32") - 300, ACCEPTED + "an array of -300..-45$"),
        (NOISE.astype(object), ACCEPTED + "an array of dtype object$"),
        (NOISE > 100, ACCEPTED + "an array of dtype bool$"),
        (NOISE.astype(complex), ACCEPTED + "an array of dtype complex128$"),
        (NOISE.astype(str), ACCEPTED + "an array of dtype <U"),
        (NOISE[..., 0], ACCEPTED + r"an array of shape \(40, 48\)$"),
        (NOISE[..., :1], ACCEPTED + r"an array of shape \(40, 48, 1\)$"),
        (NOISE[None], ACCEPTED + r"an array of shape \(1, 40, 48, 3\)$"),
        (np.uint8(3), ACCEPTED + r"an array of shape \(\)$"),
        (NOISE.tolist(), ACCEPTED + "<class 'list'>$"),
        (None, ACCEPTED + "<class 'NoneType'>$"),
        (NOISE[:0, :0], "at least 32 pixels on each side. Received: 0 x 0 pixels$"),
        (NOISE[:, :31], "at least 32 pixels on each side. Received: 31 x 40 pixels$"),
    ],
    ids=str,
)
def test_what_is_no_image_of_0_to_255_is_refused(any_detector, image, message):
    with pytest.raises(ValueError, match=message) as caught:
        next(any_detector.detect([image]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("images", ["a.png", NOISE, None, 3])
def test_one_image_is_not_several(any_detector, images):
    """Said at once, and not when the first image is asked for."""
    with pytest.raises(ValueError, match="`images` must be several images, each a path or an"):
        any_detector.detect(images)


def test_a_canvas_is_checked_at_once(detector):
    with pytest.raises(ValueError, match="`canvas` must be"):
        detector.detect([], (33, 64))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"canonical": math.inf}, "`canonical` must be above 0. Received: canonical=inf"),
        ({"most": 10**12}, "`most` must be from 1 to 100000. Received: most=1000000000000"),
        ({"proposals": (5, 10**10)}, "`proposals` must be two numbers from 1 to 100000"),
        ({"hidden": (10**9,)}, "`hidden` must be numbers of units, from 1 to 100000"),
    ],
)
def test_what_no_detector_can_have_is_said(fields, message):
    with pytest.raises(ValueError, match=message):
        detection.FasterRCNN(**fields)


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0])
def test_anchors_are_finite(value):
    with pytest.raises(ValueError, match="`sizes` must be five numbers above 0, of P2 to P6"):
        detection.Anchors((1, value, 2, 3, 4))
    with pytest.raises(ValueError, match="`ratios` must be numbers above 0"):
        detection.Anchors(ratios=(1, value))


def backbone(**options):
    return little_scenes.NETWORK(weights=None, **options)


@pytest.mark.parametrize(
    ("options", "names", "message"),
    [
        ({"classes": 5}, "ab", r"without a classifier or pooling, .* the shape \(None, 5\)$"),
        ({"include_top": False, "pooling": "avg"}, "ab", "without a classifier or pooling, by "),
        ({"include_top": False}, ["a", "a"], r"different names, .* class_names=\['a', 'a'\]$"),
        ({"include_top": False}, ["", ""], "`class_names` must be different names, at least one"),
        ({"include_top": False}, [], "different names, at least one. Received: class_names=.."),
        ({"include_top": False}, [1, 2], r"different names, .* Received: class_names=\[1, 2\]$"),
        ({"include_top": False}, None, "different names, .* Received: class_names=None$"),
    ],
    ids=str,
)
def test_what_makes_no_detector_is_said(options, names, message):
    names = list(names) if isinstance(names, str) else names
    with pytest.raises(ValueError, match=message) as caught:
        little_scenes.DETECTOR(backbone(**options), names)
    assert "\n" not in str(caught.value)


def test_one_name_is_not_several():
    with pytest.raises(ValueError, match="different names, .* Received: class_names='cat'$"):
        little_scenes.DETECTOR(backbone(include_top=False), "cat")


def test_a_backbone_for_one_size_takes_one_canvas():
    fixed = little_scenes.DETECTOR(backbone(include_top=False, input_shape=(64, 64, 3)), ["a"])
    for canvas, given in ((None, "None"), ((64, 96), r"\(64, 96\)")):
        message = rf"size that the backbone takes, \(64, 64\). Received: {given}$"
        with pytest.raises(ValueError, match=message):
            fixed.detect([NOISE], canvas)
    with run_eagerly():
        assert len(list(fixed.detect([NOISE], (64, 64)))) == 1


@pytest.mark.parametrize(
    "same",
    [
        lambda x: x.astype("float64"),
        lambda x: x.astype("float16"),
        lambda x: x.astype("int64"),
        lambda x: x.astype(">u2"),
        tf.constant,
        lambda x: x.copy(order="F"),
    ],
)
def test_0_to_255_is_taken_in_any_dtype(detector, oracle, same):
    image = oracle["image0"]
    expected, found = detector.detect([image, same(image)])
    assert len(expected.scores)
    for one, other in zip(expected[:3], found[:3], strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_a_cubic_filter_overshoots_is_clipped(detector, oracle):
    """As a conversion to uint8 does, and the values of a file are."""
    image = tf.image.resize(oracle["image0"], (96, 120), "bicubic").numpy()
    assert -MARGIN < image.min() < 0
    assert 255 < image.max() < 255 + MARGIN
    expected, found = detector.detect([np.clip(image, 0, 255), image])
    assert len(expected.scores)
    for one, other in zip(expected[:3], found[:3], strict=True):
        np.testing.assert_array_equal(one, other)
    whole = np.int16([[[-4, 0, 258]]])
    np.testing.assert_array_equal(read_image(np.tile(whole, (32, 32, 1)))[0, 0], [0, 0, 255])


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_black_image_is_one(detector, value):
    assert len(list(detector.detect([np.full((40, 48, 3), value)]))) == 1


def test_another_score_changes_how_many_are_found(detector, oracle):
    images = [oracle["image0"]]
    with run_eagerly():
        (every,) = detector.detect(images)
        changed = {
            x: next(detector.with_score(0.6).with_score(x).detect(images)) for x in (0.5, 0.4)
        }
    for score, found in changed.items():
        kept = every.scores > score
        assert 0 < kept.sum() < len(kept)
        np.testing.assert_array_equal(found.scores, every.scores[kept])
        np.testing.assert_array_equal(found.boxes, every.boxes[kept])
