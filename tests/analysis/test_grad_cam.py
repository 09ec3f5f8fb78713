"""Grad-CAM, beside the weights of the last layer, and beside finite differences in float64."""

import keras
import numpy as np
import pytest
from gated import SLOW
from keras import layers, ops
from tiny import TINY, randomize

from keras_senet.analysis import grad_cam
from keras_senet.graphs import flat_layers

# Those that end in pooling and one layer
POOLED = [
    pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
    for name in TINY
    if name != "vgg"
]


def images_for(model, count=3):
    shape = model.inputs[0].shape[1:]
    return np.random.default_rng(1).normal(size=(count, *shape)).astype("float32")


def normalized(heat):
    heat = np.maximum(heat, 0)
    return heat / np.maximum(heat.max(axis=(1, 2), keepdims=True), 1e-30)


def by_weights(model, images, classes):
    """The heat of a network whose feature maps are averaged and then weighted: relu(weights . maps)
    of the class, as its gradient is the weight over h * w at each place.
    """
    (pool,) = (e for e in model.layers if isinstance(e, layers.GlobalAveragePooling2D))
    maps = ops.convert_to_numpy(keras.Model(model.input, pool.input)(images, training=False))
    if pool.data_format == "channels_first":
        maps = np.moveaxis(maps, 1, -1)
    kernel = ops.convert_to_numpy(model.layers[-1].kernel)
    return normalized(np.einsum("nhwc,nc->nhw", maps.astype("float64"), kernel.T[classes]))


@pytest.mark.parametrize("name", POOLED)
def test_after_global_pooling_it_is_the_weights_times_the_maps(name):
    size = {32: 64, 96: 160}.get(TINY[name].size, 64)  # so that the last map has several places
    model = randomize(TINY[name].constructor(weights=None, input_shape=(size, size, 3)))
    images = images_for(model)
    found = grad_cam(model, images, [1, 0, 7])
    assert found.dtype == "float32"
    assert found.max() == 1
    np.testing.assert_allclose(found, by_weights(model, images, [1, 0, 7]), atol=1e-5)


def test_channels_first(channels_first):
    model = randomize(TINY["small"].constructor(weights=None))
    images = images_for(model)
    found = grad_cam(model, images, 4)
    np.testing.assert_allclose(found, by_weights(model, images, [4] * 3), atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    """As in float32, within the rounding of the feature maps."""
    own = randomize(TINY["small"].constructor(weights=None))
    images = images_for(own)
    expected = grad_cam(own, images, 4)
    keras.config.set_dtype_policy(policy)
    model = TINY["small"].constructor(weights=None)
    model.set_weights(own.get_weights())
    np.testing.assert_allclose(grad_cam(model, images, 4), expected, atol=0.05)


def small_network():
    """A float64 network with a plain normalisation in its midst, and a classifier of hidden units:
    no closed form of its gradient is simple.
    """
    keras.config.set_dtype_policy("float64")
    inputs = keras.Input((9, 7, 3))
    x = layers.Conv2D(5, 3, activation="tanh")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    y = layers.Conv2D(6, 3, activation="tanh", padding="same")(x)
    x = layers.Concatenate(name="last")([x, y])  # the map goes on in two ways
    return keras.Model(inputs, x, name="base")


def with_head(base, final):
    inputs = keras.Input((9, 7, 3))
    x = layers.Flatten()(base(layers.RandomFlip()(inputs)))
    x = layers.Dropout(0.5)(layers.Dense(8, activation="tanh")(x))
    return randomize(keras.Model(inputs, final(x)))


def by_differences(base, model, logits, images, label, step=1e-5):
    """The heat at the layer "norm", whose offsets move all places of one channel: the derivative
    for one of them is the sum of the gradient over the places.
    """
    norm = base.get_layer("norm")
    own, weights = ops.convert_to_numpy(norm.beta), []
    for channel in range(len(own)):
        scores = []
        for sign in (1, -1):
            norm.beta.assign(own + sign * step * np.eye(len(own))[channel])
            scores.append(ops.convert_to_numpy(logits(images, training=False))[:, label])
        weights.append((scores[0] - scores[1]) / (2 * step))
    norm.beta.assign(own)
    maps = ops.convert_to_numpy(keras.Model(base.input, norm.output)(images, training=False))
    return normalized(np.einsum("nhwc,cn->nhw", maps, weights))


ENDS = {
    "softmax": lambda x: layers.Dense(4, activation="softmax")(x),
    "sigmoid": lambda x: layers.Dense(4, activation="sigmoid")(x),
    "logits": lambda x: layers.Dense(4)(x),
    "layer": lambda x: layers.Softmax()(layers.Dense(4)(x)),
    "activation": lambda x: layers.Activation("softmax")(layers.Dense(4)(x)),
    "operation": lambda x: ops.softmax(layers.Dense(4)(x)),
}


@pytest.mark.parametrize("end", ENDS)
def test_any_layer_of_a_nested_network_beside_finite_differences(end):
    base = small_network()
    model = with_head(base, ENDS[end])
    dense = [layer for layer in model.layers if isinstance(layer, layers.Dense)][-1]
    before = keras.Model(model.input, dense.input)

    def logits(images, training):
        values = ops.convert_to_numpy(before(images, training=training))
        return values @ ops.convert_to_numpy(dense.kernel) + ops.convert_to_numpy(dense.bias)

    images = np.random.default_rng(0).normal(size=(2, 9, 7, 3))
    images = images.astype("float32")  # as `grad_cam` takes them
    outputs = ops.convert_to_numpy(model(images, training=False))
    expected = by_differences(base, model, logits, images, 2)
    found = grad_cam(model, images, 2, layer="base/norm")
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert 0 < found.min() + found.max() < 2
    np.testing.assert_array_equal(ops.convert_to_numpy(model(images, training=False)), outputs)
    for layer in flat_layers(model):
        assert "call" not in vars(layer)


def test_the_last_map_with_places_is_the_default():
    base = small_network()
    model = with_head(base, ENDS["softmax"])
    images = images_for(model)
    last = grad_cam(model, images)
    np.testing.assert_array_equal(last, grad_cam(model, images, layer="base/last"))
    predicted = ops.convert_to_numpy(model(images, training=False)).argmax(-1)
    np.testing.assert_array_equal(last, grad_cam(model, images, predicted))

    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="map")(inputs)
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Flatten()(layers.Conv2D(5, 1)(x))
    model = keras.Model(inputs, x)
    assert grad_cam(model, images_for(model)).shape == (3, 6, 6)


def test_the_calls_of_a_layer_are_told_apart():
    """Of two calls one has no weight in the score: its map is 0 everywhere, that of the other is
    not.
    """
    inputs = keras.Input((8, 8, 3))
    conv = layers.Conv2D(4, 3, name="conv", activation="relu")
    pool = layers.GlobalAveragePooling2D()
    both = [pool(conv(inputs)), pool(conv(layers.Rescaling(2.0)(inputs)))]
    model = keras.Model(inputs, layers.Dense(2, name="out")(layers.Concatenate()(both)))
    images, kernel = images_for(model), np.ones((8, 2))
    for unused in (slice(None, 4), slice(4, None)):
        kernel[:] = 1
        kernel[unused] = 0
        model.get_layer("out").kernel.assign(kernel)
        maps = [grad_cam(model, images, 0, layer=name) for name in ("conv", "conv:2")]
        assert sorted(each.max() for each in maps) == [0, 1]


def test_each_image_has_its_own_map():
    """Also over several steps; an image's map does not depend on the others."""
    model = randomize(TINY["small"].constructor(weights=None))
    images = images_for(model, 35)
    together = grad_cam(model, images)
    for i in (0, 31, 32, 34):
        np.testing.assert_allclose(grad_cam(model, images[i : i + 1])[0], together[i], atol=1e-5)


def test_what_is_refused():
    model = randomize(TINY["small"].constructor(weights=None))
    images = images_for(model)
    for arguments, message in (
        ((model, images[:, :16]), r"`images` must be of shape \(None, 32, 32, 3\)"),
        ((model, images[:0]), "`images` must be of shape"),
        ((model, images, 10), r"`classes` must be a number of 0..9"),
        ((model, images, [0, 1]), "`classes` must be"),
        ((model, images, 1.5), "`classes` must be"),
        ((model, images, True), "`classes` must be"),
        ((model, images, None, "predictions"), "`layer` must be the name of a layer that outputs"),
        ((model, images * np.nan), "not finite"),
        ((keras.Model(model.input, model.layers[5].output), images), "must be a classifier"),
        ((None, images), "`model` must be a functional"),
    ):
        with pytest.raises(ValueError, match=message):
            grad_cam(*arguments)
    flat = keras.Sequential([keras.Input((4, 4, 3)), layers.Flatten(), layers.Dense(2)])
    flat.layers[0].name = "flat"
    with pytest.raises(ValueError, match="no feature map"):
        grad_cam(flat, np.zeros((1, 4, 4, 3)))
