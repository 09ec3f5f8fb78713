"""Shake-Shake's mixture: random in training, forward and backward apart, and even in inference; on
any backend.
"""

import keras
import numpy as np
import pytest
from gradients import value_and_gradients

from keras_senet.layers import PadChannels, ShakeShake, ShuffleChannels

SHAPE = (5, 3, 2, 4)


def pair():
    random = np.random.default_rng(0)
    return [random.normal(size=SHAPE).astype("float32") for _ in range(2)]


def coefficients(mixed, a, b):
    """The alpha of alpha * a + (1 - alpha) * b at each place."""
    return (mixed - b) / (a - b)


@pytest.mark.parametrize("backward", [True, False])
@pytest.mark.parametrize("forward", [True, False])
def test_coefficients_are_one_an_image_and_apart(forward, backward):
    a, b = pair()
    layer = ShakeShake(forward, backward, seed=0)
    mixed, gradients = value_and_gradients(layer, [a, b], training=True)
    alpha = coefficients(mixed, a, b)
    alphas = np.median(alpha, axis=(1, 2, 3))
    np.testing.assert_allclose(
        alpha, np.broadcast_to(alphas[:, None, None, None], SHAPE), atol=2e-3
    )
    betas, rest = (g[:, 0, 0, 0] for g in gradients)
    np.testing.assert_allclose(
        gradients[0], np.broadcast_to(betas[:, None, None, None], SHAPE), atol=1e-6
    )
    np.testing.assert_allclose(betas + rest, 1, atol=1e-6)
    for values, is_random in ((alphas, forward), (betas, backward)):
        if is_random:
            assert len(set(np.round(values, 4))) == 5
            assert values.min() > -1e-3
            assert values.max() < 1 + 1e-3
        else:
            np.testing.assert_allclose(values, 0.5, atol=1e-4)
    if forward and backward:
        assert np.abs(alphas - betas).max() > 0.05


def test_inference_is_even_and_repeats():
    a, b = pair()
    layer = ShakeShake()
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer([a, b])), 0.5 * (a + b), atol=1e-6)


def test_coefficients_differ_from_call_to_call():
    a, b = pair()
    layer = ShakeShake()
    first, second = (keras.ops.convert_to_numpy(layer([a, b], training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 0.01


def test_coefficients_are_uniform():
    """Mean 1/2 and variance 1/12 over 20,000 images, at five standard errors."""
    a, b = np.ones((20000, 1, 1, 1), "float32"), np.zeros((20000, 1, 1, 1), "float32")
    alpha = keras.ops.convert_to_numpy(ShakeShake(seed=1)([a, b], training=True))
    assert abs(alpha.mean() - 0.5) < 5 * np.sqrt(1 / 12 / 20000)
    assert abs(alpha.var() - 1 / 12) < 5 * np.sqrt(1 / 180 / 20000)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_channels_are_padded_and_shuffled(data_format):
    axis = 3 if data_format == "channels_last" else 1
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 6)).astype("float32")
    padded = keras.ops.convert_to_numpy(PadChannels(9, data_format=data_format)(x))
    np.testing.assert_array_equal(
        padded, np.concatenate([x, np.zeros_like(np.take(x, range(3), axis))], axis)
    )
    shuffled = keras.ops.convert_to_numpy(ShuffleChannels(3, data_format=data_format)(x))
    np.testing.assert_array_equal(shuffled, np.take(x, [0, 2, 4, 1, 3, 5], axis))


@pytest.mark.parametrize(
    "layer",
    [
        ShakeShake(True, False, seed=3, name="mix"),
        PadChannels(7, data_format="channels_first"),
        ShuffleChannels(4, data_format="channels_last"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_configurations_round_trip(layer):
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(restored) is type(layer)
    assert restored.get_config() == layer.get_config()
