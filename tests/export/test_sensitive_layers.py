"""Layers that integers cost most, found in networks in which one is hostile on purpose."""

import functools

import keras
import little
import numpy as np
import pytest
import report_runs
from hostile import FACTOR, FIRST, SECOND, predictions, random_images, rescaled

from keras_senet import export


@pytest.fixture(scope="module")
def images():
    return random_images(32).astype("float32")


network = functools.cache(rescaled)  # tests must leave it as it is


@pytest.fixture(scope="module")
def ranked(images):
    """The layers of `network(factor)`, ranked once."""
    return functools.cache(lambda factor: rank(network(factor), images))


def rank(model, images):
    return export.rank_layers(model, images, preprocessing=model.preprocessing)


@pytest.mark.parametrize(("factor", "named"), [(FACTOR, FIRST), (1 / FACTOR, SECOND)])
def test_a_hostile_layer_is_the_first(factor, named, ranked):
    first, second, *_ = ranked(factor)
    assert first.name == named
    assert first.share > 0.9
    assert second.error < first.error / 3


def test_no_layer_stands_out_of_an_ordinary_network(images):
    model = report_runs.network(little.DEEPER)
    found = rank(model, images)
    assert all(each.error < 0.1 for each in found)
    assert found[0].share < 0.5
    assert sum(each.share for each in found) == pytest.approx(1)
    assert found == sorted(found, key=lambda each: -each.error)


def test_ranking_leaves_the_model_as_it_is(images):
    model = rescaled(FACTOR)
    weights, given = model.get_weights(), model.preprocessing.normalize(images)
    before = np.array(model(given))
    rank(model, images)
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(before, np.array(model(given)))


def test_one_layer_of_known_errors():
    """By hand: 4 weights of a channel on a grid of 127 steps, and an output of 255."""
    layer = keras.layers.Dense(1, use_bias=False, name="only")
    model = keras.Sequential([keras.Input((1, 1, 4)), keras.layers.Flatten(), layer])
    layer.kernel.assign(np.array([[1.27], [0.004], [0.016], [-0.5]], "float32"))  # steps of 0.01
    images = np.eye(4, dtype="float32").reshape(4, 1, 1, 4)
    (weights_only,) = rank_plain(model, images, quantization="dynamic")
    exact, rounded = np.array([1.27, 0.004, 0.016, -0.5]), np.array([1.27, 0.0, 0.02, -0.5])
    error = np.sqrt(np.mean((rounded - exact) ** 2)) / np.std(exact)
    assert weights_only.error == pytest.approx(error, rel=1e-4)
    step = (1.27 + 0.5) / 255
    zero = round(0.5 / step)
    rounded = (np.round(rounded / step) + zero).clip(0, 255) - zero
    error = np.sqrt(np.mean((rounded * step - exact) ** 2)) / np.std(exact)
    (both,) = rank_plain(model, images)
    assert (both.name, both.share, both.agreement) == ("only", 1, 1)
    assert both.error == pytest.approx(error, rel=1e-4)


def rank_plain(model, images, **options):
    return export.rank_layers(model, images, **options)


@pytest.mark.parametrize(
    ("write", "factor"), [(export.to_tflite, FACTOR), (export.to_onnx, 1 / FACTOR)]
)
def test_layers_in_float_save_a_file(write, factor, images, ranked, tmp_path):
    """The proof that the layer was the right one. Over 5 s with TFLite, which is converted four
    times.
    """
    model, many = network(factor), random_images()
    options = {"quantization": "int8", "representative_images": many.astype("float32")}
    options |= {"preprocessing": model.preprocessing, "images": images}
    options["evaluation"] = many, predictions(model, many)
    lossy = write(model, tmp_path / "lossy", **options)
    assert lossy.keras_accuracy == 1
    assert lossy.accuracy < 0.85
    first, *_ = ranked(factor)
    saved = write(model, tmp_path / "saved", float_layers=first.float_layers, **options)
    # Of random weights, predictions are close to each other: the error is what tells.
    assert saved.accuracy > lossy.accuracy + 0.05
    assert saved.relative_error < lossy.relative_error / 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: rank_plain(m, x, quantization="float16"), "`quantization` must be one of"),
        (lambda m, x: rank_plain(m, x[:, :5]), r"`images` must be of shape \(N, 8, 8, 3\)"),
        (lambda m, x: rank_plain(m, x[:0]), r"`images` must be of shape \(N, 8, 8, 3\)"),
        (lambda m, x: export.TFLite(float_layers=("a",)), "`float_layers` must be \\(\\) unless"),
        (
            lambda m, x: export.to_tflite(
                m, "f", quantization="int8", representative_images=x, float_layers=(FIRST[:-1],)
            ),
            f"must be names of layers.*{FIRST[:-1]!r}. Did you mean",
        ),
    ],
)
def test_a_wrong_argument_is_named(call, message, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        call(report_runs.network(), images)
    assert not list(tmp_path.iterdir())
