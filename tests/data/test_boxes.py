"""Boxes of training images: their distribution, and that each is a function of (seed, position)."""

import numpy as np
import pytest

from keras_senet.data import boxes


def test_random_boxes_have_the_stated_area_and_aspect():
    """fb.resnet.torch: area uniform in 8%..100%, aspect uniform in 3/4..4/3 or its inverse."""
    top, left, height, width = boxes.make_random_boxes(0.08, 1)(
        np.tile([480, 640], (4000, 1)), np.arange(4000)
    ).T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 480).all()
    assert (left + width <= 640).all()
    area, aspect = height * width / (480 * 640), width / height
    assert 0.078 < area.min() < 0.1
    assert 0.74 < aspect.min() < 0.76
    assert 1.32 < aspect.max() < 1.35
    # What does not fit is drawn again, so large areas are rarer: torch's own draws give a mean of
    # 0.51.
    assert area.mean() == pytest.approx(expected_area(), abs=0.02)
    room = np.stack([top / np.maximum(480 - height, 1), left / np.maximum(640 - width, 1)])
    assert room.mean(axis=1) == pytest.approx([0.5, 0.5], abs=0.03)
    assert 0 in top
    assert 0 in left
    assert 480 in top + height
    assert 640 in left + width


def expected_area():
    """The mean area of the same rule, drawn by NumPy."""
    random = np.random.default_rng(0)
    area = random.uniform(0.08, 1, (5000, 10))
    aspect = random.uniform(3 / 4, 4 / 3, (5000, 10)) ** random.choice([-1, 1], (5000, 10))
    fits = (np.sqrt(area * 480 * 640 * aspect) <= 640) & (np.sqrt(area * 480 * 640 / aspect) <= 480)
    drawn = area[np.arange(5000), fits.argmax(1)]
    return np.where(fits.any(1), drawn, 480 * 480 / (480 * 640)).mean()


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (300, 2)])
def test_random_boxes_of_extreme_images(size):
    top, left, height, width = boxes.make_random_boxes(0.08, 0)(
        np.tile(size, (20, 1)), np.arange(20)
    ).T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= size[0]).all()
    assert (left + width <= size[1]).all()
    assert (np.minimum(height, width) >= 1).all()


def test_where_nothing_fits_the_box_is_the_centre_square():
    sizes = np.array([[10, 1000], [30, 20], [0, 0]])
    expected = [[0, 495, 10, 10], [5, 0, 20, 20], [0, 0, 0, 0]]
    np.testing.assert_array_equal(boxes.choose_center_boxes(sizes, np.arange(3)), expected)
    drawn = boxes.make_random_boxes(1.0, 0)(sizes, np.arange(3))
    np.testing.assert_array_equal(drawn[[0, 2]], [expected[0], expected[2]])


def test_a_box_is_a_function_of_seed_and_position():
    sizes, positions = np.array([[40 + i, 90 - i] for i in range(30)]), np.arange(30) * 10**9
    choose = boxes.make_random_boxes(0.08, 5)
    whole = choose(sizes, positions)
    for some in (slice(3, 4), slice(10, 30), slice(None, None, -1)):
        np.testing.assert_array_equal(choose(sizes[some], positions[some]), whole[some])
    assert not np.array_equal(boxes.make_random_boxes(0.08, 6)(sizes, positions), whole)


def test_draws_are_uniform_and_independent():
    """Of neighbouring seeds, positions and numbers."""
    draws = np.stack([boxes.draw_uniform(seed, np.arange(400), (10, 5)) for seed in range(10)])
    assert draws.shape == (10, 400, 10, 5)
    assert ((draws >= 0) & (draws < 1)).all()
    counts, _ = np.histogram(draws, 20)
    assert (
        (counts - 10_000) ** 2 / 10_000
    ).sum() < 43.8  # chi-square with 19 degrees of freedom: one in a thousand
    for axis in range(4):
        before, after = np.moveaxis(draws, axis, 0)[:-1], np.moveaxis(draws, axis, 0)[1:]
        assert abs(np.corrcoef(before.ravel(), after.ravel())[0, 1]) < 0.01
