"""The order and augmentation are functions of (seed, epoch, index)."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from keras_senet import data
from keras_senet.data import images as operations

BATCH = 8


@pytest.fixture(scope="module")
def numbered():
    """Thirty images that hold their own index."""
    images = np.broadcast_to(np.arange(30, dtype="uint8")[:, None, None, None], (30, 4, 4, 3))
    return data.Dataset(np.ascontiguousarray(images), np.arange(30), ("a",) * 30)


def batches(dataset, first, last, seed=0, augment=lambda image, seed: image):
    made = data.training_batches(dataset, BATCH, seed=seed, augment=augment, first_step=first, last_step=last)
    return [(images.numpy(), labels.numpy()) for images, labels in made]


def test_digits_are_all_there_and_split_evenly():
    train, test = data.load("digits", "train"), data.load("digits", "test")
    assert (len(train), len(test)) == (1437, 360)
    assert train.images.shape == (1437, 32, 32, 3)
    assert train.images.dtype == np.uint8
    assert (train.images.min(), train.images.max()) == (0, 255)
    assert set(np.bincount(test.labels)) <= {35, 36, 37}
    both = {image.tobytes() for image in train.images} & {image.tobytes() for image in test.images}
    assert not both
    np.testing.assert_array_equal(data.load("digits", "test").labels, test.labels)


def test_images_and_labels_stay_together(numbered):
    for images, labels in batches(numbered, 0, 7):
        np.testing.assert_array_equal(images[:, 0, 0, 0], labels)


def test_an_epoch_shows_each_image_once_and_the_next_in_another_order(numbered):
    labels = [labels for _, labels in batches(numbered, 0, 6)]
    first, second = np.concatenate(labels[:3]), np.concatenate(labels[3:])
    assert len(set(first)) == len(set(second)) == 24
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, np.concatenate([labels for _, labels in batches(numbered, 0, 3, seed=1)]))


def test_it_starts_at_any_step(numbered):
    augment = operations.chain([operations.pad_and_crop(2), operations.flip()])
    textured = dataclasses.replace(numbered, images=np.random.default_rng(0).integers(0, 256, (30, 4, 4, 3), "uint8"))
    whole = batches(textured, 0, 9, augment=augment)
    late = batches(textured, 5, 9, augment=augment)
    for (images, labels), (expected, expected_labels) in zip(late, whole[5:], strict=True):
        np.testing.assert_array_equal(images, expected)
        np.testing.assert_array_equal(labels, expected_labels)


def test_pad_and_crop_shifts_within_its_pixels():
    image = np.random.default_rng(0).integers(1, 256, (6, 6, 3), "uint8")
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    crops = {padded[i : i + 6, j : j + 6].tobytes() for i in range(5) for j in range(5)}
    made = {operations.pad_and_crop(2)(tf.constant(image), (0, seed)).numpy().tobytes() for seed in range(200)}
    assert made <= crops
    assert len(made) == 25


def test_flip_mirrors_half():
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), "uint8")
    made = [operations.flip()(tf.constant(image), (0, seed)).numpy() for seed in range(200)]
    mirrored = sum(np.array_equal(m, image[:, ::-1]) for m in made)
    assert mirrored + sum(np.array_equal(m, image) for m in made) == 200
    assert 70 <= mirrored <= 130


def test_bad_arguments(numbered):
    with pytest.raises(ValueError, match="digits"):
        data.load("mnist", "train")
    with pytest.raises(ValueError, match="split='validation'"):
        data.load("digits", "validation")
    with pytest.raises(ValueError, match="at most the number of images, 30"):
        data.training_batches(numbered, 31, seed=0, augment=None, first_step=0, last_step=1)
