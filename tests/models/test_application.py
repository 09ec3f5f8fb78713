"""What Keras' own tests check of its applications, and one clear error for each wrong argument."""

import dataclasses
import functools
import inspect
import itertools
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny import TINY

import keras_senet
from keras_senet import models
from keras_senet.initializers import blank, shapes_only
from keras_senet.models import units
from keras_senet.models.blocks import global_pool
from keras_senet.models.mobilenet import MobileNet
from keras_senet.models.resnet import ResNet
from keras_senet.models.units import Basic

tiny = pytest.mark.parametrize("network", TINY.values(), ids=TINY)
# Built of the same layers as others: slow tests where networks are computed or written.
ALIKE = (
    *("senet", "basic", "small", "preact", "preact_bottleneck", "shake_resnext"),
    "inception_resnet",
)
unlike = pytest.mark.parametrize(
    "network",
    [
        pytest.param(network, id=name, marks=pytest.mark.slow if name in ALIKE else ())
        for name, network in TINY.items()
    ],
)
layouts = pytest.mark.parametrize("layout", ["channels_last", "channels_first"])


def shaped(layout, size, channels):
    return (size, size, channels) if layout == "channels_last" else (channels, size, size)


PUBLISHED = [
    *("SEResNet18", "SEResNet34", "SEResNet50", "SEResNet101", "SEResNet152"),
    *(
        "SEResNeXt50",
        "SEResNeXt101",
        "SENet154",
        "SEResNet152D",
        "SEResNeXt26",
        "SEResNeXt26D",
        "SEResNeXt26T",
    ),
    *("SEResNeXt101_32x8d", "SEResNeXt101D_32x8d", "SEResNeXt101_64x4d"),
]


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
        assert ours["weights"].default == ("imagenet" if name in PUBLISHED else None)
        assert ours["classes"].default == constructor.classes


def random_images(network, count=2, layout="channels_last", seed=0):
    shape = shaped(layout, network.size, 3)
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype("float32")


@functools.cache
def built(network, **options):
    """Made once, channels last: tests must leave it as it is."""
    assert keras.config.image_data_format() == "channels_last"
    return network.constructor(weights=None, **options)


def outline(network, **options):
    """A network without weights: enough for its layers and shapes."""
    with shapes_only():
        return network.constructor(weights=None, **options)


# Made once: tests must leave them as they are
outlined = functools.cache(outline)
without_top = functools.cache(functools.partial(outline, include_top=False))


# One network of each way in which a size or a layout matters: strides alone, a shortcut that crops,
# and pooling that rounds up. Of all others the shapes are enough: their numbers in both layouts are
# compared below.
RUN = [TINY[name] for name in ("bottleneck", "shake_shake", "bn_inception")]


# The other layout with the other number of channels: only where networks run
ANY_SIZE = [
    pytest.param(network, layout, channels, id=f"{channels}-{layout}-{name}")
    for name, network in TINY.items()
    for layout, channels in itertools.product(("channels_last", "channels_first"), (1, 4))
    if network in RUN or (layout == "channels_first") == (channels == 4)
]


@pytest.mark.parametrize(("network", "layout", "channels"), ANY_SIZE)
def test_no_top_with_any_number_of_channels_and_any_size(network, layout, channels):
    keras.config.set_image_data_format(layout)
    shape = shaped(layout, None, channels)
    images = shaped(layout, network.size + 32, channels)
    if channels == 1 or network not in RUN:
        model = outline(network, include_top=False, input_shape=shape)
        with shapes_only():
            feature_map = model(keras.Input(images))
    else:
        model = network.constructor(weights=None, include_top=False, input_shape=shape)
        feature_map = model(np.zeros((1, *images), "float32"))
    assert tuple(model.output_shape) == (None, *shaped(layout, None, network.width))
    assert feature_map.shape[-1 if layout == "channels_last" else 1] == network.width


@tiny
@layouts
def test_no_top_on_an_input_tensor(network, layout):
    keras.config.set_image_data_format(layout)
    images = keras.Input(shaped(layout, 2 * network.size, 4), name="custom")
    x = keras.layers.Conv2D(3, 2, strides=2)(images)
    model = outline(network, include_top=False, input_tensor=x)
    assert model.inputs[0] is images
    assert model.output_shape[-1 if layout == "channels_last" else 1] == network.width


@functools.cache
def answers(network, **options):
    return built(network, **options)(random_images(network)).numpy()


POOLED = [
    pytest.param(network, pooling, id=f"{pooling}-{name}")
    for name, network in TINY.items()
    for pooling in ("avg", "max")
    if network in RUN or pooling == "avg"
]


@pytest.mark.parametrize(("network", "pooling"), POOLED)
def test_pooling(network, pooling):
    """One layer on the feature map; of some networks, with its numbers."""
    model = outline(network, include_top=False, pooling=pooling)
    layer = {"avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}[
        pooling
    ]
    assert model.output_shape == (None, network.width)
    assert type(model.layers[-1]) is layer
    assert [each.name for each in model.layers[:-1]] == [
        each.name for each in without_top(network).layers
    ]
    if network in RUN:
        with blank():
            model = network.constructor(weights=None, include_top=False, pooling=pooling)
        model.set_weights(built(network, include_top=False).get_weights())
        expected = {"avg": np.mean, "max": np.max}[pooling](
            answers(network, include_top=False), axis=(1, 2)
        )
        atol = 1e-5 * np.abs(expected).max()
        np.testing.assert_allclose(model(random_images(network)), expected, rtol=1e-5, atol=atol)


# Those that have a kind of layer of their own; channels first, those with one, or a flattened map,
# that depends on the layout. The others are slow tests: all models are made from their
# configurations below.
SAVED = [
    pytest.param(name, layout, marks=() if name in names else pytest.mark.slow)
    for layout, names in {
        "channels_last": ("resnext", "preact_pad", "shake_shake", "vgg", "mobilenet", "shufflenet"),
        "channels_first": ("preact_pad", "shake_shake", "vgg", "shufflenet"),
    }.items()
    for name in TINY
]


@pytest.mark.parametrize(("name", "layout"), SAVED)
def test_a_saved_model_answers_the_same(name, layout, tmp_path):
    network = TINY[name]
    if layout == "channels_last":
        model, expected = built(network), answers(network)
    else:
        keras.config.set_image_data_format(layout)
        model = network.constructor(weights=None)
        expected = model(random_images(network, layout=layout))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(random_images(network, layout=layout)), expected)
    assert [layer.get_config() for layer in loaded.layers] == [
        layer.get_config() for layer in model.layers
    ]


@tiny
def test_any_number_of_classes_and_a_model_from_its_config(network):
    with shapes_only():
        model = network.constructor(weights=None, classes=7)
        restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    assert model.output_shape == restored.output_shape == (None, 7)
    assert [w.shape for w in restored.weights] == [w.shape for w in model.weights]


@unlike
def test_weights_by_path(network, tmp_path):
    model = built(network)
    keras_senet.save_weights(model, tmp_path / "tiny.weights.h5")
    options = (
        [{}] if network not in RUN and network.head is global_pool else [{}, {"include_top": False}]
    )
    for each in options:
        loaded = network.constructor(weights=tmp_path / "tiny.weights.h5", **each)
        assert [w.path for w in loaded.weights] == [w.path for w in model.weights][
            : len(loaded.weights)
        ]
        for value, expected in zip(loaded.get_weights(), model.get_weights(), strict=not each):
            np.testing.assert_array_equal(value, expected)


@unlike
def test_layouts_give_the_same_answers(network):
    """Also where the map is flattened: the tiny VGG's is 1 x 1."""
    last, expected = built(network), answers(network)
    images = random_images(network)
    keras.config.set_image_data_format("channels_first")
    with blank():
        first = network.constructor(weights=None)
    first.set_weights(last.get_weights())
    np.testing.assert_allclose(first(images.transpose(0, 3, 1, 2)), expected, rtol=1e-4, atol=1e-6)


# TensorFlow's float16 convolutions take up to 90 s of these on a CPU: one network of each kind of
# layer and unit, in one of both precisions; the others are slow tests.
HALF = {
    "mixed_float16": ("resnext", "preact_pad", "mobilenet"),
    "mixed_bfloat16": ("shake_shake", "vgg", "shufflenet"),
}
MIXED = [
    pytest.param(name, policy, marks=pytest.mark.slow if slow else (), id=f"{policy}-{name}")
    for policy, names in HALF.items()
    for name in TINY
    for slow in [name not in names]
]


@pytest.mark.parametrize(("name", "policy"), MIXED)
def test_mixed_precision_stays_finite(name, policy):
    """Forward and backward, from images a hundred times larger than usual."""
    network = TINY[name]
    # With some weights a gradient of such images is above float16's range, which scaling is for.
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    model = network.constructor(weights=None)
    images = tf.constant(100 * random_images(network))
    with tf.GradientTape() as tape:
        loss = keras.losses.sparse_categorical_crossentropy(
            np.arange(2), model(images, training=True)
        )
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    assert model.output.dtype == "float32"
    assert np.isfinite(loss).all()
    assert all(np.isfinite(g).all() for g in gradients)


# The others are traced for long, and are trained eagerly above: slow tests.
FITTED = ("bottleneck", "shake_shake")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FITTED else pytest.mark.slow) for name in TINY]
)
def test_a_few_steps_of_fit_lower_the_loss(name):
    network = TINY[name]
    keras.utils.set_random_seed(0)
    model = network.constructor(weights=None)
    model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
    images, labels = random_images(network, 8), np.arange(8)
    losses = model.fit(images, labels, batch_size=8, epochs=6, verbose=0).history["loss"]
    assert min(losses[1:]) < losses[0]


@tiny
def test_names_are_stable_unique_and_follow_the_graph(network):
    models = (outlined(network), outline(network))
    names = [[layer.name for layer in model.layers] for model in models]
    assert names[0] == names[1]
    assert len(set(names[0])) == len(names[0])
    order = ["images", "stem", *(f"stage{i}" for i in range(1, 6)), "final"]
    stages = [order.index(stage) for name in names[0] if (stage := name.split("_")[0]) in order]
    assert stages == sorted(stages)


RESIDUAL = [
    *("bottleneck", "resnext", "senet", "basic", "small"),
    *("preact", "preact_pad", "preact_bottleneck", "shake_shake", "shake_resnext"),
]
# The paper's Tables 10 to 16, those together that do not concern each other, and how many SE blocks
# of a network they leave: all, or those of the first stage.
ABLATIONS = [
    {"position": "pre", "reduction": 2, "squeeze": "max", "gate": "tanh"},
    {"position": "post", "reduction": 4, "squeeze": None, "gate": "relu"},
    {"position": "identity", "reduction": 8, "use_bias": False},
    {"position": "conv3x3", "reduction": 32},
    {"position": "conv3x3_linear"},
    {"reduction": 2, "use_bias": False},
    {"stages": "first"},
]


def ablated(name, model, fields, build):
    """The fields, with the number of the first stage, and the network that has them."""
    if "stages" in fields:
        fields = {"stages": (int(first_stage(model).removeprefix("stage")),)}
    spec = dataclasses.replace(TINY[name].spec, se=keras_senet.SE(**fields))
    return fields, build(TINY[name]._replace(spec=spec))


def first_stage(model):
    return min(layer.name for layer in model.layers if layer.name.startswith("stage")).split("_")[0]


@pytest.mark.parametrize("fields", ABLATIONS, ids=str)
@pytest.mark.parametrize("name", RESIDUAL)
def test_every_ablation_of_every_residual_family(name, fields):
    """Each has the blocks that it says; oracle counts are in test_oracle.py."""
    model = outlined(TINY[name])
    first = first_stage(model)
    fields, variant = ablated(name, model, fields, outline)
    blocks = [layer for layer in variant.layers if isinstance(layer, keras_senet.SqueezeExcite)]
    standard = [layer for layer in model.layers if isinstance(layer, keras_senet.SqueezeExcite)]
    shared = name.startswith("shake") and fields.get("position") in ("pre", "post", "identity")
    if "stages" in fields:
        assert 0 < len(blocks) < len(standard)
        assert all(block.name.startswith(first) for block in blocks)
    else:
        assert len(blocks) == len(standard) // (2 if shared else 1)
    for field in {"reduction", "squeeze", "gate", "use_bias"} & fields.keys():
        assert {getattr(block, field) for block in blocks} == {fields[field]}


# One family with everything, and where the block stands in one of each other way of building a
# unit; the others are slow tests.
EVERY_ABLATION = [
    pytest.param(name, fields, marks=() if computed else pytest.mark.slow, id=f"{name}-{fields}")
    for name in RESIDUAL
    for fields in ABLATIONS
    for computed in [
        name == "bottleneck" or (name in ("preact", "shake_shake") and "position" in fields)
    ]
]


@pytest.mark.parametrize(("name", "fields"), EVERY_ABLATION)
def test_every_ablation_runs(name, fields):
    _, variant = ablated(
        name, outlined(TINY[name]), fields, lambda network: network.constructor(weights=None)
    )
    assert np.isfinite(variant(random_images(TINY[name]))).all()


@tiny
def test_without_se_nothing_else_changes(network):
    """The plain counterpart has the same layers but for the SE blocks."""
    plain = outline(network._replace(spec=dataclasses.replace(network.spec, se=None)))
    model = outlined(network)
    assert not [layer for layer in plain.layers if isinstance(layer, keras_senet.SqueezeExcite)]
    kept = [
        layer.name for layer in model.layers if not isinstance(layer, keras_senet.SqueezeExcite)
    ]
    assert sorted(kept) == sorted(layer.name for layer in plain.layers)
    assert len(kept) < len(model.layers)


def test_the_last_layer_has_the_activation():
    assert outlined(TINY["bottleneck"]).layers[-1].activation is keras.activations.softmax
    logits = outlined(TINY["bottleneck"], classifier_activation=None)
    assert logits.layers[-1].activation is keras.activations.linear


@pytest.mark.parametrize(
    ("spec", "changed", "before", "after"),
    [
        (
            MobileNet(width=0.25),
            {"gate_first": True},
            "stage1_block1_pointwise_relu",
            "stage1_block1_pointwise_bn",
        ),
        (
            ResNet((1, 1), Basic()),
            {"unit": Basic(residual_relu=True)},
            "stage2_block1_conv2_bn",
            "stage2_block1_conv2_relu",
        ),
    ],
    ids=["MobileNet", "Basic"],
)
def test_what_an_se_block_follows(spec, changed, before, after):
    for fields, expected in (({}, before), (changed, after)):
        make = keras_senet.application(
            dataclasses.replace(spec, **fields), name="tiny", input_size=32
        )
        with shapes_only():
            model = make(weights=None)
        block = next(
            layer for layer in model.layers if isinstance(layer, keras_senet.SqueezeExcite)
        )
        assert block.input._keras_history.operation.name == expected


def test_a_spec_prints_compares_and_makes_variants():
    spec = keras_senet.SEResNet50.spec
    assert eval(repr(spec), vars(units) | {"ResNet": ResNet, "SE": keras_senet.SE}) == spec
    assert dataclasses.replace(spec, se=None) != spec
    variant = keras_senet.SEVGG16.variant(
        dataclasses.replace(keras_senet.SEVGG16.spec, se=None), name="vgg16"
    )
    assert variant.spec.se is None
    with shapes_only():
        assert variant(weights=None, input_shape=(32, 32, 3)).get_layer("fc1").units == 4096
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.depths = (1,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": "nonsense"}, r"'imagenet'.*\.pth.*hf://.*weights='nonsense'"),
        ({"weights": "imagenet-a9"}, "weights='imagenet-a9'"),
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
        ({"weights": None, "input_shape": ()}, "three"),
        ({"weights": None, "input_shape": 0}, "three"),
        ({"weights": None, "input_tensor": np.zeros((1, 64, 64, 3))}, "Keras tensor"),
        ({"weights": None, "classifier_activation": "nonsense"}, "nonsense"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_senet.SEResNet18(**arguments)


FIXED = {
    "SEBNInception": [160, 192, 224, 256, 288, 320],
    "SEInceptionResNetV2": [75, 299],
    "SEVGG16": [32, 225],
}


@pytest.mark.parametrize("name", FIXED)
def test_sizes_that_a_network_runs_at(name):
    for size in FIXED[name]:
        with shapes_only():
            getattr(keras_senet, name)(weights=None, include_top=False, input_shape=(size, size, 3))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "SEBNInception",
            {"input_shape": (299, 299, 3)},
            "multiples of 32, such as 160, 192, 224, 256, 288 and 320",
        ),
        ("SEInceptionResNetV2", {"input_shape": (74, 74, 3)}, "at least 75 x 75"),
        ("SEVGG16", {"input_shape": (None, None, 3)}, "fixed size"),
    ],
)
def test_sizes_that_a_network_cannot_run_at(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(keras_senet, name)(weights=None, **arguments)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("SEResNet50", {"output_stride": 4}, "output_stride=4"),
        ("SEShuffleNet", {"groups": 5}, "groups=5"),
        ("SEShuffleNet", {"width": 0.33}, "width=0.33"),
        ("SEShuffleNet", {"se": keras_senet.SE(position="pre")}, "position='pre'"),
        ("SEMobileNet", {"width": 0}, "width=0"),
        ("SEMobileNet", {"se": keras_senet.SE(position="post")}, "position='post'"),
        ("SEVGG16", {"se": keras_senet.SE(position="identity")}, "position='identity'"),
        ("SEBNInception", {"se": keras_senet.SE(position="conv3x3")}, "position='conv3x3'"),
        ("SEInceptionResNetV2", {"se": keras_senet.SE(position="pre")}, "position='pre'"),
        ("SEResNet110", {"shortcut": "none"}, "shortcut='none'"),
    ],
    ids=str,
)
def test_a_wrong_field_is_named(name, fields, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(getattr(keras_senet, name).spec, **fields)


def test_an_input_tensor_that_is_too_small_or_of_another_shape():
    images = keras.Input((16, 16, 3))
    with pytest.raises(ValueError, match="at least 32 x 32"):
        keras_senet.SEResNet18(weights=None, input_tensor=images)
    with pytest.raises(ValueError, match="that of `input_tensor`"):
        keras_senet.SEResNet18(
            weights=None, input_tensor=keras.Input((64, 64, 3)), input_shape=(96, 96, 3)
        )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"position": "front"}, "position='front'"),
        ({"reduction": 0}, "reduction=0"),
        ({"squeeze": "median"}, "squeeze='median'"),
        ({"gate": "softmax"}, "gate='softmax'"),
        ({"squeeze": ["avg"]}, r"squeeze=\['avg'\]"),
        ({"stages": 2}, "stages=2"),
        ({"stages": ("2",)}, r"stages=\('2',\)"),
    ],
    ids=str,
)
def test_a_wrong_ablation_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        keras_senet.SE(**fields)


@pytest.mark.parametrize("stages", [(7,), (1, 2), ()])
def test_stages_that_a_network_has_not(stages):
    spec = dataclasses.replace(keras_senet.SEResNet18.spec, se=keras_senet.SE(stages=stages))
    message = r"stage2, stage3, stage4, stage5\. Received: stages="
    with shapes_only(), pytest.raises(ValueError, match=message):
        keras_senet.SEResNet18.variant(spec)(weights=None)
    assert keras_senet.SE(stages=[2, 3]) == keras_senet.SE(stages=(2, 3))


def test_an_unknown_model_lists_the_known_ones():
    with pytest.raises(ValueError, match="SEResNet51.*SEResNet50"):
        models.get("SEResNet51")


def test_a_constructor_is_pickled_by_its_name_and_a_variant_by_its_fields():
    for name in models.__all__:
        constructor = getattr(keras_senet, name)
        assert pickle.loads(pickle.dumps(constructor)) is constructor
    variant = keras_senet.SENet154.variant(
        dataclasses.replace(keras_senet.SENet154.spec, se=None), name="plain"
    )
    again = pickle.loads(pickle.dumps(variant))
    assert again == variant
    assert hash(again) == hash(variant)
    assert inspect.signature(again) == inspect.signature(variant)
    assert again.base is keras_senet.SENet154


def test_a_variant_with_a_public_name_is_pickled_as_itself():
    resnet = keras_senet.SEResNet50
    variant = resnet.variant(dataclasses.replace(resnet.spec, se=None), name="SEResNet50")
    again = pickle.loads(pickle.dumps(variant))
    assert again == variant
    assert again.spec.se is None


def test_constructors_compare_and_print():
    spec = keras_senet.SEResNet18.spec
    variant = keras_senet.SEResNet18.variant
    assert variant(spec) == variant(spec)
    assert variant(spec) != variant(dataclasses.replace(spec, depths=(1, 1, 1, 1)))
    assert repr(variant(spec)).startswith(
        "Constructor(spec=ResNet(depths=(2, 2, 2, 2), unit=Basic("
    )
    assert str(inspect.signature(keras_senet.SEResNet20)) == (
        "(include_top=True, weights=None, input_tensor=None, input_shape=None, pooling=None, "
        "classes=10, classifier_activation='softmax', name='se_resnet20')"
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        keras_senet.SEResNet18.classes = 10


def test_default_arguments_are_those_of_the_signature():
    make = keras_senet.application(ResNet((1, 1)), name="tiny", input_size=32, classes=7)
    with shapes_only():
        model = make()
    assert (model.name, model.output_shape) == ("tiny", (None, 7))
    with pytest.raises(TypeError, match="pool"):
        make(pool="avg")
