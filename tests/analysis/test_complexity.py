"""Counts of any functional Keras model, against sums written out by hand."""

import keras
import pytest

import keras_senet
from keras_senet.complexity import complexity


def count(build, shape=(8, 8, 3)):
    images = keras.Input(shape)
    return complexity(keras.Model(images, build(images)))


@pytest.mark.parametrize(
    ("layer", "parameters", "multiply_adds"),
    [
        (keras.layers.Conv2D(5, 3, padding="same"), 3 * 3 * 3 * 5 + 5, 64 * 3 * 3 * 3 * 5),
        (
            keras.layers.Conv2D(6, 3, strides=2, groups=3, use_bias=False),
            3 * 3 * 6,
            3 * 3 * 3 * 3 * 6,
        ),
        (keras.layers.DepthwiseConv2D(3, padding="same"), 3 * 3 * 3 + 3, 64 * 3 * 3 * 3),
        (keras.layers.SeparableConv2D(5, 3, padding="same"), 27 + 15 + 5, 64 * (27 + 15)),
        (keras.layers.Conv2DTranspose(5, 3, use_bias=False), 3 * 3 * 3 * 5, 64 * 3 * 3 * 3 * 5),
        (keras.layers.Dense(5), 3 * 5 + 5, 64 * 3 * 5),
        (keras.layers.ReLU(), 0, 0),
    ],
    ids=lambda value: value.name if isinstance(value, keras.layers.Layer) else None,
)
def test_one_layer(layer, parameters, multiply_adds):
    found = count(layer)
    assert (found.parameters, found.multiply_adds) == (parameters, multiply_adds)


def test_statistics_and_rescaling_are_counted_apart():
    found = count(lambda x: keras_senet.SqueezeExcite(1)(keras.layers.BatchNormalization()(x)))
    assert found.statistics == 6
    assert found.parameters_with_statistics == found.parameters + 6
    assert found.multiply_adds == 2 * 9
    assert found.rescaled == 8 * 8 * 3
    assert found.multiply_adds_with_rescaling == 18 + 192


def test_without_a_squeeze_the_gate_is_computed_everywhere():
    assert count(keras_senet.SqueezeExcite(1, squeeze=None)).multiply_adds == 64 * 2 * 9


def test_a_shared_layer_costs_twice_and_weighs_once():
    conv = keras.layers.Conv2D(3, 1, use_bias=False)
    found = count(lambda x: conv(conv(x)))
    assert (found.parameters, found.multiply_adds) == (9, 2 * 64 * 9)


def test_a_model_within_a_model_and_frozen_layers():
    inner = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 1)])
    inner.trainable = False
    found = count(inner)
    assert (found.parameters, found.multiply_adds) == (16, 64 * 12)


def test_keras_applications():
    """Keras' ResNet50 strides in the first 1x1, as the authors, with biases: 2 x 26,560 more;
    oracle 3,857,973,248.
    """
    found = complexity(keras.applications.ResNet50(weights=None))
    assert found.multiply_adds == 3857973248
    assert found.parameters + found.statistics == 25636712


def test_stages_add_up():
    found = complexity(keras_senet.SEResNet20(weights=None))
    stages = list(found.stages())
    assert [stage.name for stage in stages] == [
        "stem",
        "stage1",
        "stage2",
        "stage3",
        "avg",
        "predictions",
    ]
    assert sum(stage.multiply_adds for stage in stages) == found.multiply_adds


def test_what_cannot_be_counted():
    images = keras.Input((None, None, 3))
    with pytest.raises(ValueError, match="fixed `input_shape`"):
        complexity(keras.Model(images, keras.layers.Conv2D(2, 1)(images)))
    with pytest.raises(ValueError, match="functional"):
        complexity("SEResNet50")
    for layer in (
        keras.layers.TimeDistributed(keras.layers.Dense(3)),
        keras.layers.ConvLSTM1D(3, 3),
    ):
        with pytest.raises(ValueError, match=f"{type(layer).__name__} layers cannot be counted"):
            count(layer)
