"""Batches of images on the device: the same integers and images on every backend, by formulas of
Python's integers and NumPy. Runs on the current backend, without TensorFlow on the others.
"""

import itertools

import keras
import numpy as np
import pytest
import scipy.stats
from keras import ops

from keras_senet import data
from keras_senet.data import draws
from keras_senet.data.batched import BatchAugmentation, beta_quantiles
from keras_senet.data.device import make_order

SIZE, BATCH, SEED = 12, 16, 3
IMAGES = np.random.default_rng(0).integers(0, 256, (40, SIZE, SIZE, 3), "uint8")
LABELS = np.arange(40) % 4
DATASET = data.Dataset(IMAGES, LABELS, tuple("abcd"))
Augmentation = data.Augmentation
NOTHING = Augmentation()


def device(augmentation=NOTHING, dataset=DATASET, size=SIZE, batch_size=BATCH, **options):
    return data.DeviceImages(
        dataset, batch_size=batch_size, image_size=size, seed=SEED, augmentation=augmentation,
        **options,
    )  # fmt: skip


def compiled(function):
    """As a training step calls it."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, autograph=False)
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    return function


def read(made, step, part=slice(None)):
    numbers = (made.indices(step)[part], made.places(step)[part])
    make_batch = compiled(made.make_batch)
    batch = make_batch(made.images, made.labels, *map(ops.convert_to_tensor, numbers))
    return tuple(map(ops.convert_to_numpy, batch))


# The formulas, one image at a time.


def mix_bits(word):
    for shift, factor in ((16, 0x21F0AAAD), (15, 0x735A2D97)):
        word = (word ^ word >> shift) * factor % 2**32
    return word ^ word >> 15


def draw(place, which):
    first, second = np.random.SeedSequence(SEED).generate_state(26).reshape(2, 13)[:, which]
    return mix_bits(mix_bits(place ^ int(first)) ^ int(second))


def below(place, which, bound):
    return (draw(place, which) >> 16) * bound >> 16


def divide(number, divisor):
    return (2 * number + divisor) // (2 * divisor)


def change(image, place, augmentation):
    pixels = augmentation.pad_and_crop
    mode = "reflect" if augmentation.reflect else "constant"
    padded = np.pad(image, ((pixels, pixels), (pixels, pixels), (0, 0)), mode)
    top, left = (below(place, which, 2 * pixels + 1) for which in (0, 1))
    image = padded[top : top + SIZE, left : left + SIZE].copy()
    if augmentation.flip and below(place, 2, 2):
        image = image[:, ::-1]
    if augmentation.color_jitter:
        image = change_colors(image.astype("int64") * 64, place, augmentation.color_jitter)
    if side := augmentation.cutout:
        top, left = (max(below(place, which, SIZE) - side // 2, -side) for which in (3, 4))
        image[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = 0
    return image


def change_colors(image, place, strength):
    strength = round(256 * strength)
    factors = [256 - strength + below(place, which, 2 * strength + 1) for which in (6, 7, 8)]
    for kind in list(itertools.permutations(range(3)))[below(place, 5, 6)]:
        luminance = divide(image @ np.array([306, 601, 117]), 1024)[..., None]
        mean = divide(divide(luminance.sum(1), SIZE).sum(0), SIZE)
        target = (0, mean, luminance)[kind]
        mixed = divide(factors[kind] * image + (256 - factors[kind]) * target, 256)
        image = np.clip(mixed, 0, 255 * 64)
    return divide(image, 64).astype("uint8")


def mix(images, targets, first_place, augmentation):
    """A pair of images, of which the first has an even place."""
    pair = first_place // 2
    number = below(pair, 10, 4096)
    images = images.astype("int64")
    both = augmentation.mixup and augmentation.cutmix
    is_mixup = below(pair, 9, 2) == 0 if both else augmentation.mixup > 0
    alpha = augmentation.mixup if is_mixup else augmentation.cutmix
    quantile = scipy.stats.beta.ppf((number + 0.5) / 4096, alpha, alpha)
    if is_mixup:
        share = round(2**15 * quantile)
        mixed = divide(share * images + (2**15 - share) * images[::-1], 2**15)
        share /= 2**15
    else:
        side = int(SIZE * np.sqrt(1 - quantile))
        top, left = (below(pair, which, SIZE) - side // 2 for which in (11, 12))
        box = slice(max(top, 0), min(top + side, SIZE)), slice(max(left, 0), min(left + side, SIZE))
        mixed = images.copy()
        mixed[:, *box] = images[::-1][:, *box]
        share = 1 - mixed[0, *box, 0].size / SIZE**2
    return mixed, share * targets + (1 - share) * targets[::-1]


AUGMENTATIONS = {
    "none": NOTHING,
    "crop": Augmentation(pad_and_crop=4),
    "flip": Augmentation(flip=True),
    "reflected": Augmentation(pad_and_crop=11, reflect=True, flip=True, cutout=5),
    "cutout": Augmentation(cutout=40),
    "color": Augmentation(color_jitter=0.4),
    "all colors": Augmentation(pad_and_crop=2, flip=True, color_jitter=1.0, cutout=4),
    "mixup": Augmentation(mixup=0.2),
    "cutmix": Augmentation(flip=True, cutmix=1.0),
    "both": Augmentation(pad_and_crop=4, flip=True, cutout=3, mixup=1.5, cutmix=0.5),
}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_images_and_targets_are_those_of_the_formulas(name):
    augmentation = AUGMENTATIONS[name]
    made, step = device(augmentation), 5
    images, targets = read(made, step)
    assert (images.dtype, targets.dtype) == ("uint8", "float32")
    indices, places = made.indices(step), made.places(step)
    expected = np.stack(
        [change(IMAGES[i], int(at), augmentation) for i, at in zip(indices, places, strict=True)]
    )
    one_hot = np.eye(4, dtype="float32")[LABELS[indices]]
    if augmentation.mixes:
        for first in range(0, BATCH, 2):
            pair = slice(first, first + 2)
            expected[pair], one_hot[pair] = mix(
                expected[pair], one_hot[pair], int(places[first]), augmentation
            )
    np.testing.assert_array_equal(images, expected)
    np.testing.assert_allclose(targets, one_hot, rtol=0, atol=1e-6)


def test_draws_are_those_of_python_s_integers():
    places = np.array([0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1])
    found = draws.draw(draws.as_words(places), draws.make_keys(SEED, 13))
    expected = [[draw(int(place), which) for place in places] for which in range(13)]
    np.testing.assert_array_equal(ops.convert_to_numpy(found), expected)


def test_a_part_of_a_batch_is_that_part():
    made = device(AUGMENTATIONS["cutmix"])
    images, targets = read(made, 7)
    for part in (slice(0, 8), slice(8, 16), slice(6, 8)):
        some, theirs = read(made, 7, part)
        np.testing.assert_array_equal(some, images[part])
        np.testing.assert_array_equal(theirs, targets[part])


def test_micro_batches_are_those_parts():
    made = device(AUGMENTATIONS["mixup"])
    images, _ = read(made, 3)
    halves = [ops.convert_to_numpy(x) for x, _ in made.batches(3, 4, replicas=2)]
    np.testing.assert_array_equal(np.concatenate(halves), images)
    ((second, _),) = made.batches(3, 4, replicas=2, parts=range(1, 2))
    np.testing.assert_array_equal(ops.convert_to_numpy(second), halves[1])


def test_images_that_do_not_fit_are_a_line(monkeypatch):
    def refuse(values):
        raise RuntimeError("RESOURCE_EXHAUSTED: 1\n2")

    monkeypatch.setattr(ops, "convert_to_tensor", refuse)
    with pytest.raises(ValueError, match="^The images, 0 MiB, do not fit into the memory of the d"):
        device()


def test_colors_change_as_by_the_formula_of_real_numbers():
    """Of the factors and the order that were drawn: less than a grey level and a half apart."""
    augmentation = Augmentation(color_jitter=0.5)
    images, _ = read(device(augmentation), 0)
    indices = device().indices(0)
    for place, (index, image) in enumerate(zip(indices, images, strict=True)):
        expected = IMAGES[index].astype("float64")
        factors = [0.5 + below(place, which, 257) / 256 for which in (6, 7, 8)]
        for kind in list(itertools.permutations(range(3)))[below(place, 5, 6)]:
            gray = (expected @ [0.299, 0.587, 0.114])[..., None]
            target = (0, gray.mean(), gray)[kind]
            expected = np.clip(factors[kind] * expected + (1 - factors[kind]) * target, 0, 255)
        assert abs(image - expected).max() < 1


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_other_channels(channels):
    images = np.random.default_rng(1).integers(0, 256, (6, 8, 8, channels), "uint8")
    dataset = data.Dataset(images, np.arange(6) % 2, ("a", "b"))
    augmentation = Augmentation(pad_and_crop=2, flip=True, color_jitter=0.5, cutout=2, mixup=1.0)
    found, _ = read(device(augmentation, dataset, 8, 4), 0)
    assert found.shape == (4, 8, 8, channels)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0, 1.7, 30.0])
def test_shares_have_the_beta_distribution(alpha):
    found = beta_quantiles(alpha, 4096)
    expected = scipy.stats.beta.ppf((np.arange(4096) + 0.5) / 4096, alpha, alpha)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_draws_are_uniform_and_independent():
    """Of 2**16 places that follow each other and 13 draws; and two seeds have nothing in common."""
    places, keys = draws.as_words(np.arange(2**16)), draws.make_keys(SEED, 13)
    words = ops.convert_to_numpy(draws.draw(places, keys)).astype("uint64")
    for bits in (words >> np.uint64(24), words & np.uint64(255)):
        for row in bits:
            assert scipy.stats.chisquare(np.bincount(row.astype("int64"), minlength=256))[1] > 1e-4
    other = ops.convert_to_numpy(draws.draw(places, draws.make_keys(SEED + 1, 13)))
    signs = np.concatenate([words, words[:, ::-1], other.astype("uint64")])
    signs = np.concatenate([signs, np.roll(words, 1, axis=1)]) >> np.uint64(31)
    correlation = np.corrcoef(signs.astype("float64")) - np.eye(len(signs))
    assert abs(correlation).max() < 5 / 2**8  # of 2,700 pairs, in standard deviations of 2**-8


def test_what_is_drawn_is_equally_frequent():
    """Offsets of crops, mirror images, and centres of Cutout, read from the images."""
    size, count = 8, 4096
    ramp = np.arange(1, size * size + 1, dtype="uint8").reshape(1, size, size, 1)
    arguments = ops.convert_to_tensor(np.repeat(ramp, count, 0)), draws.as_words(np.arange(count))

    def make(augmentation):
        operate = BatchAugmentation(augmentation, size, SEED)
        return compiled(lambda images, places: operate(images, None, places)[0])

    operate = make(Augmentation(pad_and_crop=1, flip=True))
    images = operate(*arguments)
    corners = ops.convert_to_numpy(images)[:, 3, 3:5, 0].astype("int64")
    counts = np.unique(corners, axis=0, return_counts=True)[1]
    assert len(counts) == 2 * 3 * 3
    assert scipy.stats.chisquare(counts)[1] > 1e-4
    operate = make(Augmentation(cutout=1))
    images = operate(*arguments)
    black = np.nonzero(ops.convert_to_numpy(images).reshape(count, -1) == 0)
    np.testing.assert_array_equal(black[0], np.arange(count))
    assert scipy.stats.chisquare(np.bincount(black[1], minlength=size * size))[1] > 1e-4


def test_an_epoch_has_each_image_once_in_another_order():
    made = device()
    assert made.steps_per_epoch == 2
    epochs = [np.concatenate([made.indices(2 * e), made.indices(2 * e + 1)]) for e in range(3)]
    assert all(len(set(epoch)) == 2 * BATCH for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    bits = np.random.Philox(key=[SEED, 1]).random_raw(40)
    np.testing.assert_array_equal(epochs[1], np.argsort(bits)[: 2 * BATCH])
    # Whichever step is first; NumPy's bits of Philox are the same in all its versions.
    np.testing.assert_array_equal(device().indices(5), made.indices(5))
    assert make_order(0, 0, 0, 6).tolist() == [0, 2, 1, 5, 4, 3]


def test_balanced_classes_come_in_turn_and_all_their_images_too():
    labels = np.array([0] * 30 + [1] * 7 + [2] * 3)
    dataset = data.Dataset(IMAGES, labels, tuple("abc"))
    made = device(dataset=dataset, batch_size=10, class_balanced=True)
    indices = np.concatenate([made.indices(step) for step in range(9)])
    for turn in labels[indices].reshape(-1, 3):
        assert set(turn) == {0, 1, 2}
    for label, count in enumerate((30, 7, 3)):
        of_class = indices[labels[indices] == label]
        for first in range(0, 30 - count + 1, count):
            assert len(set(of_class[first : first + count])) == count
    again = device(dataset=dataset, batch_size=10, class_balanced=True)
    np.testing.assert_array_equal(again.indices(7), made.indices(7))
    with pytest.raises(ValueError, match="`class_balanced` needs images of every class.*: c"):
        device(dataset=data.Dataset(IMAGES, labels % 2, tuple("abc")), class_balanced=True)


ENCODED = type("Encoded", (), {"is_in_memory": False, "image_shape": (None, None, 3)})()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augmentation": Augmentation(randaugment=2)}, "the device does not do randaugment=2"),
        ({"augmentation": Augmentation(min_area=0.3, rotation=9.0)}, "min_area=0.3, rotation=9.0"),
        ({"dataset": ENCODED}, "not in memory"),
        ({"size": 16}, "12x12 pixels, are not of the size 16"),
        ({"dataset": data.Dataset(IMAGES, LABELS - 1, "abcd")}, "the label -1 is not a class"),
        ({"batch_size": 41}, "`batch_size` must be from 1 to the number of images, 40"),
        ({"batch_size": 5, "augmentation": Augmentation(mixup=1.0)}, "must be a multiple of 2"),
        (
            {"augmentation": Augmentation(pad_and_crop=12, reflect=True)},
            "`pad_and_crop` must be below the image size, 12",
        ),
    ],
)  # fmt: skip
def test_what_the_device_cannot_do_is_said_in_a_line(changes, message):
    with pytest.raises(ValueError, match=message) as raised:
        device(**changes)
    assert "\n" not in str(raised.value)


def test_digits_need_no_tensorflow():
    digits = data.load("digits", "train")
    made = device(Augmentation(pad_and_crop=3), digits, 32, 64)
    images, targets = read(made, 0)
    assert images.shape == (64, 32, 32, 3)
    np.testing.assert_array_equal(targets.argmax(1), digits.labels[made.indices(0)])
