"""Operations on boxes equal torchvision's, which made the values of oracle/operations.npz."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_senet.detection import boxes as box
from keras_senet.detection import matching, pooling
from keras_senet.detection.anchors import Anchors
from keras_senet.detection.suppression import NONE, select_best

ORACLE = Path(__file__).parent / "oracle"
RPN, HEAD = (1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)


@pytest.fixture(scope="module")
def oracle():
    return np.load(ORACLE / "operations.npz")


@pytest.mark.parametrize(("name", "weights"), [("rpn", RPN), ("box", HEAD)])
def test_boxes_are_encoded_and_decoded(oracle, name, weights):
    reference, proposals = oracle["coder/reference"], oracle["coder/proposals"]
    encoded = box.encode(tf.constant(reference), tf.constant(proposals), weights)
    np.testing.assert_allclose(encoded, oracle[f"coder/{name}_encoded"], rtol=1e-5, atol=1e-5)
    deltas = tf.reshape(oracle["coder/deltas"], (40, 2, 4))
    decoded = box.decode(deltas, tf.constant(proposals)[:, None], weights)
    expected = oracle[f"coder/{name}_decoded"].reshape(40, 2, 4)
    np.testing.assert_allclose(decoded, expected, rtol=2e-6, atol=2e-4)


def test_boxes_are_clipped(oracle):
    np.testing.assert_array_equal(
        box.clip(tf.constant(oracle["coder/reference"]), oracle["clip/size"]), oracle["clip/boxes"]
    )


def test_iou(oracle):
    found = box.iou(tf.constant(oracle["coder/reference"]), tf.constant(oracle["coder/proposals"]))
    np.testing.assert_allclose(found, oracle["iou"], atol=1e-6)


def test_flipping_twice_changes_nothing():
    boxes = tf.constant([[1.0, 2.0, 5.0, 9.0]])
    flipped = box.flip(boxes, 20.0)
    np.testing.assert_array_equal(flipped, [[15, 2, 19, 9]])
    np.testing.assert_array_equal(box.flip(flipped, 20.0), boxes)


@pytest.mark.parametrize(
    ("name", "low", "high", "keep_best"), [("rpn", 0.3, 0.7, True), ("box", 0.5, 0.5, False)]
)
def test_boxes_are_matched_with_truths(oracle, name, low, high, keep_best):
    overlaps = box.iou(tf.constant(oracle["match/truth"]), tf.constant(oracle["match/candidates"]))
    found = matching.match(overlaps, low, high, keep_best=keep_best)
    np.testing.assert_array_equal(found, oracle[f"match/{name}"])


def test_without_truths_all_is_background():
    found = matching.match(tf.zeros((0, 5)), 0.3, 0.7, keep_best=True)
    np.testing.assert_array_equal(found, [matching.BACKGROUND] * 5)


@pytest.mark.parametrize("overlap", [0.5, 0.7])
@pytest.mark.parametrize("name", ["kept", "batched"])
def test_the_best_boxes_are_selected(oracle, name, overlap):
    boxes, scores = oracle["nms/boxes"], oracle["nms/scores"]
    groups = oracle["nms/groups"] if name == "batched" else np.zeros(200, "int64")
    chosen, count = select_best(
        boxes,
        scores,
        groups.astype("int32"),
        overlap=overlap,
        most=200,
        extent=int(boxes.max()) + 1,
    )
    expected = oracle[f"nms/{name}_{overlap}"]
    np.testing.assert_array_equal(chosen[:count], expected)
    np.testing.assert_array_equal(chosen[count:], 0)


def test_what_is_no_box_is_not_selected(oracle):
    scores = np.where(np.arange(200) % 2, oracle["nms/scores"], np.float32(NONE))
    chosen, count = select_best(
        oracle["nms/boxes"], scores, np.zeros(200, "int32"), overlap=0.7, most=200, extent=2000
    )
    assert 0 < count <= 100
    assert (chosen[:count] % 2 == 1).numpy().all()


def test_ninety_groups_are_as_ninety_calls():
    random = np.random.default_rng(0)
    corners = random.uniform(0, 1200, (900, 2)).astype("float32")
    boxes = np.concatenate([corners, corners + random.uniform(20, 130, (900, 2))], 1).astype(
        "float32"
    )
    scores, groups = random.random(900, "float32"), random.integers(0, 90, 900).astype("int32")
    chosen, count = select_best(boxes, scores, groups, overlap=0.3, most=900, extent=1333)
    expected = []
    for group in range(90):
        (own,) = np.nonzero(groups == group)
        kept = tf.image.non_max_suppression(boxes[own], scores[own], 900, 0.3).numpy()
        expected += own[kept].tolist()
    expected = sorted(expected, key=lambda index: -scores[index])
    np.testing.assert_array_equal(chosen[:count], expected)


def test_boxes_are_pooled_from_the_level_of_their_size(oracle):
    found = pooling.levels_of(tf.constant(oracle["levels/boxes"]), 224.0)
    np.testing.assert_array_equal(found, oracle["levels/of"])


def test_roi_align(oracle):
    maps = oracle["roi_align/maps"].transpose(0, 2, 3, 1)
    rois = oracle["roi_align/rois"]
    # One map in the place of P2, whose scale is 1/4, as the oracle's
    found = pooling.pool(
        pooling.tabulate([tf.constant(maps)]),
        rois[:, 0].astype("int32"),
        tf.constant(rois[:, 1:]),
        tf.fill((len(rois),), 2),
        side=7,
        points=2,
    )
    expected = oracle["roi_align/aligned_False_ratio_2"].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_gradient_of_pooling_in_parts_is_that_of_the_whole(monkeypatch):
    """And of what is taken of the same table, as by differences of a float64 sum."""
    random = np.random.default_rng(0)
    maps = [random.normal(size=(2, side, side + 1, 3)).astype("float32") for side in (8, 4)]
    corners = random.uniform(0, 20, (7, 2))
    rois = np.concatenate([corners, corners + random.uniform(1, 12, (7, 2))], 1).astype("float32")
    images, levels = np.int32([0, 1, 1, 0, 1, 0, 0]), np.int32([2, 3, 2, 2, 3, 3, 2])
    places = np.int32([0, 71, 72, 91, 40, 80])
    weights = random.normal(size=(7, 2, 2, 3)), random.normal(size=(6, 27))

    def compute(*maps):
        table = pooling.tabulate(maps)
        table, around = pooling.take_around(table, images[:6], places)
        pooled = pooling.pool(table, images, rois, levels, side=2, points=2)
        return pooled, around

    def total(*maps):
        found = compute(*map(tf.constant, maps))
        return sum((np.float64(each) * w).sum() for each, w in zip(found, weights, strict=True))

    gradients = []
    for count in (256, 3):
        monkeypatch.setattr(pooling, "BOXES", count)
        variables = [tf.Variable(each) for each in maps]
        with tf.GradientTape() as tape:
            found = compute(*variables)
        gradients.append(tape.gradient(found, variables, [np.float32(w) for w in weights]))
    for whole, parts in zip(*gradients, strict=True):
        np.testing.assert_allclose(whole, parts, atol=1e-5)
    # It is linear: a difference of any size is exact.
    steps = [random.normal(size=each.shape).astype("float32") for each in maps]
    difference = total(*(m + s for m, s in zip(maps, steps, strict=True))) - total(*maps)
    expected = sum((np.float64(g) * s).sum() for g, s in zip(gradients[0], steps, strict=True))
    assert difference == pytest.approx(expected, rel=1e-4)


def test_what_is_around_a_place_is_what_a_convolution_sees():
    random = np.random.default_rng(1)
    maps = [random.normal(size=(2, side, 3, 5)).astype("float32") for side in (4, 2, 1)]
    table = pooling.tabulate(list(map(tf.constant, maps)))
    count = sum(each.shape[1] * 3 for each in maps)
    images = np.repeat(np.int32([0, 1]), count)
    _, found = pooling.take_around(table, images, np.tile(np.arange(count, dtype="int32"), 2))
    windows = [
        np.lib.stride_tricks.sliding_window_view(
            np.pad(each, ((0, 0), (1, 1), (1, 1), (0, 0))), (3, 3), axis=(1, 2)
        ).transpose(0, 1, 2, 4, 5, 3)
        for each in maps
    ]
    expected = np.concatenate([each.reshape(2, -1, 45) for each in windows], axis=1)
    np.testing.assert_array_equal(found, expected.reshape(-1, 45))


@pytest.mark.parametrize("size", [(128, 192), (160, 224)])
def test_anchors(size):
    oracle = np.load(ORACLE / "anchors.npz")
    place = f"{size[0]}x{size[1]}"
    for level, grid in enumerate(oracle[f"{place}/grids"].astype("int32")):
        np.testing.assert_array_equal(
            Anchors().shapes(level), oracle[f"base/{Anchors().sizes[level]}"]
        )
        indices = tf.range(grid[0] * grid[1] * 3)
        found = Anchors().boxes(level, indices, grid, size).numpy()
        name = f"{place}/P{level + 2}"
        np.testing.assert_array_equal(found[:9], oracle[f"{name}_first"])
        np.testing.assert_array_equal(found[-9:], oracle[f"{name}_last"])
        np.testing.assert_array_equal(found.sum(0, "float64"), oracle[f"{name}_sum"])


def test_at_most_the_fraction_of_positives_is_sampled():
    labels = tf.constant([0, 0, 1, 0, -1, -2, -1, -1, -2, 2])
    keys = tf.constant([0.9, 0.1, 0.8, 0.2, 0.3, 0.99, 0.7, 0.1, 0.98, 0.3])
    indices, valid = matching.sample(labels, keys, 4, 0.5)
    assert set(indices.numpy().tolist()) == {0, 2, 6, 4}
    assert valid.numpy().all()


def test_too_few_boxes_are_padded():
    labels = tf.constant([0, -1, -2])
    indices, valid = matching.sample(labels, tf.constant([0.1, 0.2, 0.3]), 5, 0.5)
    assert valid.numpy().tolist() == [True, True, False, False, False]
    assert indices.numpy()[:2].tolist() == [0, 1]
