"""One pass over the images: which of them stand for a confusion, and which for the gates."""

import base64
import io
import itertools

import keras
import numpy as np
import pytest
from PIL import Image
from report_runs import network

from keras_senet import data
from keras_senet.analysis import gates
from keras_senet.data import Dataset
from keras_senet.evaluation import prediction_step
from keras_senet.preprocessing import Preprocessing
from keras_senet.report import predictions as module
from keras_senet.report.pictures import confusion_picture, heat_thumbnail, render_view, thumbnail
from keras_senet.report.predictions import (
    Columns,
    find_pairs,
    find_surest,
    find_suspects,
    predict_dataset,
)


def images(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), "uint8")


def dataset(count):
    return Dataset(images(count), np.arange(count) % 10, tuple("abcdefghij"))


def test_pairs_by_count_then_by_fraction():
    confusion = np.array([[5, 2, 1], [2, 1, 0], [0, 3, 9]])
    labels = np.repeat([0, 1, 2], [8, 3, 12])
    predicted = np.concatenate([np.repeat(range(3), row) for row in confusion])
    probability = np.linspace(0.5, 0.9, len(labels))
    columns = Columns(labels, predicted, 1 - probability, probability)
    found = find_pairs(confusion, 100 + np.arange(len(labels)), columns)
    assert [(pair.true, pair.predicted, pair.count) for pair in found] == [
        (2, 1, 3),
        (1, 0, 2),
        (0, 1, 2),
        (0, 2, 1),
    ]
    assert [mistake.index for mistake in found[0].mistakes] == [113, 112, 111]
    assert [mistake.probability for mistake in found[3].mistakes] == [probability[7]]


# Labels, predictions, and the probabilities of both, of three classes: the images of class 0 have
# 0.6 for it on average, those of class 1 0.5, and class 2 has no image.
COLUMNS = Columns(
    true=np.array([0, 0, 0, 1, 1, 1, 0]),
    predicted=np.array([0, 1, 1, 1, 0, 2, -1]),
    true_probability=np.array([0.9, 0.5, 0.4, 0.9, 0.2, 0.4, np.nan]),
    probability=np.array([0.9, 0.5, 0.49, 0.9, 0.6, 0.6, np.nan]),
)


def test_suspects_reach_the_mean_probability_of_the_other_class():
    """By hand: 1 reaches 0.5 with 0.5, 2 misses it, 4 reaches 0.6, 5 has a class of which nothing
    is known, and 6 has no finite probabilities. 4 has the lowest probability of its own label.
    """
    found = find_suspects(100 + np.arange(7), COLUMNS, 3)
    assert [(each.index, each.true, each.predicted) for each in found] == [(104, 1, 0), (101, 0, 1)]
    assert [(each.true_probability, each.probability) for each in found] == [(0.2, 0.6), (0.5, 0.5)]


def test_the_surest_of_each_pair_of_classes():
    mistakes = find_surest(np.arange(7), COLUMNS, COLUMNS.true != COLUMNS.predicted)
    assert [each.index for each in mistakes] == [4, 5, 1]
    hits = find_surest(np.arange(7), COLUMNS, COLUMNS.true == COLUMNS.predicted)
    assert [each.index for each in hits] == [0, 3]


def test_planted_wrong_labels_come_first():
    """A network that knows the classes, which are colours, finds the labels that were exchanged."""
    # Far from each other, so that no CPU's rounding makes two of them alike
    colours = np.array([*itertools.product((40, 215), repeat=3), (128, 128, 128), (40, 128, 215)])
    labels = np.arange(200) % 10
    noise = np.random.default_rng(0).normal(0, 15, (200, 8, 8, 3))
    tested = (colours[labels][:, None, None] + noise).clip(0, 255).astype("uint8")
    # The nearest colour has the largest 2 c.x - |c|^2
    images, preprocessing = keras.Input((8, 8, 3)), Preprocessing.scaled(8)
    nearest = keras.layers.Dense(10, activation="softmax")
    model = keras.Model(images, nearest(keras.layers.GlobalAveragePooling2D()(images)))
    model.preprocessing = preprocessing
    known = np.asarray(preprocessing.normalize(colours[:, None, None].astype("float32")))[:, 0, 0]
    nearest.set_weights([20 * known.T, -10 * (known**2).sum(axis=1)])
    # Two of the 20 of each class, so that no threshold is nearly 1
    planted = np.arange(60, 80)
    labels[planted] = (labels[planted] + 3) % 10
    found = predict_dataset(model, Dataset(tested, labels, tuple("abcdefghij")), with_gates=False)
    assert {each.index for each in found.suspects[:20]} == set(planted.tolist())


@pytest.mark.parametrize("batch_size", [7, 50])
def test_gates_are_of_evenly_spread_images(monkeypatch, batch_size):
    monkeypatch.setattr(module, "GATE_IMAGES", 10)
    model, test_set = network(), dataset(33)
    found = predict_dataset(model, test_set, batch_size=batch_size)
    chosen = test_set.images[::4]
    assert found.gate_images == len(chosen) == 9
    expected = gates(model)(model.preprocessing.normalize(chosen))
    assert [gate.block for gate in found.gates] == list(expected)
    for gate in found.gates:  # a sum of float32 in another order
        assert gate.mean == pytest.approx(expected[gate.block].numpy().mean(), abs=1e-5)
        assert gate.stage == gate.block[:6]
    assert predict_dataset(model, test_set, with_gates=False).gates == ()


def test_images_that_cannot_be_decoded_do_not_shift_the_others(tmp_path):
    for i, pixels in enumerate(images(24)):
        path = tmp_path / "test" / "abcdefghij"[i % 10] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    for name in ("a/00", "e/24"):
        (tmp_path / "test" / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    model, test_set = network(), data.load(tmp_path, "test")
    found = predict_dataset(model, test_set, batch_size=5)
    assert len(found.evaluation.skipped) == 2
    assert found.evaluation.images.sum() == 23
    step, seen = prediction_step(model), 0
    for pair in found.pairs:
        assert len(pair.mistakes) == min(3, pair.count)
        for mistake in pair.mistakes:
            ((raw,), (label,)) = test_set.fetch(np.array([mistake.index]))
            probabilities = step(test_set.decode(raw)[None]).numpy()[0]
            assert (label, probabilities.argmax()) == (pair.true, pair.predicted)
            assert probabilities.max() == pytest.approx(mistake.probability, abs=1e-5)
            seen += 1
    assert seen > 5


def test_outputs_that_are_not_finite_are_no_mistakes_with_a_probability():
    model, test_set = network(), dataset(20)
    model.get_layer("predictions").weights[1].assign(np.full(10, np.nan))
    found = predict_dataset(model, test_set)
    assert found.evaluation.not_finite == 20
    assert found.pairs == ()


class View:
    """Shows an image as it is."""

    def __call__(self, image):
        return image[None]


@pytest.mark.parametrize(
    ("height", "width", "shown", "kind"),
    [
        (8, 6, (6, 8), "PNG"),
        (64, 64, (64, 64), "PNG"),
        (96, 48, (48, 96), "JPEG"),
        (480, 300, (60, 96), "JPEG"),
    ],
)
def test_thumbnails(height, width, shown, kind):
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([255 * y / height, 255 * x / width, 0 * x], -1).astype("uint8")
    shown_image = render_view(Dataset(pixels[None], np.zeros(1, "int64"), ("a",)), 0, View())
    uri, *size = thumbnail(shown_image)
    image = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert tuple(size) == image.size == shown
    assert image.format == kind
    np.testing.assert_allclose(
        image, Image.fromarray(pixels).resize(shown, Image.Resampling.BOX), atol=8
    )


def test_a_heat_map_is_bright_where_it_is_hot():
    """On a grey picture of 8 x 8, of which the right half is hot."""
    heat = np.array([[0.0, 1.0], [0.0, 1.0]], "float32")
    for channels in (1, 3):
        picture = heat_thumbnail(np.full((8, 8, channels), 128, "uint8"), heat)
        shown = Image.open(io.BytesIO(base64.b64decode(picture.uri.partition(",")[2])))
        pixels = np.asarray(shown).astype(int)
        assert pixels.shape == (8, 8, 3)
        np.testing.assert_allclose(pixels[:, 0], [[45, 45, 47]] * 8, atol=1)  # 0.35 * 128 + ...
        np.testing.assert_allclose(pixels[:, 7], [[209, 211, 151]] * 8, atol=1)


def test_the_picture_of_a_large_confusion_matrix():
    counts = np.zeros((403, 403), int)
    counts[range(403), range(403)] = 4
    counts[10, 300:302] = 1, 1
    counts[402, 0] = 12
    uri, together = confusion_picture(counts)
    assert together == 3
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))).astype(int)
    assert pixels.shape == (135, 135, 4)
    places = {(int(i), int(j)) for i, j in zip(*pixels[..., 3].nonzero(), strict=True)}
    assert places == {(i, i) for i in range(135)} | {(3, 100), (134, 0)}
    assert pixels[134, 0, 0] > pixels[134, 0, 2]  # red
    assert pixels[134, 134, 0] < pixels[134, 134, 2]  # blue
    assert pixels[134, 0, 3] > pixels[134, 134, 3] > pixels[3, 100, 3]
