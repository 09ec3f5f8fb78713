"""A folded model outputs what the model does, without batch normalisation where that can be."""

import keras
import numpy as np
import pytest
from keras import layers
from tiny import TINY

import keras_senet
from keras_senet import export
from keras_senet.layers import BatchNormalization
from keras_senet.models.preact import PreActResNet
from keras_senet.models.resnet import ResNet, SmallResNet, resnext

RANDOM = np.random.default_rng(0)


def norms(model):
    return [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]


def with_random_weights(model):
    """All weights random, the variances positive: no statistic is left that hides a wrong fold."""
    for weight in model.weights:
        values = RANDOM.normal(size=weight.shape) * 0.2
        weight.assign(np.abs(values) + 0.5 if "variance" in weight.path else values)
    return model


def assert_equal(folded, model, size=32, channels=3, training=False):
    images = RANDOM.normal(size=(2, size, size, channels)).astype("float32")
    expected = model(images, training=training)
    scale = np.abs(expected).max()
    # Kernels are rounded again, layer by layer, and sums are of other products; a wrong fold is off
    # by a hundredth.
    np.testing.assert_allclose(
        folded(images, training=training) / scale, expected / scale, atol=5e-5
    )


NETWORKS = {"small": SmallResNet((1, 1)), "bottleneck": ResNet((1, 1)), "grouped": resnext((1, 1))}


@pytest.mark.parametrize("spec", NETWORKS.values(), ids=NETWORKS)
def test_a_network_without_batch_normalization(spec):
    constructor = keras_senet.application(spec, name="tiny", input_size=32, classes=10)
    model = with_random_weights(constructor(weights=None, classifier_activation=None))
    folded = export.fold(model)
    assert norms(model)
    assert not norms(folded)
    assert folded.preprocessing == model.preprocessing
    assert_equal(folded, model)


@pytest.mark.parametrize("name", ["mobilenet", "shufflenet", "bn_inception"])
def test_other_families(name):
    check_whole(TINY[name].constructor(weights=None, include_top=False), TINY[name].size)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SEMobileNet", "SEShuffleNet", "SEBNInception"])
def test_whole_networks(name):
    check_whole(
        getattr(keras_senet, name)(weights=None, input_shape=(64, 64, 3), include_top=False), 64
    )


def check_whole(model, size):
    folded = export.fold(with_random_weights(model))
    assert norms(model)
    assert not norms(folded)
    assert_equal(folded, model, size=size)


def test_what_is_in_front_of_a_convolution_stays():
    """Pre-activation: each unit begins with a normalisation of a sum."""
    constructor = keras_senet.application(
        PreActResNet((1, 1)), name="tiny", input_size=32, classes=10
    )
    model = with_random_weights(constructor(weights=None, classifier_activation=None))
    folded = export.fold(model)
    assert 0 < len(norms(folded)) < len(norms(model))
    assert_equal(folded, model)


def test_a_convolution_with_lora_stays():
    """Its outputs are not of its kernel alone."""
    inputs, conv = keras.Input((8, 8, 2)), layers.Conv2D(4, 3)
    model = keras.Model(inputs, layers.BatchNormalization()(conv(inputs)))
    conv.enable_lora(2)
    folded = export.fold(with_random_weights(model))
    assert norms(folded)
    assert_equal(folded, model, size=8, channels=2)


@pytest.mark.parametrize(
    "norm", [{}, {"scale": False}, {"center": False}, {"epsilon": 0.1}], ids=str
)
@pytest.mark.parametrize(
    "conv",
    [
        lambda: layers.Conv2D(4, 3, use_bias=True),
        lambda: layers.Conv2D(4, 3, groups=2, use_bias=False),
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=3),
        lambda: layers.Dense(5),
    ],
    ids=["conv", "groups", "depthwise", "dense"],
)
def test_each_layer_with_each_normalization(conv, norm):
    inputs = keras.Input((8, 8, 2))
    model = keras.Model(inputs, layers.BatchNormalization(**norm)(conv()(inputs)))
    folded = export.fold(with_random_weights(model))
    assert not norms(folded)
    assert_equal(folded, model, size=8, channels=2)


def activated(x):
    return layers.BatchNormalization()(layers.Conv2D(4, 3, activation="relu")(x))


def read_twice(x):
    x = layers.Conv2D(4, 3)(x)
    return layers.Add()([layers.BatchNormalization()(x), x])


def shared(x):
    conv, norm = layers.Conv2D(2, 3, padding="same"), layers.BatchNormalization()
    return norm(conv(norm(conv(x))))


def shared_norm(x):
    norm = layers.BatchNormalization()
    return layers.Add()([norm(layers.Conv2D(2, 3)(x)), norm(layers.Conv2D(2, 3)(x))])


def other_axis(x):
    return layers.BatchNormalization(axis=1)(layers.Conv2D(6, 3)(x))


def within(x, build):
    """A model of x's shape, to be nested."""
    inputs = keras.Input(x.shape[1:])
    return keras.Model(inputs, build(inputs))


def shared_by_two_models(x):
    conv = layers.Conv2D(4, 3)
    return layers.Add()(
        [within(x, lambda y: layers.BatchNormalization()(conv(y)))(x) for _ in range(2)]
    )


def norm_shared_by_two_models(x):
    norm = layers.BatchNormalization()
    return layers.Add()([within(x, lambda y: norm(layers.Conv2D(4, 3)(y)))(x) for _ in range(2)])


def also_called_outside(x):
    conv = layers.Conv2D(4, 3)
    return layers.Add()([within(x, lambda y: layers.BatchNormalization()(conv(y)))(x), conv(x)])


def call_read_by_two_models(x):
    y = keras.Input(x.shape[1:])
    z = layers.Conv2D(4, 3)(y)
    return layers.Add()([keras.Model(y, z)(x), keras.Model(y, layers.BatchNormalization()(z))(x)])


def in_training(x):
    return layers.BatchNormalization()(layers.Conv2D(4, 3)(x), training=True)


def model_in_training(x):
    model = within(x, lambda y: within(y, convolved_and_normalized)(y))
    return layers.Add()([model(x), model(x, training=True)])


def convolved_and_normalized(x):
    return layers.BatchNormalization()(layers.Conv2D(2, 3, padding="same")(x))


KEPT = [
    activated,
    read_twice,
    shared,
    shared_norm,
    other_axis,
    shared_by_two_models,
    norm_shared_by_two_models,
]
KEPT += [also_called_outside, call_read_by_two_models, in_training, model_in_training]


@pytest.mark.parametrize("build", KEPT)
def test_what_cannot_be_folded_is_kept(build):
    inputs = keras.Input((8, 8, 2))
    model = with_random_weights(keras.Model(inputs, build(inputs)))
    folded = export.fold(model)
    assert len(norms(folded)) == len(norms(model)) > 0
    assert folded.count_params() == model.count_params()
    assert_equal(folded, model, size=8, channels=2)
    assert_equal(
        folded, model, size=8, channels=2, training=None
    )  # a call's own `training=True` then holds


def test_models_called_twice_are_folded():
    """Also by two models; nothing of them is elsewhere."""
    inputs = keras.Input((8, 8, 2))
    inner = within(inputs, convolved_and_normalized)
    outer = within(inputs, lambda x: inner(inner(x), training=False))
    model = with_random_weights(keras.Model(inputs, outer(outer(inner(inputs)))))
    assert not norms(export.fold(model))
    assert_equal(export.fold(model), model, size=8, channels=2)


def test_an_output_before_the_normalization():
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(4, 3)(inputs)
    model = with_random_weights(keras.Model(inputs, [x, BatchNormalization()(x)]))
    folded = export.fold(model)
    images = RANDOM.normal(size=(2, 8, 8, 2)).astype("float32")
    for found, expected in zip(folded(images), model(images, training=False), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_nested_and_sequential_models():
    inner = keras.Sequential(
        [keras.Input((8, 8, 2)), layers.Conv2D(4, 3), layers.BatchNormalization()]
    )
    inputs = keras.Input((8, 8, 2))
    model = with_random_weights(keras.Model(inputs, layers.ReLU()(inner(inputs))))
    assert not norms(export.fold(model))
    assert_equal(export.fold(model), model, size=8, channels=2)
    assert_equal(export.fold(inner), inner, size=8, channels=2)


def test_the_model_is_left_alone():
    model = with_random_weights(TINY["bottleneck"].constructor(weights=None))
    before = [weight.numpy() for weight in model.weights]
    export.fold(model)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


@pytest.mark.parametrize(
    "model", ["SEResNet50", keras.Sequential([layers.Dense(2)])], ids=["name", "unbuilt"]
)
def test_what_is_not_functional_is_refused(model):
    with pytest.raises(ValueError, match="`model` must be a functional"):
        export.fold(model)


def test_an_operation_that_is_no_layer_stays():
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, 2 * layers.BatchNormalization()(layers.Conv2D(4, 1)(inputs)))
    folded = export.fold(model)
    images = np.ones((1, 8, 8, 3), "float32")
    np.testing.assert_allclose(folded(images), model(images), rtol=1e-5, atol=1e-6)
    assert len(folded.layers) == len(model.layers) - 1


class Scaled(layers.Layer):
    """A layer that Keras cannot copy."""

    def __init__(self, factors):
        super().__init__(name="scaled")
        self.factors = factors

    def call(self, x):
        return x * self.factors


def test_a_layer_that_cannot_be_copied_is_named():
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, convolved_and_normalized(Scaled(np.ones(3))(inputs)))
    with pytest.raises(
        ValueError, match="'scaled' of Scaled cannot be copied: its `get_config`"
    ) as caught:
        export.fold(model)
    assert "\n" not in str(caught.value)
