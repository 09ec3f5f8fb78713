"""Files of other frameworks load by their names, choose the variant of the network, and fit whole
or not at all.
"""

import contextlib
import dataclasses

import keras
import numpy as np
import pytest
from foreign import caffe_layers, caffemodel, pth, stream, torch_state
from safetensors.numpy import save_file
from tiny import TINY, randomize

import keras_senet
from keras_senet.models.blocks import global_pool
from keras_senet.models.resnet import ResNet, SmallResNet, resnext
from keras_senet.models.units import Basic, Bottleneck, Stem
from keras_senet.preprocessing import CAFFE

SPEC = ResNet((1, 1))
TIMM = ResNet((1, 1), Bottleneck(stride_on=2), Stem(pool="padded"))


def constructor(spec=SPEC, **options):
    return keras_senet.application(
        spec, name="tiny", input_size=32, classes=10, head=global_pool, **options
    )


def random_network(spec=SPEC, **options):
    """A network whose every variable is random, variances above 0."""
    return randomize(constructor(spec)(weights=None, **options))


@pytest.fixture(scope="module")
def network():
    return random_network()


def images(channels=3):
    return np.random.default_rng(1).normal(size=(2, 32, 32, channels)).astype("float32")


def written(network, kind, folder):
    path = folder / f"weights{kind}"
    if kind == ".safetensors":
        save_file(torch_state(network), path)
    else:
        path.write_bytes(pth(torch_state(network)))
    return path


@pytest.mark.parametrize("write", [pth, stream], ids=["zip", "stream"])
def test_pth(network, write, tmp_path):
    state = torch_state(network)
    state["layer0.bn1.num_batches_tracked"] = np.array(3)
    (tmp_path / "a.pth").write_bytes(write(state))
    loaded = constructor()(weights=tmp_path / "a.pth")
    np.testing.assert_array_equal(loaded(images()), network(images()))
    assert loaded.spec == SPEC


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_safetensors(network, dtype, tmp_path):
    save_file(
        {name: array.astype(dtype) for name, array in torch_state(network).items()},
        tmp_path / "a.safetensors",
    )
    loaded = constructor()(weights=tmp_path / "a.safetensors")
    np.testing.assert_allclose(
        loaded(images()), network(images()), rtol=0 if dtype != "float16" else 0.02
    )


def test_caffemodel(network, tmp_path):
    (tmp_path / "a.caffemodel").write_bytes(caffemodel(caffe_layers(network)))
    loaded = constructor()(weights=tmp_path / "a.caffemodel")
    np.testing.assert_allclose(loaded(images()), network(images()), rtol=1e-5)
    assert loaded.preprocessing == dataclasses.replace(CAFFE, size=32, crop_fraction=1.0)


def test_basic_units_of_the_cadene_family_have_a_relu_before_the_block(tmp_path):
    network = random_network(ResNet((1, 1), Basic(residual_relu=True)))
    loaded = constructor(ResNet((1, 1), Basic()))(weights=written(network, ".pth", tmp_path))
    assert loaded.spec.unit.residual_relu
    np.testing.assert_array_equal(loaded(images()), network(images()))


def test_the_timm_family_has_other_strides_and_pooling(tmp_path):
    network = random_network(TIMM)
    names = {"layer0.": "", "se_module": "se", "last_linear": "fc"}
    state = torch_state(network)
    for old, new in names.items():
        state = {name.replace(old, new): array for name, array in state.items()}
    (tmp_path / "a.pth").write_bytes(pth(state))
    loaded = constructor()(weights=tmp_path / "a.pth")
    assert loaded.spec == TIMM
    np.testing.assert_array_equal(loaded(images()), network(images()))
    assert (
        constructor(dataclasses.replace(SPEC, output_stride=16))(
            weights=tmp_path / "a.pth"
        ).spec.output_stride
        == 16
    )


def test_the_file_picks_the_variant_and_never_the_user(network, tmp_path):
    """A cadene file gives the authors' network also where the constructor's own form is timm's."""
    path = written(network, ".pth", tmp_path)
    for changed in (
        {"unit": Bottleneck(stride_on=2), "stem": Stem(pool="padded")},
        {"unit": Bottleneck(stride_on=2)},
        {"stem": Stem(pool="padded")},
    ):
        loaded = constructor(dataclasses.replace(SPEC, **changed))(weights=path)
        assert loaded.spec == SPEC
        np.testing.assert_array_equal(loaded(images()), network(images()))
    basic = ResNet((1, 1), Basic())
    assert basic.published_by("cadene").published_by("timm") == basic.published_by("timm")
    assert resnext((1, 1)).published_by("cadene") == resnext((1, 1))


def test_a_published_form_takes_published_weights():
    """Both forms are the registry's network; only another one is refused, before anything is
    fetched.
    """
    spec = keras_senet.SEResNet50.spec
    timm = keras_senet.SEResNet50.variant(
        dataclasses.replace(spec.published_by("timm"), output_stride=16)
    )
    timm.base.check_published(timm.spec)
    with pytest.raises(ValueError, match="differs in depths"):
        timm.base.check_published(dataclasses.replace(spec, depths=(1, 1)))


def test_the_channels_follow_the_file(tmp_path):
    grey = random_network(input_shape=(32, 32, 1))
    for ending in (".weights.h5", ".safetensors"):
        keras_senet.save_weights(grey, tmp_path / f"grey{ending}")
        loaded = constructor()(weights=tmp_path / f"grey{ending}")
        assert loaded.input_shape == (None, 32, 32, 1)


@pytest.mark.parametrize("ending", [".weights.h5", ".safetensors"])
def test_an_own_file_of_a_published_variant_chooses_it_too(ending, tmp_path):
    network = random_network(TIMM)
    keras_senet.save_weights(network, tmp_path / f"a{ending}")
    loaded = constructor()(weights=tmp_path / f"a{ending}")
    assert loaded.spec == network.spec
    np.testing.assert_array_equal(loaded(images()), network(images()))


# Layers of each kind are in these, which are built fast; the others are slow tests.
SAVED = ("bottleneck", "resnext", "preact_pad", "shake_shake", "vgg", "mobilenet")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in SAVED else pytest.mark.slow) for n in TINY]
)
def test_own_safetensors_round_trip(name, tmp_path):
    model = TINY[name].constructor(weights=None)
    keras_senet.save_weights(model, tmp_path / "a.safetensors")
    again = TINY[name].constructor(weights=tmp_path / "a.safetensors")
    for value, expected in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_other_strides_that_no_published_weights_have_are_refused(tmp_path):
    keras_senet.save_weights(
        random_network(ResNet((1, 1), Bottleneck(stride_on=2))), tmp_path / "a.safetensors"
    )
    with pytest.raises(ValueError, match="stride_on: 2 in the file, 1 here"):
        constructor()(weights=tmp_path / "a.safetensors")


@pytest.mark.parametrize("kind", [".pth", ".safetensors", ".caffemodel"])
def test_without_the_top(network, kind, tmp_path):
    path = tmp_path / "a.caffemodel"
    if kind == ".caffemodel":
        path.write_bytes(caffemodel(caffe_layers(network)))
    else:
        path = written(network, kind, tmp_path)
    bare = constructor()(weights=path, include_top=False, pooling="avg")
    expected = keras.Model(network.input, network.get_layer("avg_pool").output)
    np.testing.assert_allclose(bare(images()), expected(images()), rtol=1e-5)


def test_other_classes_are_refused(network, tmp_path):
    with pytest.raises(ValueError, match="the file has 10 classes, `classes` is 7"):
        constructor()(weights=written(network, ".pth", tmp_path), classes=7)


def test_a_file_without_a_classifier_says_so(network, tmp_path):
    state = {
        name: array for name, array in torch_state(network).items() if "last_linear" not in name
    }
    (tmp_path / "a.pth").write_bytes(pth(state))
    constructor()(weights=tmp_path / "a.pth", include_top=False)
    with pytest.raises(ValueError, match="no classifier.*include_top=False"):
        constructor()(weights=tmp_path / "a.pth")


def test_a_part_of_a_classifier_is_not_called_one_of_other_classes(network, tmp_path):
    state = torch_state(network)
    del state["last_linear.bias"]
    (tmp_path / "a.pth").write_bytes(pth(state))
    with pytest.raises(ValueError, match="missing: predictions/bias$"):
        constructor()(weights=tmp_path / "a.pth")


def test_the_differences_are_listed(network, tmp_path):
    state = torch_state(network)
    del state["layer1.0.se_module.fc1.bias"]
    state["layer1.0.conv9.weight"] = np.zeros(3, "float32")
    state["layer0.conv1.weight"] = np.zeros((64, 3, 3, 3), "float32")
    (tmp_path / "a.pth").write_bytes(pth(state))
    with pytest.raises(
        ValueError, match="missing: stage2_block1_se_reduce/bias; left over: .*conv9"
    ) as error:
        constructor()(weights=tmp_path / "a.pth")
    assert "stem_conv1/kernel (3, 3, 3, 64) instead of (7, 7, 3, 64)" in str(error.value)


def test_a_deeper_network_is_refused(network, tmp_path):
    with pytest.raises(ValueError, match="missing: stage4_block1.* more"):
        constructor(ResNet((1, 1, 1)))(weights=written(network, ".pth", tmp_path))


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_the_stem_is_adapted_to_other_channels(network, channels, tmp_path):
    path = written(network, ".pth", tmp_path)
    loaded = constructor()(weights=path, input_shape=(32, 32, channels))
    kernel = network.get_layer("stem_conv1").get_weights()[0]
    if channels == 1:
        expected = kernel.sum(axis=2, keepdims=True)
    else:
        expected = np.concatenate([kernel, kernel], axis=2)[:, :, :channels] * 3 / channels
    np.testing.assert_allclose(loaded.get_layer("stem_conv1").get_weights()[0], expected, rtol=1e-6)
    assert len(loaded.preprocessing.mean) == channels
    keras_senet.save_weights(loaded, tmp_path / "own.weights.h5")
    again = constructor()(weights=tmp_path / "own.weights.h5", input_shape=(32, 32, channels))
    np.testing.assert_array_equal(again(images(channels)), loaded(images(channels)))


@contextlib.contextmanager
def of_weights(layer, weights):
    """Within, a layer has other weights."""
    before = layer.get_weights()
    layer.set_weights(weights)
    yield
    layer.set_weights(before)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [".pth", ".safetensors", ".caffemodel", ".weights.h5"])
def test_numbers_that_are_not_finite_are_refused(network, kind, value, tmp_path):
    path, layer = tmp_path / f"a{kind}", network.get_layer("stage2_block1_conv2")
    kernel = layer.get_weights()[0]
    kernel[0, 0, 0, 0] = value
    with of_weights(layer, [kernel]):
        if kind == ".caffemodel":
            path.write_bytes(caffemodel(caffe_layers(network)))
        elif kind == ".weights.h5":
            keras_senet.save_weights(network, path)
        else:
            path = written(network, kind, tmp_path)
    with pytest.raises(
        ValueError,
        match=f"{path.name}.* cannot be loaded: stage2_block1_conv2/kernel has values that are not",
    ):
        constructor()(weights=path)


def test_negative_variances_are_refused(network, tmp_path):
    layer = network.get_layer("stem_conv1_bn")
    *others, variance = layer.get_weights()
    with of_weights(layer, [*others, -variance]):
        file = written(network, ".pth", tmp_path)
    with pytest.raises(ValueError, match="stem_conv1_bn/moving_variance has variances below 0"):
        constructor()(weights=file)


def test_families_without_tables_say_so(network, tmp_path):
    with pytest.raises(
        ValueError, match="no table of names such as 'layer0.conv1.weight' for SmallResNet"
    ):
        constructor(SmallResNet((1,)))(weights=written(network, ".pth", tmp_path))


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
def test_both_layouts_take_the_same_file(network, layout, tmp_path):
    keras.config.set_image_data_format(layout)
    loaded = constructor()(weights=written(network, ".pth", tmp_path))
    for value, expected in zip(loaded.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_published_weights_of_a_changed_network_are_refused():
    spec = keras_senet.SEResNet50.spec
    changed = keras_senet.SEResNet50.variant(
        dataclasses.replace(spec, se=keras_senet.SE(gate="tanh"))
    )
    with pytest.raises(ValueError, match="this variant differs in se"):
        changed(weights="imagenet")
