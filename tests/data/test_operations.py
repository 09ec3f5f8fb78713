"""Image operations, and the fields of `Augmentation` that turn them on."""

import math

import numpy as np
import pytest
import tensorflow as tf
from data.files import picture
from PIL import Image

from keras_senet.data import Augmentation
from keras_senet.data.operations import augment_operation, resize_square

IMAGE = picture(24, 24)


def made(augmentation, image=IMAGE, count=60):
    """Results for different seeds, uint8 (count, H, W, C)."""
    operation = tf.function(augment_operation(augmentation))
    return np.stack(
        [operation(tf.constant(image), tf.constant([0, seed], tf.int64)) for seed in range(count)]
    )


def test_pad_and_crop_shifts_within_its_pixels():
    image = np.random.default_rng(0).integers(1, 256, (6, 6, 3), "uint8")
    for reflect in (False, True):
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), "reflect" if reflect else "constant")
        crops = {padded[i : i + 6, j : j + 6].tobytes() for i in range(5) for j in range(5)}
        found = {
            m.tobytes() for m in made(Augmentation(pad_and_crop=2, reflect=reflect), image, 200)
        }
        assert found == crops


def test_flip_mirrors_half():
    results = made(Augmentation(flip=True), count=200)
    mirrored = sum(np.array_equal(m, IMAGE[:, ::-1]) for m in results)
    assert mirrored + sum(np.array_equal(m, IMAGE) for m in results) == 200
    assert 70 <= mirrored <= 130


def test_rotation_is_in_both_directions_within_its_degrees():
    """A white dot 40 pixels right of the centre moves along a circle, whose angle is measured."""
    image = np.zeros((101, 101, 3), "uint8")
    image[48:53, 88:93] = 255
    angles = []
    for result in made(Augmentation(rotation=10), image):
        y, x = np.average(np.argwhere(result[..., 0] > 60), axis=0) - 50
        assert math.hypot(x, y) == pytest.approx(40, abs=0.7)
        angles.append(math.degrees(math.atan2(y, x)))
    assert -10.5 < min(angles) < -7
    assert 7 < max(angles) < 10.5


def test_pixel_jitter_is_independent_and_within_its_range():
    grey = np.full((24, 24, 3), 100, "uint8")
    results = made(Augmentation(pixel_jitter=20), grey, 5).astype(int) - 100
    assert (results.min(), results.max()) == (-20, 20)
    assert results.std() == pytest.approx(20 / math.sqrt(3), rel=0.03)
    assert abs(np.corrcoef(results[0, ..., 0].ravel(), results[0, ..., 1].ravel())[0, 1]) < 0.15
    assert made(Augmentation(pixel_jitter=20), np.full((24, 24, 3), 250, "uint8"), 5).max() == 255


def test_color_jitter_keeps_its_strength():
    flat = np.full((24, 24, 3), 100, "uint8")  # contrast and saturation do not change it
    levels = made(Augmentation(color_jitter=0.4), flat, 200)[:, 0, 0, 0]
    assert 60 <= levels.min() < 66
    assert 134 < levels.max() <= 140
    red = np.zeros((24, 24, 3), "uint8")
    red[..., 0] = 120
    assert (
        np.ptp(made(Augmentation(color_jitter=0.4), red, 50)[:, 0, 0, 2].astype(int)) > 5
    )  # saturation


def test_random_erasing_has_its_probability():
    results = made(Augmentation(random_erasing=0.3), count=300)
    changed = [m for m in results if not np.array_equal(m, IMAGE)]
    assert 60 <= len(changed) <= 120
    for result in changed[:20]:
        rows, columns = np.nonzero(np.any(result != IMAGE, axis=-1))
        area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert area <= 0.45 * 24 * 24
    assert len([m for m in made(Augmentation(random_erasing=1.0)) if np.array_equal(m, IMAGE)]) <= 2


def test_cutout_is_a_square_clipped_at_the_borders():
    results = made(Augmentation(cutout=8), np.full((24, 24, 3), 9, "uint8"), 700)
    areas = (results == 0).all(axis=-1).sum(axis=(1, 2))
    assert areas.max() == 64
    assert areas.min() == 16  # about a corner: rows 0..3
    assert (results[:, 0, 0] == 0).any()


def test_randaugment_changes_images_by_its_magnitude():
    results = made(Augmentation(randaugment=2, randaugment_magnitude=0.3), picture(32, 32), 40)
    different = {m.tobytes() for m in results}
    assert len(different) > 25
    assert results.dtype == np.uint8


def test_operations_have_seeds_of_their_own():
    both = made(Augmentation(flip=True, pixel_jitter=1), count=40)
    only_flipped = made(Augmentation(flip=True), count=40)
    assert np.abs(both.astype(int) - only_flipped).max() == 1


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(272, 277, 224), (100, 90, 224), (90, 300, 64), (1, 1, 8), (300, 1, 8), (64, 64, 64)],
)
def test_resizing_equals_tensorflow_s_and_pillow_s(height, width, size):
    image = picture(height, width)
    resized = tf.function(resize_square)(image, size).numpy().astype(int)
    expected = tf.image.resize(image, (size, size), antialias=True).numpy()
    np.testing.assert_array_equal(resized, np.floor(expected + 0.5))
    pillow = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))
    assert np.abs(resized - pillow).max() <= 1


@pytest.mark.parametrize(
    ("field", "value", "accepted"),
    [
        ("min_area", 1.5, "from 0 to 1"),
        ("min_area", "0.08", "of type float"),
        ("pad_and_crop", 4.0, "of type int"),
        ("pad_and_crop", -1, "from 0 to 4096"),
        ("flip", 1, "of type bool"),
        ("rotation", float("nan"), "from 0 to 180"),
        ("pixel_jitter", 256, "from 0 to 255"),
        ("color_jitter", True, "of type float"),
        ("randaugment", -1, "from 0 to 100"),
        ("randaugment_magnitude", 2, "from 0 to 1"),
        ("random_erasing", -0.1, "from 0 to 1"),
        ("cutout", 5000, "from 0 to 4096"),
        ("mixup", -1, "finite and at least 0"),
        ("cutmix", float("inf"), "finite and at least 0"),
    ],
)
def test_values_are_checked(field, value, accepted):
    with pytest.raises(
        ValueError, match=f"`{field}` must be {accepted}. Received: {field}={value!r}"
    ):
        Augmentation(**{field: value})
