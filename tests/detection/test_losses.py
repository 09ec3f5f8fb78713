"""The losses and their gradients equal torchvision's, with the first positives and negatives.

Losses have the precision of the logits that they are of, 1e-5 of the largest (test_detector.py).
"""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from keras_senet.detection import boxes as box
from keras_senet.detection import loss
from keras_senet.detection.canvas import prepare
from keras_senet.detection.loss import Truths, losses
from keras_senet.detection.spec import Sampling
from keras_senet.detection.torchvision import BODY, TORCHVISION
from keras_senet.weights.names import own_name

SAMPLING = Sampling(anchors=64, rois=32)
NAMES = {
    "classes": "loss_classifier",
    "boxes": "loss_box_reg",
    "objectness": "loss_objectness",
    "proposals": "loss_rpn_box_reg",
}


def load_batch(oracle, detector, empty):
    """(images, sizes, truths) of the oracle's two images, the second without boxes if asked."""
    images = [oracle["image0"], oracle["image1"]]
    canvas = prepare(images, detector.preprocessing, detector.spec.short, detector.spec.long)
    boxes, classes = np.zeros((2, 5, 4), "float32"), np.zeros((2, 5), "int32")
    counts = np.int32([3, 0 if empty else 2])
    for i, count in enumerate(counts):
        factor = canvas.sizes[i].numpy() / images[i].shape[:2]
        scaled = box.scale(tf.constant(oracle[f"boxes{i}"]), factor)
        boxes[i, :count] = scaled[:count]
        classes[i, :count] = oracle[f"labels{i}"][:count] - 1
    return *canvas, Truths(tf.constant(boxes), tf.constant(classes), tf.constant(counts))


def compute(detector, images, sizes, truths, sampling=SAMPLING, seeds=None):
    return losses(detector, images, sizes, truths, sampling, seeds, training=False)


@pytest.mark.parametrize(("empty", "name"), [(False, "loss"), (True, "loss_empty")])
def test_losses(oracle, detector, empty, name):
    found = compute(detector, *load_batch(oracle, detector, empty))
    for own, theirs in NAMES.items():
        assert float(found[own]) / 2 == pytest.approx(float(oracle[f"{name}/{theirs}"]), rel=2e-5)


def test_gradients(oracle, detector):
    batch = load_batch(oracle, detector, empty=False)
    variables = {own_name(variable): variable.value for variable in detector.variables}
    with tf.GradientTape() as tape:
        total = tf.add_n(list(compute(detector, *batch).values())) / 2
    gradients = tape.gradient(total, variables)
    checked = 0
    naming = detector.backbone.spec.namings["timm"]
    for key in oracle:
        if not key.startswith("gradient"):
            continue
        kind, _, name = key.partition("/")
        layer, _, part = name.rpartition(".")
        here = (
            naming.translate(layer.removeprefix(BODY))
            if layer.startswith(BODY)
            else TORCHVISION.translate(layer)
        )
        gradient = gradients[f"{here}/{'kernel' if part == 'weight' else 'bias'}"].numpy()
        expected = oracle[key]
        if kind == "gradient_norm":
            assert np.linalg.norm(gradient) == pytest.approx(float(expected), rel=1e-3), name
        else:
            expected = expected.transpose(2, 3, 1, 0) if expected.ndim == 4 else expected
            np.testing.assert_allclose(
                gradient, expected, atol=1e-3 * np.abs(expected).max(), err_msg=name
            )
        checked += 1
    assert checked == sum(key.startswith("gradient") for key in oracle) > 40


def test_anchors_are_predicted_as_in_the_maps(oracle, detector):
    images, *_ = load_batch(oracle, detector, empty=False)
    outputs = detector.propose_maps(images, training=False)
    numbers = tf.tile(tf.range(outputs["objectness"].shape[1])[None], (2, 1))
    _, logits, deltas = loss.propose_at(detector, outputs, numbers)
    np.testing.assert_allclose(logits, outputs["objectness"], atol=1e-5)
    np.testing.assert_allclose(deltas, outputs["deltas"], atol=1e-5)


def test_training_goes_through_the_anchors_that_are_trained_on_only(oracle, detector):
    """The backward pass has no gradient of the maps' convolution that proposes boxes, which is a
    fifth of the work; nor is its output kept.
    """
    images, sizes, truths = load_batch(oracle, detector, empty=False)
    kernel = detector.proposer.get_layer("rpn_conv").kernel.value

    def differentiate():
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(kernel)
            total = tf.add_n(list(compute(detector, images, sizes, truths).values()))
        return tape.gradient(total, kernel)

    graph = tf.function(differentiate, autograph=False).get_concrete_function().graph
    kinds = [op.type for op in graph.get_operations()]
    assert "Conv2D" in kinds
    assert not [kind for kind in kinds if kind.startswith("Conv2DBackprop")]


def test_parts_of_a_batch_add_up(oracle, detector):
    images, sizes, truths = load_batch(oracle, detector, empty=False)
    seeds = tf.constant([[1, 2], [3, 4]])
    whole = compute(detector, images, sizes, truths, seeds=seeds)
    parts = [
        compute(
            detector,
            images[i : i + 1],
            sizes[i : i + 1],
            Truths(*(each[i : i + 1] for each in truths)),
            seeds=seeds[i : i + 1],
        )
        for i in range(2)
    ]
    for name, value in whole.items():
        assert float(value) == pytest.approx(sum(float(part[name]) for part in parts), rel=1e-5)


def test_samples_follow_from_the_seed(oracle, detector):
    batch = load_batch(oracle, detector, empty=False)
    seeds = tf.constant([[1, 2], [3, 4]])
    first, again, other = (
        compute(detector, *batch, seeds=each)["classes"] for each in (seeds, seeds, seeds + 5)
    )
    assert float(first) == float(again) != float(other)


def test_gradients_are_finite_with_fewer_proposals_than_samples(oracle, detector):
    """Then boxes without sides are among the RoIs; and they change nothing."""
    images, sizes, truths = load_batch(oracle, detector, empty=True)
    spec = dataclasses.replace(detector.spec, proposal_overlap=0.0)
    few = spec(detector.backbone, detector.class_names)
    for network, other in ((few.proposer, detector.proposer), (few.head, detector.head)):
        network.set_weights(other.get_weights())
    sampling = dataclasses.replace(SAMPLING, rois=200)
    with tf.GradientTape() as tape:
        found = compute(few, images, sizes, truths, sampling)
        total = tf.add_n(list(found.values()))
    gradients = tape.gradient(total, [variable.value for variable in few.variables])
    assert all(np.isfinite(each).all() for each in gradients if each is not None)
    assert float(found["boxes"]) > 0
