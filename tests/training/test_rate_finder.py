"""The range test of the learning rate, against a loop by hand and against curves by formula."""

import csv
import math

import keras
import little
import numpy as np
import pytest
import tensorflow as tf

import keras_senet
from keras_senet.training import Trainer, find_rate
from keras_senet.training.inputs import load_images, make_batches
from keras_senet.training.network import make_network
from keras_senet.training.rate_finder import analyse_losses

RECIPE = little.RECIPE.override(nesterov=True)
STEPS = 40


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch, little.graphs_as_traced():
        little.put_in_place(patch.setitem, patch.setattr)
        folder = tmp_path_factory.mktemp("rates") / "new"
        return find_rate(RECIPE, folder, steps=STEPS), folder


def test_the_losses_are_those_of_a_loop_by_hand(found):
    """SGD with Nesterov's momentum as Keras documents it, L2 regularisation on kernels. 5 s: the
    search and the loop are traced.
    """
    result, _ = found
    images = load_images(RECIPE)
    batches = make_batches(RECIPE, images.train)
    keras.utils.set_random_seed(RECIPE.seed)
    model = make_network(RECIPE, images.train)
    variables = model.trainable_variables
    velocities = [np.zeros(v.shape, "float32") for v in variables]
    expected = 1e-4 * 1e5 ** (np.arange(len(result.rates)) / (STEPS - 1))
    np.testing.assert_allclose(result.rates, expected, rtol=1e-5)
    losses = []
    # The rates rise until training diverges, where rounding grows
    for rate, (batch, targets) in zip(expected.tolist(), batches.batches(0, 25), strict=False):
        with tf.GradientTape() as tape:
            outputs = model(model.preprocessing.normalize(batch), training=True)
            smooth = 0.9 * targets + 0.1 / 10
            loss = -tf.reduce_mean(tf.reduce_sum(smooth * tf.math.log(outputs), axis=-1))
        losses.append(float(loss))
        gradients = tape.gradient(loss, [v.value for v in variables])
        for i, (gradient, variable) in enumerate(zip(gradients, variables, strict=True)):
            gradient = gradient.numpy()
            if variable.path.endswith("kernel"):
                gradient = gradient + 1e-4 * variable.numpy()
            velocities[i] = 0.9 * velocities[i] - rate * gradient
            variable.assign_add(0.9 * velocities[i] - rate * gradient)
    np.testing.assert_allclose(result.losses[:25], losses, rtol=1e-3)


def test_its_files_have_what_it_found_and_no_run_is_begun(found):
    result, folder = found
    assert {path.name for path in folder.iterdir()} == {"rates.csv", "rates.png"}
    with (folder / "rates.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == list(result.losses)
    assert [float(row["learning_rate"]) for row in rows] == list(result.rates)
    assert [row["smoothed"] == "" for row in rows] == list(np.isnan(result.smoothed))
    assert (folder / "rates.png").stat().st_size > 5000
    Trainer(RECIPE, folder, verbose=False)  # there is no run of another recipe


def test_the_seed_decides(found):
    again = find_rate(RECIPE, steps=STEPS)
    np.testing.assert_array_equal(again.losses, found[0].losses)
    assert again.suggestion == found[0].suggestion
    other = RECIPE.override(seed=1, optimizer="adamw", decoupled=True, learning_rate=0.01)
    losses = find_rate(other, steps=24).losses
    assert losses[0] != again.losses[0]  # before the first update
    assert np.isfinite(losses).all()


def test_the_suggestion_is_where_the_loss_falls_fastest():
    """A loss that falls as a logistic curve of log10(rate) around 0.01, whose steepest point it is,
    and rises after 1; with noise of a fiftieth of its fall.
    """
    rates = 10 ** np.linspace(-4, 1, 201)
    x = np.log10(rates)
    losses = 2.3 - 1 / (1 + np.exp(-4 * (x + 2))) + 5 * np.clip(x, 0, None) ** 2
    smoothed, suggestion = analyse_losses(rates, losses, 25)
    assert suggestion == pytest.approx(0.01, rel=0.03)
    noisy = losses + np.random.default_rng(0).normal(0, 0.02, len(losses))
    smoothed, suggestion = analyse_losses(rates, noisy, 25)
    assert abs(math.log10(suggestion) + 2) < 0.25
    line = np.polynomial.Polynomial.fit(np.log(rates[:25]), noisy[:25], 1)
    assert smoothed[12] == pytest.approx(line(math.log(rates[12])))


def test_a_loss_that_never_falls_has_no_suggestion():
    rates = 10 ** np.linspace(-4, 1, 50)
    assert analyse_losses(rates, np.linspace(1, 2, 50), 7)[1] is None
    assert analyse_losses(rates[:3], np.ones(3), 7)[1] is None


def test_it_stops_when_training_diverges():
    result = find_rate(RECIPE.override(learning_rate=1e4, warmup_epochs=0.0), steps=60)
    assert len(result.losses) < 60


@pytest.mark.parametrize(
    "fields",
    [
        {"accumulation": 2, "clip_norm": 1.0, "ema": 0.9},
        {"precision": "mixed_float16", "mixup": 0.0},
    ],
    ids=str,
)
def test_recipes_of_all_kinds(fields):
    """And above, by AdamW."""
    result = find_rate(RECIPE.override(**fields), steps=24)
    assert np.isfinite(result.losses).all()


def test_frozen_stages_stay_and_the_head_is_faster(tmp_path):
    """Of a head only, ten times the factor of a tenth of the rate is the same test."""
    model = little.NETWORK(weights=None, classes=7)
    keras_senet.save_weights(model, tmp_path / "seven.weights.h5")
    recipe = RECIPE.override(weights=str(tmp_path / "seven.weights.h5"), freeze=(0, 1))
    frozen = find_rate(recipe, steps=24)
    head = find_rate(recipe.override(head_rate=10.0, learning_rate=0.01), steps=24)
    np.testing.assert_allclose(frozen.losses, head.losses, rtol=1e-4)
    assert find_rate(recipe.override(freeze=()), steps=24).losses[9] != frozen.losses[9]
    (tmp_path / "seven.weights.h5").unlink()
    with pytest.raises(ValueError, match="weights"):
        find_rate(recipe, steps=24)


def test_too_few_steps_are_refused():
    with pytest.raises(ValueError, match="`steps` must be at least 24. Received: steps=3"):
        find_rate(RECIPE, steps=3)


@pytest.mark.parametrize("seed", range(8))
def test_noise_is_not_a_fall(seed):
    """A trained network's curve: it falls by a sixth per decade from 3e-4 to 3e-2, where batches
    differ more than that.
    """
    rates = 1e-5 * 1e5 ** (np.arange(200) / 199)
    decades = np.log10(rates / 3e-4)
    curve = 1.6 - 0.17 * np.clip(decades, 0, 2) + np.maximum(decades - 2, 0)
    noise = np.random.default_rng(seed).normal(0, 0.22, 200)
    suggestion = analyse_losses(rates, curve + noise, 25)[1]
    assert suggestion is not None
    assert 3e-4 < suggestion < 3e-2
    exact = analyse_losses(rates, curve, 25)[1]
    assert exact is not None
    assert 3e-4 < exact < 3e-2
