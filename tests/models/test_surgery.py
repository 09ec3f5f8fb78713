"""Feature maps, output strides, and SE blocks in foreign models."""

import dataclasses
import functools

import keras
import numpy as np
import pytest
from tiny import TINY, ShortMobileNet, ShortShuffleNet

import keras_senet
from keras_senet.initializers import blank, shapes_only
from keras_senet.models.bn_inception import BNInception
from keras_senet.models.inception_resnet_v2 import InceptionResNetV2
from keras_senet.models.resnet import ResNet, resnext, senet
from keras_senet.models.units import Basic
from keras_senet.models.vgg import VGG

DEEP = {
    "bottleneck": (ResNet((1, 1, 1, 1)), (256, 512, 1024, 2048)),
    "resnext": (resnext((1, 1, 1, 1)), (256, 512, 1024, 2048)),
    "senet": (senet((1, 1, 2, 1)), (256, 512, 1024, 2048)),
    "basic": (ResNet((1, 2, 1, 1), Basic()), (64, 128, 256, 512)),
    "post": (
        dataclasses.replace(ResNet((1, 1, 1, 1)), se=keras_senet.SE(position="post")),
        (256, 512, 1024, 2048),
    ),
    "bn_inception": (BNInception(), (192, 320, 608, 1024)),
    "mobilenet": (ShortMobileNet(width=0.25), (32, 64, 128, 256)),
    "shufflenet": (ShortShuffleNet(width=0.5), (12, 120, 240, 480)),
    "vgg": (VGG((1, 1, 1, 1, 1)), (256, 512, 512, 512)),
}
deep = pytest.mark.parametrize(("spec", "widths"), DEEP.values(), ids=DEEP)
# Of the others, which end their stages as these do, the shapes are enough
COMPUTED = ("bottleneck", "basic", "mobilenet", "shufflenet", "vgg")


@functools.cache
def backbone(spec):
    """Made once: tests must leave it as it is."""
    make = keras_senet.application(spec, name="deep", min_size=32)
    return make(weights=None, include_top=False, input_shape=(None, None, 3))


def random_images(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@deep
@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
def test_the_maps_are_at_strides_4_to_32(spec, widths, layout):
    """Of shapes alone: below, the last map is computed, and test_application.py compares the
    layouts.
    """
    keras.config.set_image_data_format(layout)
    make = keras_senet.application(spec, name="deep", min_size=32)
    shape, size = (
        ((None, None, 3), (96, 64, 3))
        if layout == "channels_last"
        else ((3, None, None), (3, 96, 64))
    )
    with shapes_only():
        model = make(weights=None, include_top=False, input_shape=shape)
        maps = keras_senet.features(model)(keras.Input(size, batch_size=1))
    assert list(maps) == ["C2", "C3", "C4", "C5"]
    for (level, found), width, stride in zip(maps.items(), widths, (4, 8, 16, 32), strict=True):
        shape = found.shape if layout == "channels_last" else (1, *found.shape[2:], found.shape[1])
        assert tuple(shape) == (1, 96 // stride, 64 // stride, width), level


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in COMPUTED else pytest.mark.slow) for n in DEEP]
)
def test_the_last_map_is_the_networks_own_with_its_weights(name):
    spec, widths = DEEP[name]
    model = backbone(spec)
    images = random_images(1, 64, 64, 3)
    view = keras_senet.features(model)
    maps = view(images)
    np.testing.assert_array_equal(maps["C5"], model(images))
    assert [m.shape for m in maps.values()] == [
        (1, 64 // stride, 64 // stride, width)
        for stride, width in zip((4, 8, 16, 32), widths, strict=True)
    ]
    assert view.layers[1] is model.layers[1]
    assert (view.spec, view.preprocessing) == (model.spec, model.preprocessing)


def test_maps_of_inception_resnet():
    """Its strides have no padding: the sizes are about those."""
    model = backbone(InceptionResNetV2((1, 1, 1)))
    maps = keras_senet.features(model)(random_images(1, 299, 299, 3))
    assert [tuple(m.shape[1:]) for m in maps.values()] == [
        (71, 71, 192),
        (35, 35, 320),
        (17, 17, 1088),
        (8, 8, 1536),
    ]


def test_maps_also_with_a_top_and_on_an_input_tensor():
    spec = DEEP["basic"][0]
    images = keras.Input((64, 64, 3))
    make = keras_senet.application(spec, name="deep")
    for model in (
        make(weights=None, input_shape=(64, 64, 3)),
        make(weights=None, input_tensor=images, include_top=False),
    ):
        assert tuple(keras_senet.features(model).output["C5"].shape) == (None, 2, 2, 512)


@pytest.mark.parametrize(
    ("name", "output_stride"),
    [
        *(("bottleneck", 16), ("resnext", 8), ("basic", 8)),
        *(pytest.param(n, 8, marks=pytest.mark.slow) for n in ("bottleneck", "senet")),
        *(pytest.param(n, 16, marks=pytest.mark.slow) for n in ("resnext", "senet", "basic")),
    ],
)
def test_dilation_sees_what_the_stride_saw(name, output_stride):
    """With equal weights every second or fourth place of the dense maps holds what the strided
    network computes.
    """
    spec = dataclasses.replace(DEEP[name][0], se=None)  # a squeeze would see the other places too
    strided = backbone(spec)
    with blank():
        dense = backbone(dataclasses.replace(spec, output_stride=output_stride))
    dense.set_weights(strided.get_weights())
    images = random_images(1, 96, 96, 3)
    expected, found = (keras_senet.features(model)(images) for model in (strided, dense))
    for level, stride in zip(("C2", "C3", "C4", "C5"), (4, 8, 16, 32), strict=True):
        step = max(1, stride // output_stride)
        assert found[level].shape[1] == 96 // min(stride, output_stride)
        scale = np.abs(expected[level]).max()
        np.testing.assert_allclose(
            found[level][:, ::step, ::step], expected[level], atol=1e-5 * scale
        )


@pytest.mark.parametrize("name", ["SEResNet50", pytest.param("SENet154", marks=pytest.mark.slow)])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_an_output_stride_keeps_the_parameters(name, output_stride):
    constructor = getattr(keras_senet, name)
    spec = dataclasses.replace(constructor.spec, output_stride=output_stride)
    with shapes_only():
        dense, strided = (
            make(weights=None, include_top=False)
            for make in (constructor.variant(spec), constructor)
        )
    assert dense.output_shape[1:3] == (224 // output_stride,) * 2
    assert [w.shape for w in dense.weights] == [w.shape for w in strided.weights]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: TINY["small"].constructor(weights=None), "network for small images with 2 stages"),
        (
            lambda: keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 1)]),
            "constructor of keras_senet",
        ),
        (lambda: "SEResNet50", "constructor of keras_senet"),
    ],
    ids=["small", "foreign", "name"],
)
def test_what_has_no_feature_maps(model, message):
    with pytest.raises(ValueError, match=message):
        keras_senet.features(model())


def plain_model():
    images = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, name="block1_conv")(images)
    shortcut = x
    x = keras.layers.Conv2D(8, 3, padding="same", name="block2_conv")(x)
    x = keras.layers.Add(name="add")([x, shortcut])
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(images, keras.layers.Dense(3, name="head")(x))


def test_add_se_gates_what_matches_and_keeps_the_weights():
    model = plain_model()
    model.class_names = ("a", "b", "c")
    gated = keras_senet.add_se(model, after=r"block2_\w+", reduction=2, gate="tanh")
    assert tuple(gated.class_names) == ("a", "b", "c")
    blocks = [layer for layer in gated.layers if isinstance(layer, keras_senet.SqueezeExcite)]
    assert [block.name for block in blocks] == ["block2_conv_se"]
    assert (blocks[0].reduction, blocks[0].gate) == (2, "tanh")
    images = random_images(2, 16, 16, 3)
    first = model.get_layer("block1_conv")(images)
    residual = blocks[0](model.get_layer("block2_conv")(first))
    expected = model.get_layer("head")(np.mean(residual + first, axis=(1, 2)))
    np.testing.assert_allclose(gated(images), expected, rtol=1e-5, atol=1e-5)
    assert not any(isinstance(layer, keras_senet.SqueezeExcite) for layer in model.layers)


def test_add_se_to_a_keras_application():
    """SE-ResNet-50 from Keras' ResNet50: the parameters of its SE blocks are those of the paper's,
    2,530,992.
    """
    model = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(64, 64, 3))
    gated = keras_senet.add_se(model, after=r"conv\d_block\d+_3_bn")
    assert gated.count_params() - model.count_params() == 2530992
    assert len(gated.layers) - len(model.layers) == 16
    kernel = "conv3_block2_2_conv"
    np.testing.assert_array_equal(
        gated.get_layer(kernel).get_weights()[0], model.get_layer(kernel).get_weights()[0]
    )


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (plain_model, {"after": "conv"}, "No layer's name matches after='conv'.*block1_conv"),
        (plain_model, {"after": "("}, r"regular expression.*after='\('"),
        (plain_model, {"after": 3}, "regular expression.*after=3"),
        (plain_model, {"after": "pool"}, "four-dimensional maps; 'pool'"),
        (plain_model, {"after": "add", "reduction": 0}, "reduction=0"),
        (lambda: "ResNet50", {"after": "add"}, "functional, or a built sequential"),
    ],
    ids=["nothing matches", "no expression", "no string", "flat", "reduction", "no model"],
)
def test_what_add_se_refuses(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_senet.add_se(model(), **arguments)
