"""All images once and in order; corrupt ones are named or left out."""

import numpy as np
import pytest
import tensorflow as tf
from data.files import encode, picture

from keras_senet import data
from keras_senet.preprocessing import Preprocessing

CROP = Preprocessing.scaled(16).crop


def test_all_images_in_order_again_and_again():
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 3), "uint8")
    batches = data.evaluation_batches(data.Dataset(images, np.arange(10) % 3, ("a", "b", "c")), 4)
    assert len(batches) == 3
    for _ in range(2):
        read = [(x.numpy(), y.numpy()) for x, y in batches]
        assert [len(x) for x, _ in read] == [4, 4, 2]
        np.testing.assert_array_equal(np.concatenate([x for x, _ in read]), images)
        np.testing.assert_array_equal(np.concatenate([y for _, y in read]), np.arange(10) % 3)


def test_the_transform_is_applied_to_decoded_images(prepared):
    dataset = data.load("pictures", "test", prepared)
    (batch,) = data.evaluation_batches(dataset, 4, CROP)
    raw, labels = dataset.fetch(np.arange(4))
    for image, one in zip(batch[0], raw, strict=True):
        np.testing.assert_array_equal(
            image, CROP(tf.io.decode_jpeg(one, dct_method="INTEGER_ACCURATE"))
        )
    np.testing.assert_array_equal(batch[1], labels)
    with pytest.raises(ValueError, match="need a `transform`"):
        data.evaluation_batches(dataset, 4)


def test_corrupt_images_are_named_or_left_out(folder):
    for i in (0, 3):
        path = folder / "train" / "cat" / f"{i}.jpg"
        path.write_bytes(path.read_bytes()[:-30])
    (folder / "train" / "dog" / "1.jpg").write_bytes(b"")
    dataset = data.load(folder, "train")
    batches = data.evaluation_batches(dataset, 2, CROP)
    with pytest.raises(data.CorruptImageError, match=r"cat.0.jpg cannot be used: ") as raised:
        list(batches)
    assert isinstance(raised.value, ValueError)
    batches = data.evaluation_batches(dataset, 2, CROP, skip_corrupt=True)
    for _ in range(2):
        read = list(batches)
        assert [corrupt.index for corrupt in batches.skipped] == [0, 3, 5]
        assert [len(labels) for _, labels in read] == [2, 2]
        np.testing.assert_array_equal(np.concatenate([labels for _, labels in read]), [0, 0, 1, 1])
    expected = CROP(dataset.decode(tf.constant(dataset.fetch(np.array([6]))[0][0])))
    np.testing.assert_array_equal(read[1][0][1], expected)


def test_a_label_that_is_not_a_class_is_named():
    dataset = data.Dataset(np.zeros((3, 4, 4, 3), "uint8"), [0, 1, 2], ("a", "b"))
    with pytest.raises(
        data.CorruptImageError, match="image 2 cannot be used: its label 2 is not in 0..1"
    ):
        list(data.evaluation_batches(dataset, 2))


def test_an_error_in_the_transform_is_not_blamed_on_an_image(folder):
    def transform(image):
        with tf.control_dependencies([tf.debugging.assert_equal(tf.shape(image)[0], -1)]):
            return tf.identity(image)

    with pytest.raises(tf.errors.InvalidArgumentError):
        list(data.evaluation_batches(data.load(folder, "train"), 2, transform))


def test_pictures_of_every_kind(tmp_path):
    image = picture(20, 30)
    (tmp_path / "test" / "a").mkdir(parents=True)
    for kind in ("PNG", "BMP", "WEBP"):
        (tmp_path / "test" / "a" / f"1.{kind.lower()}").write_bytes(
            encode(image, kind, lossless=True)
        )
    batches = data.evaluation_batches(
        data.load(tmp_path, "test"), 3, lambda decoded: tf.ensure_shape(decoded, (20, 30, 3))
    )
    ((images, _),) = batches
    np.testing.assert_array_equal(images, [image] * 3)
