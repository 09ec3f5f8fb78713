"""Order and augmentation are functions of (seed, epoch, position), however batches are read."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from data.files import encode, picture

from keras_senet import data
from keras_senet.data.order import find_replacement

BATCH = 8
EVERYTHING = data.Augmentation(
    min_area=0.3, pad_and_crop=2, flip=True, rotation=10, pixel_jitter=20, color_jitter=0.4,
    randaugment=1, randaugment_magnitude=0.3, random_erasing=0.5, cutout=4, mixup=0.4, cutmix=1.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def numbered():
    """Thirty textured images, the value of whose first pixel is their index."""
    images = np.random.default_rng(0).integers(0, 256, (30, 12, 12, 3), "uint8")
    images[:, 0, 0, 0] = np.arange(30)
    return data.Dataset(images, np.arange(30) % 3, ("a", "b", "c"))


def training(dataset, image_size=12, seed=0, **options):
    return data.TrainingData(dataset, batch_size=BATCH, image_size=image_size, seed=seed, **options)


def read(made, first, last, **options):
    return values(made.batches(first, last, **options))


def values(batches):
    return [(images.numpy(), targets.numpy()) for images, targets in batches]


@pytest.fixture(scope="module")
def varied(numbered):
    """The first nine batches with every augmentation, which takes long to trace."""
    return read(training(numbered, augmentation=EVERYTHING), 0, 9)


def assert_equal(batches, expected):
    for (images, targets), (expected_images, expected_targets) in zip(
        batches, expected, strict=True
    ):
        np.testing.assert_array_equal(images, expected_images)
        np.testing.assert_array_equal(targets, expected_targets)


def test_images_and_labels_stay_together_and_are_those_of_indices(numbered):
    made = training(numbered)
    for step, (images, targets) in enumerate(read(made, 0, 7)):
        np.testing.assert_array_equal(images[:, 0, 0, 0], made.indices(step))
        np.testing.assert_array_equal(images, numbered.images[made.indices(step)])
        np.testing.assert_array_equal(targets, np.eye(3, dtype="float32")[made.indices(step) % 3])


def test_an_epoch_shows_each_image_once_and_the_next_in_another_order(numbered):
    made = training(numbered)
    assert made.steps_per_epoch == 3
    indices = [made.indices(step) for step in range(6)]
    first, second = np.concatenate(indices[:3]), np.concatenate(indices[3:])
    assert len(set(first)) == len(set(second)) == 24
    assert not np.array_equal(first, second)
    other = training(numbered, seed=1)
    assert not np.array_equal(first, np.concatenate([other.indices(step) for step in range(3)]))


@pytest.mark.parametrize("balanced", [False, True])
def test_it_starts_at_any_step(numbered, balanced):
    """With little augmentation, which is fast to trace; with all of it below."""
    augmentation = data.Augmentation(pad_and_crop=2, mixup=0.4)
    made, again = (
        training(numbered, augmentation=augmentation, class_balanced=balanced) for _ in range(2)
    )
    whole = read(made, 0, 9)
    assert_equal(read(again, 5, 9), whole[5:])
    assert not np.array_equal(whole[0][0], whole[3][0])


def test_encoded_images_are_the_same_each_time(prepared):
    """With the augmentation that concerns decoding; the rest is tested on arrays."""
    dataset = data.load("pictures", "train", prepared)
    augmentation = data.Augmentation(min_area=0.3, flip=True, color_jitter=0.4)
    made = training(dataset, 16, augmentation=augmentation)
    whole = read(made, 0, 4)
    assert whole[0][0].shape == (BATCH, 16, 16, 3)
    again = made.batches(1, 4)
    for _ in range(3):
        assert_equal(values(again), whole[1:])


@pytest.mark.parametrize(
    "augmentation", [data.Augmentation(), EVERYTHING, data.Augmentation(mixup=0.2)]
)
def test_parts_of_workers_make_the_global_batch(numbered, varied, augmentation):
    made = training(numbered, augmentation=augmentation)
    whole = varied[2:5] if augmentation is EVERYTHING else read(made, 2, 5)
    parts = read(made, 2, 5, replicas=4)
    assert [images.shape for images, _ in parts] == [(2, 12, 12, 3)] * 12
    steps = [zip(*parts[i : i + 4], strict=True) for i in range(0, 12, 4)]
    joined = [[np.concatenate(both) for both in step] for step in steps]
    assert_equal(joined, whole)
    if augmentation is not EVERYTHING:  # which takes long to trace
        some = [parts[4 * i + j] for i in range(3) for j in (1, 2)]
        assert_equal(read(made, 2, 5, replicas=4, parts=range(1, 3)), some)


def test_pairs_are_mixed_with_their_targets(numbered):
    plain = read(training(numbered), 0, 3)
    for augmentation in (data.Augmentation(mixup=1.0), data.Augmentation(cutmix=1.0)):
        for (images, targets), (pure, one_hot) in zip(
            read(training(numbered, augmentation=augmentation), 0, 3), plain, strict=True
        ):
            other, other_target = pure[[1, 0, 3, 2, 5, 4, 7, 6]], one_hot[[1, 0, 3, 2, 5, 4, 7, 6]]
            share = own_share(images, pure, other, augmentation)
            np.testing.assert_allclose(
                targets, share * one_hot + (1 - share) * other_target, atol=0.02
            )


def own_share(images, pure, other, augmentation):
    """The weight of the image itself, measured on the pixels: (N, 1)."""
    if augmentation.cutmix:
        kept = np.all(images == pure, axis=-1)
        assert np.all(kept | np.all(images == other, axis=-1))
        return kept.mean(axis=(1, 2))[:, None]
    pure, other, images = (x.reshape(len(x), -1).astype("float64") for x in (pure, other, images))
    return np.array(
        [
            np.dot(a - b, x - b) / np.dot(a - b, a - b)
            for a, b, x in zip(pure, other, images, strict=True)
        ]
    )[:, None]


def test_a_batch_that_cannot_be_divided(numbered):
    with pytest.raises(ValueError, match="`batch_size` must be from 1 to the number of images, 30"):
        data.TrainingData(numbered, batch_size=31, image_size=12, seed=0)
    with pytest.raises(ValueError, match="multiple of the number of replicas, 3"):
        training(numbered).batches(0, 1, replicas=3)
    with pytest.raises(ValueError, match="mixed in pairs: `batch_size` must be a multiple of 16"):
        training(numbered, augmentation=data.Augmentation(cutmix=1.0)).batches(0, 1, replicas=8)


def test_balanced_classes_are_equally_frequent_and_their_images_in_sequence():
    labels = np.array([0] * 20 + [1] * 7 + [2] * 3)
    dataset = data.Dataset(np.zeros((30, 4, 4, 3), "uint8"), labels, ("a", "b", "c"))
    made = training(dataset, 4, class_balanced=True)
    indices = np.concatenate([made.indices(step) for step in range(15)])  # 120: 40 of each class
    np.testing.assert_array_equal(np.bincount(labels[indices]), [40, 40, 40])
    assert all(set(labels[indices[i : i + 3]]) == {0, 1, 2} for i in range(0, 120, 3))
    counts = np.bincount(indices, minlength=30)
    assert set(counts[:20]) == {2}
    assert set(counts[20:27]) == {5, 6}
    assert set(counts[27:]) == {13, 14}
    twice = [indices[labels[indices] == 0][i : i + 20].tolist() for i in (0, 20)]
    assert twice[0] != twice[1]
    assert not np.array_equal(
        made.indices(0), training(dataset, 4, seed=1, class_balanced=True).indices(0)
    )
    with pytest.raises(ValueError, match="classes without images: d"):
        training(data.Dataset(dataset.images, labels, ("a", "b", "c", "d")), 4, class_balanced=True)
    for label in (-1, 3):
        wrong = data.Dataset(dataset.images, [label, *labels[1:]], ("a", "b", "c"))
        with pytest.raises(ValueError, match="There are invalid labels"):
            training(wrong, 4, class_balanced=True)


@pytest.mark.parametrize("balanced", [False, True])
def test_corrupt_images_are_replaced_whenever_they_are_found(numbered, balanced):
    made = training(numbered, class_balanced=balanced)
    bad = made.indices(0)[3]
    instead = made.indices(0, {bad})[3]
    assert instead != bad
    np.testing.assert_array_equal(
        np.delete(made.indices(0, {bad}), 3), np.delete(made.indices(0), 3)
    )
    further = made.indices(0, {bad, instead})[3]
    assert further not in (bad, instead)
    if balanced:
        assert numbered.labels[bad] == numbered.labels[instead] == numbered.labels[further]
    np.testing.assert_array_equal(
        read(made, 0, 1, skip={bad, instead})[0][0][:, 0, 0, 0], made.indices(0, {bad, instead})
    )
    other = next(i for i in range(30) if i not in (bad, instead))
    assert made.indices(0, {bad, other})[3] == instead  # another bad image changes nothing
    with pytest.raises(ValueError, match="all are corrupt"):
        made._replace(np.array([0]), frozenset(range(30)))


def test_replacements_reach_all_images():
    skip = {5}
    while len(skip) < 10:
        skip.add(find_replacement(None, 5, range(10), 0, skip))
    assert skip == set(range(10))
    # Of runs that are continued
    assert [find_replacement(None, i, range(1000), 3, {i}) for i in (0, 999)] == [844, 970]


def test_corrupt_images_fail_and_are_named(folder):
    (folder / "train" / "cat" / "2.jpg").write_bytes(encode(picture(32, 40, 2))[:-40])
    (folder / "train" / "dog" / "0.jpg").write_bytes(b"text")
    dataset = data.load(folder, "train")
    made = data.TrainingData(
        dataset, batch_size=7, image_size=8, seed=0, augmentation=data.Augmentation(min_area=0.1)
    )
    with pytest.raises(tf.errors.OpError):
        read(made, 0, 1)
    found = made.corrupt_at(0)
    assert [(corrupt.index, corrupt.name) for corrupt in found] == [
        (i, dataset.name_of(i)) for i in (2, 4)
    ]
    assert "none of JPEG" in found[1].reason
    skip = {corrupt.index for corrupt in found}
    assert made.corrupt_at(0, skip) == []
    assert not skip & set(made.indices(0, skip))
    assert len(read(made, 0, 1, skip=skip)) == 1


def test_a_corrupt_image_is_named_before_a_batch_size_that_does_not_fit(folder):
    (folder / "train" / "cat" / "1.jpg").write_bytes(b"broken")
    with pytest.raises(data.CorruptImageError, match="1.jpg cannot be used"):
        data.TrainingData(data.load(folder, "train"), batch_size=64, image_size=8, seed=0)
    (folder / "train" / "cat" / "1.jpg").unlink()
    with pytest.raises(ValueError, match="number of images, 6. Received: batch_size=64"):
        data.TrainingData(data.load(folder, "train"), batch_size=64, image_size=8, seed=0)


def test_a_file_that_vanished_is_named(folder):
    dataset = data.load(folder, "train")
    made = data.TrainingData(dataset, batch_size=7, image_size=8, seed=0)
    (folder / "train" / "cat" / "1.jpg").unlink()
    with pytest.raises(tf.errors.OpError):
        read(made, 0, 1)
    (corrupt,) = made.corrupt_at(0)
    assert corrupt.index == 1
    assert "No such file" in corrupt.reason


@pytest.mark.parametrize("label", [-1, 3, 2**40])
def test_a_label_that_is_not_a_class_fails_and_is_named(numbered, label):
    labels = np.array(numbered.labels)
    labels[7] = label
    made = data.TrainingData(
        data.Dataset(numbered.images, labels, numbered.class_names),
        batch_size=30,
        image_size=12,
        seed=0,
    )
    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=f"labels that are not classes of the dataset: .{label}",
    ):
        read(made, 0, 1)
    (corrupt,) = made.corrupt_at(0)
    assert corrupt == (7, "image 7", f"its label {label} is not in 0..2")


def test_with_all_augmentation_it_starts_at_any_step_with_keras_in_another_state(numbered, varied):
    keras.config.set_image_data_format("channels_first")
    keras.config.set_dtype_policy("mixed_float16")
    assert_equal(read(training(numbered, augmentation=EVERYTHING), 5, 9), varied[5:])
    assert not np.array_equal(varied[0][0], varied[3][0])
