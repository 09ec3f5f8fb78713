"""What a network outputs without some of its SE blocks, against the network itself with its gates
held fast.
"""

import dataclasses

import keras
import numpy as np
import pytest
from gated import (
    FAMILIES,
    answers,
    assert_equal,
    images_for,
    network,
    ones,
    own_means,
    pictures,
    with_random_weights,
)
from keras import layers
from tiny import TINY

import keras_senet
from keras_senet import SE, SqueezeExcite, data
from keras_senet.analysis.comparison import compare
from keras_senet.analysis.means import mean_gates, subsample
from keras_senet.analysis.removal import remove_se, se_blocks
from keras_senet.complexity import complexity
from keras_senet.models.resnet import ResNet, SmallResNet
from keras_senet.models.units import Basic

# `test_pruning.py` and the command's tests trace what computes means.
pytestmark = pytest.mark.usefixtures("eagerly")

AFTER_BRANCHES = ("bn_inception",)  # families whose SE blocks come after joined branches


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_without_its_blocks(name):
    model = network(name)
    images = images_for(model)
    blocks, means = se_blocks(model), own_means(model, images)
    removed = remove_se(model)
    np.testing.assert_array_equal(removed(images), answers(model, images, ones(blocks)))
    assert removed.spec == dataclasses.replace(model.spec, se=None)
    constant = remove_se(model, constant_from=images)
    assert_equal(constant(images), answers(model, images, means))
    for copy in (removed, constant):
        assert not any(isinstance(layer, SqueezeExcite) for layer in copy.layers)
        assert (copy.name, copy.preprocessing) == (model.name, model.preprocessing)
    scales = [layer.name for layer in constant.layers if layer.name.endswith("_gate")]
    if name in AFTER_BRANCHES:
        assert scales == [f"{block.name}_gate" for block in blocks]
        assert not hasattr(constant, "spec")
    else:
        assert not scales
        assert constant.spec == removed.spec
        assert complexity(constant).multiply_adds == complexity(removed).multiply_adds


# position         blocks of SmallResNet((1, 1)) whose constant has no place in the layer in front
POSITIONS = {
    "standard": 0,
    "pre": 2,  # the branch's input is the shortcut's, too
    "post": 2,  # after a sum
    "identity": 1,  # one shortcut is a projection
    "conv3x3": 0,  # through the ReLU
    "conv3x3_linear": 0,
}


@pytest.mark.parametrize(("position", "scales"), POSITIONS.items(), ids=POSITIONS)
def test_every_position(position, scales):
    model = network("small", position=position)
    images = images_for(model)
    constant = remove_se(model, constant_from=images)
    assert_equal(constant(images), answers(model, images, own_means(model, images)))
    assert sum(isinstance(layer, layers.DepthwiseConv2D) for layer in constant.layers) == scales
    assert hasattr(constant, "spec") == (scales == 0)


@pytest.mark.parametrize(
    ("position", "se"),
    [
        ("standard", {"squeeze": None, "gate": "relu"}),
        ("standard", {"gate": "tanh"}),
        ("conv3x3", {"gate": "tanh"}),
        ("conv3x3", {"squeeze": "max"}),
    ],
    ids=str,
)
def test_other_blocks(position, se):
    """Of a block without a squeeze the mean is over places too; a negative gate does not go through
    a ReLU.
    """
    model = network("small", position=position, **se)
    images = images_for(model)
    means = own_means(model, images)
    constant = remove_se(model, constant_from=images)
    assert_equal(constant(images), answers(model, images, means))
    negative = position == "conv3x3" and se.get("gate") == "tanh"
    assert sum(layer.name.endswith("_gate") for layer in constant.layers) == (2 if negative else 0)


def test_channels_first(channels_first):
    model = network("bottleneck", position="post")
    images = images_for(model)
    means = mean_gates(model, se_blocks(model), images)
    assert_equal(remove_se(model, constant_from=images)(images), answers(model, images, means))


def test_some_stages_and_some_blocks():
    model = network(SmallResNet((2, 1)))
    images = images_for(model)
    first, second, third = se_blocks(model)
    last = remove_se(model, stages=[2])
    np.testing.assert_array_equal(last(images), answers(model, images, ones([third])))
    assert last.spec == dataclasses.replace(model.spec, se=SE(stages=(1,)))
    one = remove_se(model, blocks=[second.name])
    np.testing.assert_array_equal(one(images), answers(model, images, ones([second])))
    assert not hasattr(one, "spec")  # half a stage
    given = {second.name: np.linspace(0, 1, 16)}
    assert_equal(
        remove_se(model, blocks=[second.name], constant_from=given)(images),
        answers(model, images, {second: given[second.name]}),
    )
    assert [block.name for block in se_blocks(one)] == [first.name, third.name]


def test_the_weights_are_saved_with_the_architecture_that_is_left(tmp_path):
    for name, stages in (("resnext", None), ("small", [2])):
        model = network(name)
        images = images_for(model)
        removed = remove_se(model, stages, constant_from=images)
        keras_senet.save_weights(removed, tmp_path / "removed.weights.h5")
        keras_senet.save_weights(removed, tmp_path / "removed.safetensors")
        for ending in ("weights.h5", "safetensors"):
            again = TINY[name].constructor.variant(removed.spec)(
                weights=str(tmp_path / f"removed.{ending}"), classifier_activation=None
            )
            np.testing.assert_array_equal(again(images), removed(images))


def test_nested_models_and_foreign_ones():
    """A gate after a normalisation without a scale, in a nested model."""
    inner_inputs = keras.Input((8, 8, 4))
    x = layers.BatchNormalization(scale=False)(layers.Conv2D(6, 3, name="conv")(inner_inputs))
    inner = keras.Model(inner_inputs, SqueezeExcite(2, name="inner_se")(x), name="inner")
    inputs = keras.Input((8, 8, 4))
    x = SqueezeExcite(2, name="outer_se")(inner(layers.ReLU()(inputs)))
    model = with_random_weights(keras.Model(inputs, layers.GlobalAveragePooling2D()(x)))
    images = images_for(model)
    blocks = se_blocks(model)
    assert {block.name for block in blocks} == {"inner_se", "outer_se"}
    means = mean_gates(model, blocks, images)
    constant = remove_se(model, constant_from=images)
    assert_equal(constant(images), answers(model, images, means))
    names = [layer.name for layer in constant._flatten_layers()]
    assert "outer_se_gate" in names
    assert "inner_se_gate" not in names
    np.testing.assert_array_equal(remove_se(model)(images), answers(model, images, ones(blocks)))


def test_shared_blocks_and_layers_that_others_read():
    """A constant must not change what another layer reads."""
    inputs = keras.Input((8, 8, 4))
    conv = layers.Conv2D(4, 1)(inputs)
    block = SqueezeExcite(2, name="twice")
    model = with_random_weights(keras.Model(inputs, layers.Add()([conv, block(block(conv))])))
    images = images_for(model)
    means = mean_gates(model, [block], images)
    assert_equal(remove_se(model, constant_from=images)(images), answers(model, images, means))


@pytest.mark.parametrize(
    ("activation", "scales"),
    [(None, 0), ("relu", 0), ("sigmoid", 1), (layers.ReLU(6.0), 1), (layers.ReLU(), 0)],
)
def test_only_what_keeps_a_factor_takes_the_constant(activation, scales):
    inputs = keras.Input((8, 8, 4))
    fused = None if isinstance(activation, layers.Layer) else activation
    x = layers.Conv2D(4, 3, activation=fused)(inputs)
    x = activation(x) if isinstance(activation, layers.Layer) else x
    model = with_random_weights(keras.Model(inputs, SqueezeExcite(2, name="se")(x)))
    images = 20 * images_for(model)
    constant = remove_se(model, constant_from=images)
    assert_equal(
        constant(images), answers(model, images, mean_gates(model, se_blocks(model), images))
    )
    assert sum(layer.name == "se_gate" for layer in constant.layers) == scales


def test_means_over_a_dataset_are_those_over_its_images_as_the_network_takes_them():
    model = network()
    dataset = pictures(70)  # more than a batch
    prepared = np.array(model.preprocessing.normalize(dataset.images))
    for found, expected in zip(
        remove_se(model, constant_from=dataset).get_weights(),
        remove_se(model, constant_from=prepared).get_weights(),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    means = mean_gates(model, se_blocks(model), dataset)
    for block, expected in own_means(model, prepared).items():
        np.testing.assert_allclose(means[block], expected, atol=1e-6)


def test_a_subset_of_a_dataset_is_spread_over_it():
    dataset = pictures(10)
    part = subsample(dataset, 4)
    images, labels = part.fetch(np.arange(4))
    assert labels.tolist() == [0, 3, 6, 9]
    np.testing.assert_array_equal(images, dataset.images[[0, 3, 6, 9]])
    assert (len(part), part.name_of(1), part.image_shape) == (4, "image 3", (32, 32, 3))
    assert subsample(dataset, 10) is dataset


@pytest.mark.slow
def test_the_papers_remark_on_the_last_stage():
    """SE-ResNet-50: 2,514,944 weights in SE blocks without biases, about 10% of the plain network;
    942,080, about 4%, without those of the last stage (paper, Section 4 of v4, "Model and
    computational complexity")."""
    spec = dataclasses.replace(keras_senet.SEResNet50.spec, se=SE(use_bias=False))
    model = keras_senet.SEResNet50.variant(spec)(weights=None)
    plain = complexity(remove_se(model))
    assert complexity(model).parameters - plain.parameters == 2514944
    last = remove_se(model, stages=[5])
    assert complexity(last).parameters - plain.parameters == 942080
    assert last.spec.se.stages == (2, 3, 4)
    assert round(100 * 942080 / plain.parameters) == 4


def test_the_model_is_left_alone():
    model = network("bottleneck")
    before, images = model.get_weights(), images_for(model)
    expected = model(images)
    remove_se(model, constant_from=images)
    for weight, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)
    np.testing.assert_array_equal(model(images), expected)


def test_a_comparison():
    model, dataset = network(), pictures(12)
    found = compare(model, remove_se(model), dataset)
    assert found.before.parameters == complexity(model).parameters
    assert found.after.images == 12
    assert found.top1 == found.after.top1 - found.before.top1
    assert found.parameters == found.after.parameters / found.before.parameters < 1
    assert compare(model, remove_se(model)).top1 is None


class Subclassed(keras.Model):
    def call(self, x):
        return x


# model, arguments, error
REFUSED = [
    (lambda: network(ResNet((1,), Basic(), se=None)), {}, "`model` has no SE blocks.*'tiny'"),
    (Subclassed, {}, "`model` must be a functional"),
    (lambda: "SEResNet50", {}, "`model` must be a functional"),
    (
        network,
        {"stages": [3]},
        r"`stages` must name stages with SE blocks \(1, 2\). Received: stages=\[3\]",
    ),
    (network, {"stages": 2}, "Received: stages=2"),
    (network, {"stages": []}, r"Received: stages=\[\]"),
    (
        network,
        {"stages": [[1]]},
        r"`stages` must name stages with SE blocks \(1, 2\). Received: stages=\[\[1\]\]",
    ),
    (network, {"blocks": [np.array(["a", "b"])]}, "`blocks` must name blocks with SE blocks"),
    (network, {"blocks": ["stage1"]}, "`blocks` must name blocks with SE blocks|stage1_block1_se"),
    (network, {"blocks": ["stage1_block1_se"], "stages": [1]}, "Pass `stages` or `blocks`"),
    (network, {"constant_from": np.zeros((0, 32, 32, 3))}, "There must be images"),
    (
        network,
        {"constant_from": np.zeros((1, 16, 16, 3))},
        r"`images` must be of shape \(None, 32, 32, 3\)",
    ),
    (network, {"constant_from": "cifar10"}, "`images` must be of shape"),
    (network, {"constant_from": {}}, "none of 'stage1_block1_se'"),
    (
        network,
        {"stages": [1], "constant_from": {"stage1_block1_se": [1.0]}},
        "must be 16 finite numbers",
    ),
    (
        network,
        {"stages": [1], "constant_from": {"stage1_block1_se": [np.nan] * 16}},
        "0 of them finite",
    ),
]


def test_what_is_refused():
    for model, arguments, message in REFUSED:
        with pytest.raises(ValueError, match=message):
            remove_se(model(), **arguments)


def test_a_dataset_without_images_is_refused():
    empty = data.Dataset(
        np.zeros((0, 32, 32, 3), "uint8"), np.zeros(0, "int64"), tuple("0123456789")
    )
    with pytest.raises(ValueError, match="There must be images"):
        remove_se(network(), constant_from=empty)


def test_the_specification_of_a_network_of_whole_stages():
    assert remove_se(network(ResNet((1, 1, 1))), stages=(2, 4)).spec == ResNet(
        (1, 1, 1), se=SE(stages=(3,))
    )
