"""The pieces against their definitions, written out in NumPy."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_senet.initializers import shapes_only
from keras_senet.models import blocks
from keras_senet.models.blocks import Sampling
from keras_senet.models.resnet import ResNet, senet
from keras_senet.models.units import Basic, Bottleneck, Stem
from keras_senet.se import POSITIONS, SE


def random(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype("float32")


def caffe_ceil_max_pool(images):
    """Caffe's pooling layer: kernel 3, stride 2, no padding, output size rounded up, windows
    clipped to the image.
    """
    n, height, width, channels = images.shape
    sizes = [-(-(size - 3) // 2) + 1 for size in (height, width)]
    pooled = np.empty((n, *sizes, channels), images.dtype)
    for i in range(sizes[0]):
        for j in range(sizes[1]):
            pooled[:, i, j] = images[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max(axis=(1, 2))
    return pooled


@pytest.mark.parametrize("size", range(5, 17))
def test_ceil_max_pool_is_caffes_at_every_size(size):
    for width in (size, size + 1):
        images = np.maximum(random(2, size, width, 3), 0)
        for shape in ((size, width, 3), (None, None, 3), (size, None, 3)):
            given = keras.Input(shape)
            model = keras.Model(given, blocks.ceil_max_pool(given, name="pool"))
            np.testing.assert_array_equal(model(images), caffe_ceil_max_pool(images))


def convolve(images, kernel, stride, groups):
    """A convolution padded by (k - 1) / 2 on each side, group by group."""
    size, pad = kernel.shape[0], (kernel.shape[0] - 1) // 2
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    rows = (padded.shape[1] - size) // stride + 1
    cols = (padded.shape[2] - size) // stride + 1
    ins, outs = images.shape[-1] // groups, kernel.shape[-1] // groups
    result = np.zeros((len(images), rows, cols, kernel.shape[-1]))
    for g in range(groups):
        part, weights = padded[..., g * ins : (g + 1) * ins], kernel[..., g * outs : (g + 1) * outs]
        for i in range(rows):
            for j in range(cols):
                window = part[:, stride * i : stride * i + size, stride * j : stride * j + size]
                result[:, i, j, g * outs : (g + 1) * outs] = np.einsum(
                    "nhwc,hwco->no", window, weights
                )
    return result


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize(
    ("kernel", "stride", "groups"),
    [(7, 2, 1), (3, 2, 1), (3, 1, 1), (1, 2, 1), (3, 2, 4), (3, 1, 4)],
)
def test_convolutions_are_padded_on_both_sides(kernel, stride, groups, size):
    given = keras.Input((size, size, 8))
    model = keras.Model(
        given, blocks.conv(given, 12, kernel, stride=stride, groups=groups, name="conv")
    )
    images = random(2, size, size, 8)
    np.testing.assert_allclose(
        model(images),
        convolve(images, model.get_weights()[0], stride, groups),
        rtol=1e-4,
        atol=1e-5,
    )


def affine(images, layer):
    gamma, beta, mean, variance = layer.get_weights()
    return (images - mean) / np.sqrt(variance + 1e-5) * gamma + beta


def gate(features, layer):
    pooled = features.mean(axis=(1, 2), keepdims=True)
    reduce, reduce_bias, expand, expand_bias = layer.get_weights()
    hidden = np.maximum(pooled @ reduce[0, 0] + reduce_bias, 0)
    return 1 / (1 + np.exp(-(hidden @ expand[0, 0] + expand_bias)))


def unit_in_numpy(model, images, rows, position="standard"):
    """relu(F(x) * gate(F(x)) + shortcut(x)); rows of (layer, stride, groups) are the convolutions
    of F.
    """
    block = model.get_layer("stage3_block1_se")

    def gated(x, place):
        return x * gate(x, block) if place == position else x

    def conv_bn(x, name, stride, groups=1, place=None):
        kernel = model.get_layer(name).get_weights()[0]
        return affine(
            gated(convolve(x, kernel, stride, groups), place), model.get_layer(f"{name}_bn")
        )

    x = gated(images, "pre")
    for i, (name, stride, groups) in enumerate(rows):
        inner = i == len(rows) - 2
        x = conv_bn(x, f"stage3_block1_{name}", stride, groups, "conv3x3_linear" if inner else None)
        x = np.maximum(x, 0) if i < len(rows) - 1 else x
        x = gated(x, "conv3x3") if inner else x
    shortcut = gated(conv_bn(images, "stage3_block1_shortcut", 2), "identity")
    return gated(np.maximum(gated(x, "standard") + shortcut, 0), "post")


@pytest.mark.parametrize(
    ("spec", "rows", "width"),
    [
        (ResNet((1, 1)), [("conv1", 2, 1), ("conv2", 1, 1), ("conv3", 1, 1)], 512),
        (
            ResNet((1, 1), Bottleneck(stride_on=2)),
            [("conv1", 1, 1), ("conv2", 2, 1), ("conv3", 1, 1)],
            512,
        ),
        (senet((1, 1)), [("conv1", 1, 1), ("conv2", 2, 64), ("conv3", 1, 1)], 512),
        (ResNet((1, 1), Basic()), [("conv1", 2, 1), ("conv2", 1, 1)], 128),
    ],
    ids=["stride in the first 1x1", "stride in the 3x3", "senet", "basic"],
)
def test_a_unit_is_its_formula(spec, rows, width):
    compare_with_numpy(spec, rows, width)


@pytest.mark.parametrize("position", POSITIONS)
def test_a_position_is_its_formula(position):
    spec = ResNet((1, 1), se=SE(position=position))
    compare_with_numpy(spec, [("conv1", 2, 1), ("conv2", 1, 1), ("conv3", 1, 1)], 512)


def compare_with_numpy(spec, rows, width):
    """With random weights and statistics, at an even size, in float64 NumPy."""
    channels = spec.width
    given = keras.Input((6, 6, channels))
    model = keras.Model(given, spec.build_unit(given, 3, 1, 2, Sampling(stride=2)))
    generator = np.random.default_rng(0)
    for layer in model.layers:
        shapes = [w.shape for w in layer.get_weights()]
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([generator.uniform(0.5, 1.5, shape) for shape in shapes])
        else:
            layer.set_weights(
                [generator.normal(0, np.sqrt(2 / max(np.prod(s[:-1]), 1)), s) for s in shapes]
            )
    images = random(2, 6, 6, channels)
    expected = unit_in_numpy(model, images, rows, spec.se.position)
    assert expected.shape == (2, 3, 3, width)
    np.testing.assert_allclose(model(images), expected, atol=1e-4 * np.abs(expected).max())


def test_batch_normalization_has_caffes_epsilon():
    given = keras.Input((32, 32, 3))
    model = keras.Model(given, ResNet((1, 1))(given))
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {(layer.epsilon, layer.momentum) for layer in layers} == {(1e-5, 0.9)}


@pytest.mark.parametrize(
    ("unit", "fields", "message"),
    [
        (Bottleneck, {"stride_on": 3}, "`stride_on` must be 1 or 2. Received: stride_on=3"),
        (Bottleneck, {"projection": 0}, "`projection` must be .* Received: projection=0"),
        (Basic, {"projection": "mean"}, "`projection` must be .* Received: projection='mean'"),
        (Stem, {"pool": "max"}, "`pool` must be one of .* Received: pool='max'"),
    ],
)
def test_a_wrong_field_is_named(unit, fields, message):
    with pytest.raises(ValueError, match=message):
        unit(**fields)


def test_a_unit_has_no_field_that_it_ignores():
    """Each other value of each field makes another network."""
    changes = {
        Bottleneck: {"groups": 2, "group_width": 8, "stride_on": 2, "reduce_by": 2},
        Basic: {"residual_relu": True},
    }
    for unit, fields in changes.items():
        fields |= {"projection": 3}
        assert fields.keys() == {field.name for field in dataclasses.fields(unit)}
        outlines = [outline(unit(), 2)]
        outlines += [outline(unit(**{name: value}), 2) for name, value in fields.items()]
        assert all(outlines.count(each) == 1 for each in outlines)


def outline(unit, scale):
    """The configurations of a unit's layers."""
    given = keras.Input((8, 8, 64))
    network = ResNet((1, 1), unit)
    with shapes_only():
        model = keras.Model(given, network.build_unit(given, 3, 1, scale, Sampling(stride=2)))
    keys = ("name", "filters", "kernel_size", "strides", "groups")
    return [tuple(layer.get_config().get(key) for key in keys) for layer in model.layers]
