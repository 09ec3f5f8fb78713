"""Pruned networks, against the network itself with the channels that went held at zero."""

import keras
import numpy as np
import pytest
from gated import (
    FAMILIES,
    assert_equal,
    images_for,
    network,
    own_means,
    pictures,
    with_random_weights,
)
from keras import layers
from tiny import TINY

import keras_senet
from keras_senet import export
from keras_senet.analysis.comparison import compare
from keras_senet.analysis.pruning import prune, rank_channels
from keras_senet.analysis.removal import se_blocks
from keras_senet.complexity import complexity
from keras_senet.models.preact import PreActResNet
from keras_senet.models.resnet import ResNet, SmallResNet
from keras_senet.models.units import Basic


def narrowed(model, pruned):
    """The channels that stay of each batch normalisation that is narrower, told by its beta: {name:
    indices}.
    """
    found = {}
    for norm in pruned.layers:
        if isinstance(norm, layers.BatchNormalization):
            before, after = (
                np.array(each.beta).tolist() for each in (model.get_layer(norm.name), norm)
            )
            if len(after) < len(before):
                found[norm.name] = [before.index(value) for value in after]
    return found


def masked(model, kept):
    """A copy in which what is not kept is zero: after its batch normalisation, and before
    it.
    """
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for name, indices in kept.items():
        norm, conv = copy.get_layer(name), copy.get_layer(name.removesuffix("_bn"))
        mask = np.isin(np.arange(norm.gamma.shape[0]), indices)
        variables = [
            norm.gamma,
            norm.beta,
            *([] if isinstance(conv, layers.DepthwiseConv2D) else [conv.kernel]),
        ]
        for variable in variables:
            variable.assign(np.array(variable) * mask)
    return copy


# network           narrower batch normalisations
NARROWER = {
    "bottleneck": 4,  # conv1 and conv2 of two units
    "resnext": 4,
    "senet": 4,
    "basic": 2,
    "small": 2,
    "preact": 3,
    "preact_pad": 3,
    "preact_bottleneck": 4,
    "shake_shake": 6,
    "shake_resnext": 8,
    "bn_inception": 9,  # each convolution of a branch but its last
    "inception_resnet": 9,
    "vgg": 4,
    "mobilenet": 12,  # each but the last pointwise convolution, and the depthwise one after it
    "shufflenet": None,  # channels are shuffled between its convolutions
}


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family(name):
    model = network(name)
    if NARROWER[name] is None:
        with pytest.raises(ValueError, match="rank no channels that can be cut"):
            prune(model)
        return
    images = images_for(model)
    pruned = prune(model, 0.6, ranking="random", seed=1)
    kept = narrowed(model, pruned)
    assert len(kept) == NARROWER[name]
    assert_equal(pruned(images), masked(model, kept)(images))
    assert [layer.name for layer in pruned.layers] == [layer.name for layer in model.layers]
    assert (pruned.name, pruned.preprocessing) == (model.name, model.preprocessing)
    assert not hasattr(pruned, "spec")
    assert complexity(pruned).multiply_adds < complexity(model).multiply_adds


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(
    ("name", "position"),
    [
        ("bottleneck", "post"),
        ("bottleneck", "conv3x3"),
        ("resnext", "conv3x3_linear"),
        ("preact", "conv3x3_linear"),
    ],
)
def test_other_positions(name, position):
    """Blocks on the channels themselves lose some of their inputs and outputs, and none of their
    hidden units.
    """
    model = network(name, position=position)
    images = images_for(model)
    pruned = prune(model, 0.6, images=images)
    kept = narrowed(model, pruned)
    assert len(kept) == NARROWER[name]
    assert_equal(pruned(images), masked(model, kept)(images))
    for before, after in zip(se_blocks(model), se_blocks(pruned), strict=True):
        assert after.reduce.filters == before.reduce.filters
        assert (after.expand.filters < before.expand.filters) == (position != "post")


def test_channels_first(channels_first):
    model = network("resnext", position="conv3x3")
    images = images_for(model)
    pruned = prune(model, 0.6, images=images)
    kept = narrowed(model, pruned)
    assert len(kept) == 4
    assert_equal(pruned(images), masked(model, kept)(images))


def norm_factor(model, name):
    norm = model.get_layer(name)
    return np.abs(np.array(norm.gamma)) / np.sqrt(np.array(norm.moving_variance) + norm.epsilon)


def kernel_norms(model, name):
    """(input channels, output channels)."""
    kernel = np.array(model.get_layer(name).kernel)
    return np.linalg.norm(kernel.reshape(-1, *kernel.shape[2:]), axis=0)


def taken(model, name, images):
    """The mean magnitude of each channel that a convolution takes."""
    return np.abs(keras.Model(model.input, model.get_layer(name).input)(images)).mean(
        axis=(0, 1, 2)
    )


def gate_of(model, name, images):
    means = own_means(model, images)
    return next(mean for block, mean in means.items() if block.name == name)


def test_scores_of_basic_units():
    model = network("small")
    images = images_for(model, 5)
    for unit, scores in rank_channels(model, images).items():
        name = unit.removesuffix("_conv1")
        importance = norm_factor(model, f"{name}_conv2_bn") * gate_of(model, f"{name}_se", images)
        expected = taken(model, f"{name}_conv2", images) * (
            kernel_norms(model, f"{name}_conv2") @ importance
        )
        np.testing.assert_allclose(scores, expected, rtol=1e-4)


def test_scores_of_bottlenecks_go_back_one_step_more():
    model = network("bottleneck")
    images = images_for(model, 5)
    scores = rank_channels(model, images)
    assert list(scores) == [f"stage{s}_block1_conv{c}" for s in (2, 3) for c in (1, 2)]
    for name in ("stage2_block1", "stage3_block1"):
        importance = norm_factor(model, f"{name}_conv3_bn") * gate_of(model, f"{name}_se", images)
        third = kernel_norms(model, f"{name}_conv3") @ importance
        expected = taken(model, f"{name}_conv3", images) * third
        np.testing.assert_allclose(scores[f"{name}_conv2"], expected, rtol=1e-4)
        second = kernel_norms(model, f"{name}_conv2") @ (
            norm_factor(model, f"{name}_conv2_bn") * third
        )
        expected = taken(model, f"{name}_conv2", images) * second
        np.testing.assert_allclose(scores[f"{name}_conv1"], expected, rtol=1e-4)


def test_scores_where_the_gates_are_on_the_channels_themselves():
    model = network("small", position="conv3x3", gate="tanh")
    images = images_for(model, 5)
    outputs = keras.Model(model.input, {block.name: block.input for block in se_blocks(model)})(
        images
    )
    for block in se_blocks(model):
        gate = np.abs(block.excitation(outputs[block.name])).mean(axis=(0, 1, 2))
        np.testing.assert_allclose(
            rank_channels(model, images)[block.name.replace("se", "conv1")],
            gate,
            rtol=1e-4,
            atol=1e-6,
        )


def test_a_group_has_the_mean_score_of_its_outputs():
    model = network("resnext")
    images = images_for(model, 5)
    importance = norm_factor(model, "stage2_block1_conv3_bn") * gate_of(
        model, "stage2_block1_se", images
    )
    expected = taken(model, "stage2_block1_conv3", images) * (
        kernel_norms(model, "stage2_block1_conv3") @ importance
    )
    scores = rank_channels(model, images)["stage2_block1_conv2"]
    np.testing.assert_allclose(scores, expected.reshape(32, 4).mean(axis=1), rtol=1e-4)
    pruned = prune(
        model, {2: 0.5}, ranking={**rank_channels(model, images), "stage2_block1_conv2": scores}
    )
    groups = np.sort(np.argsort(-scores)[:16])
    kept = narrowed(model, pruned)
    assert kept["stage2_block1_conv2_bn"] == kept["stage2_block1_conv1_bn"]
    assert (
        kept["stage2_block1_conv2_bn"] == (groups[:, None] * 4 + np.arange(4)).reshape(-1).tolist()
    )
    assert pruned.get_layer("stage2_block1_conv2").groups == 16
    assert "stage3_block1_conv2_bn" not in kept


def test_the_best_stay():
    model = network("small")
    images = images_for(model)
    pruned = prune(model, 0.5, images=images)
    for unit, scores in rank_channels(model, images).items():
        best = np.sort(np.argsort(-scores)[: len(scores) // 2])
        assert narrowed(model, pruned)[f"{unit}_bn"] == best.tolist()


def count_unit(kernels, norms):
    return sum(kernels) + 2 * sum(norms)


def test_counts_of_bottlenecks_by_arithmetic():
    """(1 - 3/4) of 64 is 16 channels less in stage 2, and 32 of 128 in stage 3; maps of 8 x 8 and 4
    x 4 places.
    """
    model = network("bottleneck")
    pruned = prune(model, ranking="random")
    before, after = complexity(model), complexity(pruned)
    parameters = multiply_adds = 0
    for given, width, out, places in ((64, 64, 256, 8 * 8), (256, 128, 512, 4 * 4)):
        full, less = ([given * n, 9 * n * n, n * out] for n in (width, width * 3 // 4))
        parameters += count_unit(full, [width] * 2) - count_unit(less, [width * 3 // 4] * 2)
        multiply_adds += places * (sum(full) - sum(less))
    assert before.parameters - after.parameters == parameters
    assert before.multiply_adds - after.multiply_adds == multiply_adds


def test_counts_of_blocks_on_the_channels_by_arithmetic():
    """16 and 32 channels, 12 and 24 of them left; a block of 1 or 2 hidden units, with biases."""
    model = network("small", position="conv3x3")
    pruned = prune(model, 0.75, ranking="random")
    before, after = complexity(model), complexity(pruned)
    parameters = multiply_adds = 0
    for given, width, hidden, places in ((16, 16, 1, 32 * 32), (16, 32, 2, 16 * 16)):
        gone = width // 4
        convs, block = 9 * given * gone + 9 * gone * width, 2 * gone * hidden
        parameters += convs + 2 * gone + block + gone
        multiply_adds += places * convs + block
    assert before.parameters - after.parameters == parameters
    assert before.multiply_adds - after.multiply_adds == multiply_adds


# Of 64 channels, by hand: with 16 hidden units a whole reduction gives as many for 16, 32, 33, 48,
# 49, 50 and 64. reduction, part, what stays
LEFT = [(4, 0.65, 48), (4, 0.55, 33), (4, 0.01, 16), (16, 0.01, 4), (16, 0.15, 9), (4, 1, 64)]


def test_the_hidden_width_decides_how_many_can_stay():
    for reduction, keep, left in LEFT:
        spec = ResNet((1,), Basic(), se=keras_senet.SE(position="conv3x3", reduction=reduction))
        (block,) = se_blocks(prune(network(spec), keep, ranking="random"))
        assert (block.expand.filters, block.reduce.filters) == (left, 64 // reduction)


def test_a_part_for_each_stage_and_none_at_all():
    model = network(SmallResNet((1, 1, 1)))
    pruned = prune(model, {1: np.float32(0.5), 3: 0.25}, ranking="random")
    widths = [pruned.get_layer(f"stage{stage}_block1_conv1").filters for stage in (1, 2, 3)]
    assert widths == [8, 32, 16]
    images = images_for(model)
    np.testing.assert_array_equal(prune(model, 1, ranking="random")(images), model(images))


def test_stages_without_gates_stay_whole():
    model = network(SmallResNet((1, 1), se=keras_senet.SE(stages=(2,))))
    assert list(narrowed(model, prune(model, 0.5, ranking="random"))) == ["stage2_block1_conv1_bn"]


def test_draws_follow_from_the_seed():
    model = network("small")
    first, again, other = (
        narrowed(model, prune(model, 0.5, ranking="random", seed=seed)) for seed in (0, 0, 1)
    )
    assert first == again != other


def test_a_dataset_ranks_as_its_images_do():
    model, dataset = network("small"), pictures(70)
    prepared = np.array(model.preprocessing.normalize(dataset.images))
    expected = rank_channels(model, prepared)
    for name, scores in rank_channels(model, dataset).items():
        np.testing.assert_allclose(scores, expected[name], rtol=1e-5)


def test_models_within_models_and_foreign_ones():
    """Biases, an activation within a convolution, pooling and dropout, in a nested model."""
    inner_inputs = keras.Input((8, 8, 6))
    x = layers.Conv2D(8, 3, activation="relu", name="first")(inner_inputs)
    x = layers.Dropout(0.5)(layers.AveragePooling2D(2)(x))
    x = layers.DepthwiseConv2D(2, name="depthwise")(x)
    x = keras_senet.SqueezeExcite(2)(layers.Conv2D(5, 1, name="second")(x))
    inner = keras.Model(inner_inputs, x, name="inner")
    inputs = keras.Input((8, 8, 6))
    model = with_random_weights(keras.Model(inputs, layers.Flatten()(inner(inputs))))
    images = images_for(model)
    pruned = prune(model, 0.5, images=images)
    first, depthwise, second = (
        pruned.get_layer("inner").get_layer(n) for n in ("first", "depthwise", "second")
    )
    assert (first.filters, depthwise.kernel.shape, second.kernel.shape) == (
        4,
        (2, 2, 4, 1),
        (1, 1, 4, 5),
    )
    biases = np.array(inner.get_layer("first").bias).tolist()
    gone = sorted(set(range(8)) - {biases.index(value) for value in np.array(first.bias).tolist()})
    kernel = np.array(inner.get_layer("second").kernel)
    kernel[:, :, gone] = 0
    inner.get_layer("second").kernel.assign(kernel)
    assert_equal(pruned(images), model(images))


def test_gates_on_joined_branches():
    """Through a concatenation and a convolution after it, as in Inception-ResNet."""
    inputs = keras.Input((8, 8, 4))
    branches = [
        layers.Conv2D(6, 1, name=f"{b}_2")(layers.Conv2D(4, 1, name=f"{b}_1")(inputs))
        for b in ("a", "b")
    ]
    joined = layers.Conv2D(5, 1, use_bias=False, name="up")(layers.Concatenate()(branches))
    model = with_random_weights(
        keras.Model(inputs, keras_senet.SqueezeExcite(2, name="se")(joined))
    )
    images = images_for(model)
    up = kernel_norms(model, "up") @ gate_of(model, "se", images)
    scores = rank_channels(model, images)
    for branch, importance in (("a", up[:6]), ("b", up[6:])):
        expected = taken(model, f"{branch}_2", images) * (
            kernel_norms(model, f"{branch}_2") @ importance
        )
        np.testing.assert_allclose(scores[f"{branch}_1"], expected, rtol=1e-4)


def test_a_pruned_network_is_saved_evaluated_trained_and_exported(tmp_path):
    model = network("resnext", position="conv3x3")
    images = images_for(model)
    pruned = prune(model, 0.5, images=images)
    pruned.save(tmp_path / "pruned.keras")
    again = keras.models.load_model(tmp_path / "pruned.keras")
    np.testing.assert_array_equal(again(images), pruned(images))
    report = export.to_onnx(pruned, tmp_path / "pruned.onnx", images=images)
    assert report.relative_error <= 1e-4
    assert 0 <= compare(model, pruned, pictures(8)).after.top1 <= 1
    again.compile("sgd", "sparse_categorical_crossentropy")
    assert np.isfinite(again.train_on_batch(images, np.arange(3)))


def test_the_model_is_left_alone():
    model = network("bottleneck")
    before, images = model.get_weights(), images_for(model)
    expected = model(images)
    prune(model, 0.5, images=images)
    for weight, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)
    np.testing.assert_array_equal(model(images), expected)


# model, arguments, error
REFUSED = [
    ("small", {"keep": 0}, "`keep` must be above 0 and at most 1. Received: keep=0"),
    ("small", {"keep": 1.5}, "keep=1.5"),
    ("small", {"keep": float("nan")}, "keep=nan"),
    ("small", {"keep": True}, "keep=True"),
    ("small", {"keep": "half"}, "keep='half'"),
    ("small", {"keep": {1: 0.5, 3: 0.5}}, r"stages whose channels can be cut \(1, 2\)"),
    ("small", {"keep": {}}, r"Received: keep=\{\}"),
    ("small", {"keep": {1: 2}}, "keep=2"),
    ("small", {"ranking": "norm"}, "`ranking` must be 'gates', 'random' or a dict of scores"),
    (
        "small",
        {"ranking": np.zeros(3)},
        r"a dict of scores. Received: ranking=array\(\[0., 0., 0.\]\)",
    ),
    (
        "small",
        {"ranking": "random", "seed": -1},
        "`seed` must be an integer of at least 0. Received: seed=-1",
    ),
    ("small", {"ranking": "random", "seed": 0.5}, "seed=0.5"),
    ("small", {"ranking": {}}, "16 finite scores for 'stage1_block1_conv1'. Received: 0 scores"),
    ("small", {}, "needs `images`"),
    ("small", {"images": np.zeros((0, 32, 32, 3))}, "There must be images"),
    (
        SmallResNet((1, 1), se=keras_senet.SE(position="pre")),
        {},
        "rank no channels that can be cut",
    ),
    (
        PreActResNet((1,), se=keras_senet.SE(position="identity")),
        {},
        "rank no channels that can be cut",
    ),
    (SmallResNet((1, 1), se=None), {}, "`model` has no SE blocks"),
]


def test_what_is_refused():
    for model, arguments, message in REFUSED:
        with pytest.raises(ValueError, match=message):
            prune(network(model), **arguments)


def test_what_is_not_functional_is_refused():
    with pytest.raises(ValueError, match="`model` must be a functional"):
        prune("SEResNet50")


def test_gates_that_are_no_numbers_rank_nothing():
    model = with_random_weights(TINY["small"].constructor(weights=None))
    se_blocks(model)[0].expand.bias.assign(np.full(16, np.nan))
    with pytest.raises(ValueError, match="0 of them finite"):
        prune(model, images=images_for(model))
