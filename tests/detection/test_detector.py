"""A whole detector equals torchvision's, step by step.

The oracle is of float64. Maps are of ten convolutions, whose sums of up to 4,608 float32 products
each CPU adds up in its own order: they are equal to 1e-5 of the largest value, and corners, of 128
pixels, to 5e-4.
"""

import numpy as np
import pytest
import tensorflow as tf

from keras_senet.detection.canvas import prepare
from keras_senet.detection.network import PYRAMID


@pytest.fixture(scope="module")
def canvas(oracle, detector):
    images = [oracle["image0"], oracle["image1"]]
    return prepare(images, detector.preprocessing, detector.spec.short, detector.spec.long)


@pytest.fixture(scope="module")
def outputs(detector, canvas):
    return detector.propose_maps(canvas.images, training=False)


def test_images_are_resized_normalised_and_padded(oracle, canvas):
    np.testing.assert_array_equal(canvas.sizes, oracle["sizes"])
    expected = oracle["batch"].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(canvas.images, expected, atol=3e-5)


def test_maps(oracle, outputs):
    for level in PYRAMID[1:]:
        expected = oracle[level].transpose(0, 2, 3, 1)
        np.testing.assert_allclose(outputs[level], expected, atol=1e-4, err_msg=level)
    expected = oracle["P2"].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(outputs["P2"], expected, atol=5e-3)  # stored in float16


def test_logits_and_deltas_of_anchors(oracle, outputs):
    np.testing.assert_allclose(outputs["objectness"], oracle["objectness"], atol=5e-5)
    np.testing.assert_allclose(outputs["deltas"], oracle["deltas"], atol=1e-5)


@pytest.mark.parametrize("index", [0, 1])
def test_proposals(oracle, detector, canvas, outputs, index):
    padded = canvas.images.shape[1:3]
    boxes, scores, count = detector.propose(
        outputs, index, padded, canvas.sizes[index], detector.spec.proposals
    )
    assert count == 60
    np.testing.assert_allclose(boxes, oracle[f"proposals{index}"], atol=5e-4)
    expected = oracle[f"proposal_scores{index}"]
    if expected.min() < 0 or expected.max() > 1:
        expected = 1 / (1 + np.exp(-expected))
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_proposals_are_in_the_order_of_logits_where_all_sigmoids_are_one(detector, canvas, outputs):
    padded, size = canvas.images.shape[1:3], canvas.sizes[0]
    expected = detector.propose(outputs, 0, padded, size, detector.spec.proposals)
    certain = outputs | {"objectness": outputs["objectness"] + 40}
    boxes, scores, _ = detector.propose(certain, 0, padded, size, detector.spec.proposals)
    assert set(scores.numpy()) == {1.0}
    np.testing.assert_allclose(boxes, expected[0])


def test_boxes_are_classified(oracle, detector, outputs):
    rois = np.concatenate([oracle["proposals0"], oracle["proposals1"]])
    images = np.repeat(np.int32([0, 1]), 60)
    classes, deltas = detector.classify(outputs, images, tf.constant(rois))
    np.testing.assert_allclose(classes, oracle["class_logits"], atol=1e-4)
    np.testing.assert_allclose(tf.reshape(deltas, (120, 24)), oracle["box_deltas"], atol=1e-4)


@pytest.mark.parametrize("index", [0, 1])
def test_detections(oracle, detector, canvas, index):
    boxes, scores, classes, count = detector.detect_in_canvas(
        canvas.images[index], canvas.sizes[index]
    )
    shape, size = oracle[f"image{index}"].shape[:2], canvas.sizes[index].numpy()
    factor = np.float64(shape) / size
    found = boxes.numpy() * factor[[1, 0, 1, 0]]
    assert count == 40
    np.testing.assert_array_equal(classes + 1, oracle[f"detected_labels{index}"])
    np.testing.assert_allclose(scores, oracle[f"detected_scores{index}"], atol=3e-5)
    np.testing.assert_allclose(found, oracle[f"detected_boxes{index}"], atol=5e-4)


def test_images_of_any_size_are_detected_by_one_trace(detector, oracle):
    """And as in the canvas of their own size."""
    image = oracle["image0"]
    images = [image, image[:, :40], image[:40]]
    found = list(detector.detect(images))
    assert detector._function(None, None).experimental_get_tracing_count() == 1
    for own, each in zip(images, found, strict=True):
        padded = prepare([own], detector.preprocessing, detector.spec.short, detector.spec.long)
        outputs = detector.function(*padded.images.shape[1:3])(padded.images, padded.sizes[0])
        count = int(outputs["count"])
        assert len(each.scores) == count > 0
        np.testing.assert_array_equal(each.scores, outputs["scores"][:count])
        np.testing.assert_array_equal(each.classes, outputs["classes"][:count])
