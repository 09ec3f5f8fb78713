"""What Keras' own tests check of its applications, and one clear error for each wrong argument."""

import dataclasses
import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_senet
from keras_senet import models
from keras_senet.models.resnet import BasicResNet, ResNet, SmallResNet, resnext, senet

# One tiny network a family: (spec, width of the feature map). Names of the full ones are checked below.
TINY = {
    "bottleneck": (ResNet((1, 1)), 512),
    "resnext": (resnext((1, 1)), 512),
    "senet": (senet((1, 1)), 512),
    "basic": (BasicResNet((1, 1)), 128),
    "small": (SmallResNet((1, 1)), 32),
}
tiny = pytest.mark.parametrize(("spec", "width"), TINY.values(), ids=TINY)
layouts = pytest.mark.parametrize("layout", ["channels_last", "channels_first"])


def constructor(spec, **options):
    return keras_senet.application(spec, name="tiny", input_size=32, classes=10, **options)


def shaped(layout, size, channels):
    return (size, size, channels) if layout == "channels_last" else (channels, size, size)


def test_every_network_has_the_signature_of_keras_applications():
    theirs = inspect.signature(keras.applications.ResNet50).parameters
    for name in models.__all__:
        constructor = getattr(keras_senet, name)
        ours = inspect.signature(constructor).parameters
        assert list(ours) == list(theirs)
        for argument in set(ours) - {"name", "weights", "classes"}:
            assert ours[argument].default == theirs[argument].default
        assert constructor.__name__ == name
        assert constructor.__doc__.startswith(type(constructor.spec).__name__)
        assert ours["weights"].default == ("imagenet" if constructor.input_size > 32 else None)
        assert ours["classes"].default == (1000 if constructor.input_size > 32 else 10)


@tiny
@layouts
@pytest.mark.parametrize("channels", [1, 4])
def test_no_top_with_any_number_of_channels_and_any_size(spec, width, layout, channels):
    keras.config.set_image_data_format(layout)
    model = constructor(spec)(weights=None, include_top=False, input_shape=shaped(layout, None, channels))
    assert tuple(model.output_shape) == (None, *shaped(layout, None, width))
    feature_map = model(np.zeros((1, *shaped(layout, 45, channels)), "float32"))
    assert feature_map.shape[-1 if layout == "channels_last" else 1] == width


@tiny
@layouts
def test_no_top_on_an_input_tensor(spec, width, layout):
    keras.config.set_image_data_format(layout)
    images = keras.Input(shaped(layout, 80, 4), name="custom")
    x = keras.layers.Conv2D(3, 2, strides=2)(images)
    model = constructor(spec)(weights=None, include_top=False, input_tensor=x)
    assert model.inputs[0] is images
    assert model.output_shape[-1 if layout == "channels_last" else 1] == width


@tiny
@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_pooling(spec, width, pooling):
    bare = constructor(spec)(weights=None, include_top=False)
    model = constructor(spec)(weights=None, include_top=False, pooling=pooling)
    model.set_weights(bare.get_weights())
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    expected = {"avg": np.mean, "max": np.max}[pooling](bare(images), axis=(1, 2))
    assert model.output_shape == (None, width)
    np.testing.assert_allclose(model(images), expected, rtol=1e-5, atol=1e-5)


@tiny
@layouts
def test_a_saved_model_answers_the_same(spec, width, layout, tmp_path):
    keras.config.set_image_data_format(layout)
    model = constructor(spec)(weights=None, classes=7)
    images = np.random.default_rng(0).normal(size=(2, *shaped(layout, 32, 3))).astype("float32")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert model.output_shape == (None, 7)
    np.testing.assert_array_equal(loaded(images), model(images))
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    assert [w.shape for w in restored.weights] == [w.shape for w in model.weights]


@tiny
def test_layouts_give_the_same_answers(spec, width):
    model = constructor(spec)(weights=None)
    images = np.random.default_rng(0).normal(size=(2, 33, 33, 3)).astype("float32")
    last = constructor(spec)(weights=None, input_shape=(33, 33, 3))
    last.set_weights(model.get_weights())
    keras.config.set_image_data_format("channels_first")
    first = constructor(spec)(weights=None, input_shape=(3, 33, 33))
    first.set_weights(model.get_weights())
    np.testing.assert_allclose(first(images.transpose(0, 3, 1, 2)), last(images), rtol=1e-4, atol=1e-6)


@tiny
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_stays_finite(spec, width, policy):
    keras.config.set_dtype_policy(policy)
    model = constructor(spec)(weights=None)
    images = tf.constant(100 * np.random.default_rng(0).normal(size=(4, 32, 32, 3)), "float32")
    with tf.GradientTape() as tape:
        loss = keras.losses.sparse_categorical_crossentropy(np.arange(4), model(images, training=True))
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    assert model.output.dtype == "float32"
    assert all(np.isfinite(g).all() for g in gradients)


@tiny
def test_a_few_steps_of_fit_lower_the_loss(spec, width):
    keras.utils.set_random_seed(0)
    model = constructor(spec)(weights=None)
    model.compile(keras.optimizers.SGD(0.02), "sparse_categorical_crossentropy")
    random = np.random.default_rng(0)
    images, labels = random.normal(size=(16, 32, 32, 3)).astype("float32"), random.integers(0, 10, 16)
    losses = model.fit(images, labels, batch_size=16, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_the_last_layer_has_the_activation():
    assert constructor(ResNet((1, 1)))(weights=None).layers[-1].activation is keras.activations.softmax
    logits = constructor(ResNet((1, 1)))(weights=None, classifier_activation=None)
    assert logits.layers[-1].activation is keras.activations.linear


def test_only_senet154_drops_out():
    for name in models.__all__:
        layers = getattr(keras_senet, name)(weights=None).layers
        rates = [layer.rate for layer in layers if isinstance(layer, keras.layers.Dropout)]
        assert rates == ([0.2] if name == "SENet154" else [])


@tiny
def test_names_are_stable_unique_and_follow_the_graph(spec, width):
    names = [[layer.name for layer in constructor(spec)(weights=None).layers] for _ in range(2)]
    assert names[0] == names[1]
    assert "stage2_block1_se" in names[0]
    stages = [name.split("_")[0] for name in names[0]]
    assert stages == sorted(stages, key=["images", "stem", "stage1", "stage2", "stage3", "avg", "predictions"].index)


def test_a_spec_prints_compares_and_makes_variants():
    spec = keras_senet.SEResNet50.spec
    assert eval(repr(spec), {"ResNet": ResNet, "SE": keras_senet.SE}) == spec
    assert dataclasses.replace(spec, se=None) != spec
    plain = constructor(dataclasses.replace(ResNet((1, 1)), se=None))(weights=None)
    assert not [layer for layer in plain.layers if isinstance(layer, keras_senet.SqueezeExcite)]
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.depths = (1,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "'imagenet'.*cannot load published weights|cannot load published weights"),
        ({"weights": "nonsense"}, "weights='nonsense'"),
        ({"weights": "missing.weights.h5"}, "missing.weights.h5"),
        ({"weights": "imagenet", "classes": 10}, "classes=10"),
        ({"weights": None, "pooling": "mean", "include_top": False}, "pooling='mean'"),
        ({"weights": None, "pooling": "mean"}, "pooling='mean'"),
        ({"weights": None, "classes": 0}, "classes=0"),
        ({"weights": None, "classes": 2.5}, "classes=2.5"),
        ({"weights": None, "classes": True}, "classes=True"),
        ({"weights": None, "input_shape": (31, 31, 3)}, r"at least 32 x 32.*\(31, 31, 3\)"),
        ({"weights": None, "input_shape": (224, 31, 3)}, "at least 32 x 32"),
        ({"weights": None, "input_shape": (224, 224)}, r"three.*\(224, 224\)"),
        ({"weights": None, "input_shape": (224, 224, None)}, "three"),
        ({"weights": None, "input_shape": (224, -1, 3)}, "three"),
        ({"weights": None, "input_shape": 224}, "three"),
        ({"weights": None, "input_tensor": np.zeros((1, 64, 64, 3))}, "Keras tensor"),
        ({"weights": None, "classifier_activation": "nonsense"}, "nonsense"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_senet.SEResNet18(**arguments)


def test_an_input_tensor_that_is_too_small_or_of_another_shape():
    images = keras.Input((16, 16, 3))
    with pytest.raises(ValueError, match="at least 32 x 32"):
        keras_senet.SEResNet18(weights=None, input_tensor=images)
    with pytest.raises(ValueError, match="that of `input_tensor`"):
        keras_senet.SEResNet18(weights=None, input_tensor=keras.Input((64, 64, 3)), input_shape=(96, 96, 3))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"position": "front"}, "position='front'"),
        ({"reduction": 0}, "reduction=0"),
        ({"squeeze": "median"}, "squeeze='median'"),
        ({"gate": "softmax"}, "gate='softmax'"),
    ],
    ids=str,
)
def test_a_wrong_ablation_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        keras_senet.SE(**fields)


def test_an_unknown_model_lists_the_known_ones():
    with pytest.raises(ValueError, match="SEResNet51.*SEResNet50"):
        models.get("SEResNet51")
