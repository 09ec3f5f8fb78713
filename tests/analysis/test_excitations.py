"""Gates over datasets, beside NumPy's means and deviations of all gates at once; tables, pictures,
the command.
"""

import csv
import dataclasses
import functools
import json
import re
import shutil
import subprocess
import sys

import keras
import little
import matplotlib.figure
import numpy as np
import pytest
from gate_formulas import GATE_FORMULAS
from gated import FAMILIES
from PIL import Image
from tiny import TINY

import keras_senet
from keras_senet import analysis, cli
from keras_senet.analysis.excitation_tables import (
    arrays,
    class_csv,
    specificity,
    statistics,
    statistics_csv,
    variation,
)
from keras_senet.analysis.excitations import excitations, find_classes, gates_step
from keras_senet.analysis.moments import Moments
from keras_senet.data import DATASETS, Dataset
from keras_senet.imagenet import imagenet_classes
from keras_senet.models.resnet import SmallResNet
from keras_senet.plots.excitations import (
    choose_blocks,
    excited_classes,
    excited_instances,
    overview,
)
from keras_senet.se import GATES, SE
from keras_senet.weights.metadata import describe

NAMES = tuple("abcde")
SPEC = SmallResNet((1, 1))


def dataset(count=23, size=32, seed=0):
    """Random images of five classes, of which the last has none."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, size, size, 3)) * random.uniform(
        0, 1, (count, 1, 1, 3)
    )
    return Dataset(images.astype("uint8"), np.arange(count) % 4, NAMES)


@functools.cache
def network(spec=SPEC):
    """A tiny network whose gates differ from image to image, made once: tests must leave it as it
    is.
    """
    return build(spec)


@functools.cache
def measured():
    """Its gates over `dataset()`."""
    return excitations(network(), dataset())


def build(spec=SPEC, **options):
    """The same, for its test only."""
    keras.utils.set_random_seed(0)
    return keras_senet.application(spec, name="tiny", input_size=32, classes=10)(
        weights=None, **options
    )


def all_gates(model, images):
    """(N, C) by block, from the layers' own equations in NumPy, of the maps that they take."""
    blocks = [layer for layer in model.layers if isinstance(layer, keras_senet.SqueezeExcite)]
    maps = keras.Model(model.input, [block.input for block in blocks])
    found = keras.tree.flatten(
        maps(model.preprocessing.normalize(np.asarray(images)), training=False)
    )
    gates = {}
    for block, x in zip(blocks, found, strict=True):
        (w1, b1), (w2, b2) = (
            (conv.kernel.numpy()[0, 0], conv.bias.numpy()) for conv in (block.reduce, block.expand)
        )
        x = x.numpy().astype("float64")
        squeezed = x.mean(axis=(1, 2)) if block.squeeze == "avg" else x
        gate = GATE_FORMULAS[block.gate](np.maximum(squeezed @ w1 + b1, 0) @ w2 + b2)
        gates[block.name] = gate if gate.ndim == 2 else gate.mean(axis=(1, 2))
    return gates


def assert_equal(found, expected, labels):
    """`BlockExcitations` against all gates (N, C) of a block."""
    close = {"rtol": 1e-4, "atol": 1e-6}
    for k in range(4):
        np.testing.assert_allclose(
            found.class_means[k], expected[labels == k].mean(axis=0), **close
        )
        np.testing.assert_allclose(found.class_stds[k], expected[labels == k].std(axis=0), **close)
    assert np.isnan(found.class_means[4]).all()
    assert np.isnan(found.class_stds[4]).all()
    np.testing.assert_allclose(found.mean, expected.mean(axis=0), **close)
    np.testing.assert_allclose(found.std, expected.std(axis=0), **close)
    np.testing.assert_allclose(found.closed, (np.abs(expected) < 0.1).mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(found.opened, (np.abs(expected) > 0.9).mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(found.from_identity, np.abs(expected - 1).mean(axis=0), **close)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("se", [*(SE(gate=gate) for gate in GATES), SE(squeeze=None)], ids=str)
def test_the_figures_are_numpys(se):
    model, data = build(SmallResNet((2, 1), se=se)), dataset()
    for layer in model.layers:
        if isinstance(layer, keras_senet.SqueezeExcite):
            layer.expand.kernel.assign(8 * layer.expand.kernel)  # gates of all magnitudes
    result, expected = excitations(model, data, batch_size=10), all_gates(model, data.images)
    assert (
        list(result.blocks)
        == list(expected)
        == ["stage1_block1_se", "stage1_block2_se", "stage2_block1_se"]
    )
    for name, block in result.blocks.items():
        assert block.gate == se.gate
        assert_equal(block, expected[name], data.labels)
    assert result.class_names == NAMES
    assert result.class_images.tolist() == [6, 6, 6, 5, 0]
    assert (result.images, result.skipped) == (23, ())
    assert 0 < np.concatenate([block.closed for block in result.blocks.values()]).mean() < 1


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("size", [1, 7, 100])
def test_any_batch_size_gives_the_same(size):
    whole, parts = measured(), excitations(network(), dataset(), batch_size=size)
    for name, block in whole.blocks.items():
        for field in (
            "class_means",
            "class_stds",
            "mean",
            "std",
            "closed",
            "opened",
            "from_identity",
        ):
            np.testing.assert_allclose(
                getattr(block, field), getattr(parts.blocks[name], field), atol=1e-6
            )
    assert whole.class_images.tolist() == parts.class_images.tolist()


@pytest.mark.usefixtures("eagerly")
def test_some_classes_alone_are_kept():
    whole, some = measured(), excitations(network(), dataset(), classes=["d", "b"])
    assert some.class_names == ("d", "b")
    assert some.class_images.tolist() == [5, 6]
    assert some.images == 23
    for name, block in some.blocks.items():
        np.testing.assert_array_equal(block.class_means, whole.blocks[name].class_means[[3, 1]])
        np.testing.assert_array_equal(block.class_stds, whole.blocks[name].class_stds[[3, 1]])
        np.testing.assert_array_equal(block.mean, whole.blocks[name].mean)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family(kind):
    """Also without a classifier, and for images of another size, shown as for evaluation."""
    tiny = TINY[kind]
    model = tiny.constructor(weights=None, include_top=False)
    step, blocks = gates_step(model)
    images = np.random.default_rng(0).integers(0, 256, (2, tiny.size, tiny.size, 3), "uint8")
    expected = analysis.gates(model)(
        model.preprocessing.normalize(images.astype("float32")), training=False
    )
    assert [name for name, _, _ in blocks] == [
        n for n in (layer.name for layer in model.layers) if n in expected
    ]
    wanted = np.concatenate([np.reshape(expected[name], (2, -1)) for name, _, _ in blocks], axis=1)
    np.testing.assert_allclose(step(images), wanted, atol=1e-5)


def test_images_are_shown_as_for_evaluation():
    model, data = network(), dataset(5, size=48)
    view = model.preprocessing
    shown = [np.asarray(view.crop(image.astype("float32"))) for image in data.images]
    np.testing.assert_allclose(
        excitations(model, data).blocks["stage2_block1_se"].mean,
        all_gates(model, np.stack(shown))["stage2_block1_se"].mean(axis=0),
        atol=1e-5,
    )


@pytest.mark.usefixtures("eagerly")
def test_channels_first(channels_first):
    keras.config.set_image_data_format("channels_last")
    last, data = build(SmallResNet((1, 1), se=SE(squeeze=None))), dataset()
    keras.config.set_image_data_format("channels_first")
    first = build(SmallResNet((1, 1), se=SE(squeeze=None)))
    first.set_weights(last.get_weights())
    found = excitations(first, data).blocks["stage1_block1_se"]
    keras.config.set_image_data_format("channels_last")
    np.testing.assert_allclose(
        found.class_means, excitations(last, data).blocks["stage1_block1_se"].class_means, 1e-4
    )


@pytest.mark.usefixtures("eagerly")
def test_nested_models_and_blocks_that_are_called_twice():
    inner = build(include_top=False)
    outer = keras.Sequential(
        [keras.Input((32, 32, 3)), inner, keras.layers.GlobalAveragePooling2D()]
    )
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    expected, found = analysis.gates(inner)(images), analysis.gates(outer)(images)
    assert list(found) == [f"tiny/{name}" for name in expected]
    for name, gate in expected.items():
        np.testing.assert_allclose(found[f"tiny/{name}"], gate, atol=1e-6)
    assert analysis.gates_by_stage(outer, images).keys() == {"stage1", "stage2"}
    outer.preprocessing = inner.preprocessing
    assert list(excitations(outer, dataset()).blocks) == [f"tiny/{name}" for name in expected]
    block, x = keras_senet.SqueezeExcite(name="se"), keras.Input((4, 4, 8))
    assert list(analysis.gates(keras.Model(x, block(block(x)))).output) == ["se", "se:2"]


def test_se_blocks_in_a_foreign_model():
    images = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(8, 3, name="conv")(images)
    model = keras_senet.add_se(keras.Model(images, keras.layers.Flatten()(x)), after="conv")
    model.preprocessing = keras_senet.SEResNet20.preprocessing
    data = dataset()
    assert_equal(
        excitations(model, data).blocks["conv_se"],
        all_gates(model, data.images)["conv_se"],
        data.labels,
    )


def test_moments_of_numbers_that_hardly_differ():
    """A sum of squares would have lost their deviation, 1e-9 of numbers near 1, altogether."""
    values, classes = (
        1 + 1e-9 * np.random.default_rng(0).normal(size=(1000, 2)),
        np.arange(1000) % 3,
    )
    moments = Moments(3, 2)
    for part in np.array_split(np.arange(1000), 37):
        moments.add(values[part], classes[part])
    means, stds = moments.finish()
    for k in range(3):
        np.testing.assert_allclose(means[k], values[classes == k].mean(axis=0), rtol=1e-15)
        np.testing.assert_allclose(stds[k], values[classes == k].std(axis=0), rtol=1e-5)
    np.testing.assert_allclose(stds[3], values.std(axis=0), rtol=1e-5)


def by_class(values, labels, classes):
    groups = [values[labels == k] for k in range(classes)]
    return np.stack([g.mean(axis=0) for g in groups]), np.stack([g.std(axis=0) for g in groups])


def test_specificity():
    """Gates = class effect + noise, of standard deviations 3 and 4: 9 / 25 of the variance is
    between the classes.
    """
    random, labels = np.random.default_rng(0), np.arange(6000) % 600
    noise = random.normal(size=(6000, 40))
    effect = random.normal(size=(600, 40))[labels]
    images = np.full(600, 10)
    assert specificity(*by_class(3 * effect + 4 * noise, labels, 600), images) == pytest.approx(
        9 / 25, abs=0.01
    )
    assert specificity(*by_class(noise, labels, 600), images) < 0.01  # not the 1 / 10 by chance
    assert specificity(*by_class(effect, labels, 600), images) == pytest.approx(1, abs=1e-9)


def test_specificity_by_hand():
    """Two classes of 2 and 3 images and one channel, with a class of a single image that does not
    count.
    """
    first, second = [0.1, 0.3], [0.6, 0.7, 0.8]
    within = (0.02 + 0.01) / 2  # of 0.02 / 1 and 0.02 / 2
    between = (0.7 - 0.2) ** 2 / 2 - (0.02 / 2 + 0.01 / 3) / 2
    groups = [np.array(g)[:, None] for g in (first, second, [0.9])]
    means, stds = (np.stack([f(g, axis=0) for g in groups]) for f in (np.mean, np.std))
    found = specificity(means, stds, np.array([2, 3, 1]))
    assert found == pytest.approx(between / (between + within))
    assert specificity(means, stds, np.array([2, 1, 1])) is None


@pytest.mark.usefixtures("eagerly")
def test_constant_gates():
    """With dead hidden units a gate is its bias only."""
    model = build()
    for layer in model.layers:
        if isinstance(layer, keras_senet.SqueezeExcite):
            layer.expand.kernel.assign(0 * layer.expand.kernel)
            layer.expand.bias.assign(0 * layer.expand.bias + 20)
    for row in statistics(excitations(model, dataset(), batch_size=5)):
        assert row.mean == pytest.approx(1, abs=1e-6)
        assert (row.std, row.specificity, row.closed, row.opened, row.constant, row.variation) == (
            0,
            0,
            0,
            1,
            1,
            0,
        )
        assert row.from_identity == pytest.approx(0, abs=1e-6)


def test_statistics_and_tables():
    model, data = network(), dataset()
    result, gates = measured(), all_gates(model, data.images)
    rows = statistics(result)
    for row in rows:
        gate = gates[row.block]
        assert row.channels == gate.shape[1]
        assert row.mean == pytest.approx(gate.mean(), rel=1e-4)
        assert row.std == pytest.approx(gate.var(axis=0).mean() ** 0.5, rel=1e-3)
        assert row.constant == (gate.std(axis=0) < 0.01).mean()
        assert row.from_identity == pytest.approx(np.abs(gate - 1).mean(), rel=1e-4)
        relative_error = (((gate - gate.mean(axis=0)) ** 2).mean() / (gate**2).mean()) ** 0.5
        assert row.variation == pytest.approx(relative_error, rel=1e-3)
    table = list(csv.DictReader(statistics_csv(rows).splitlines()))
    assert [row["block"] for row in table] == ["stage1_block1_se", "stage2_block1_se"]
    assert float(table[0]["specificity"]) == rows[0].specificity
    long = list(csv.DictReader(class_csv(result, [2, 0]).splitlines()))
    assert len(long) == (16 + 32) * 3
    (one,) = (
        r for r in long if (r["block"], r["channel"], r["class"]) == ("stage2_block1_se", "7", "c")
    )
    assert float(one["mean"]) == pytest.approx(
        gates["stage2_block1_se"][data.labels == 2, 7].mean(), rel=1e-4
    )
    stored = arrays(result)
    assert stored["stage1_block1_se/class_means"].shape == (5, 16)
    assert stored["class_names"].tolist() == list(NAMES)


def test_variation_does_not_depend_on_the_gates_size():
    gate = np.random.default_rng(0).normal(1, 0.3, (50, 4))
    found = [
        variation((size * gate).mean(axis=0), (size * gate).std(axis=0)) for size in (0.01, 1, -100)
    ]
    assert found == pytest.approx(3 * [0.3 / (1 + 0.3**2) ** 0.5], rel=0.1)
    assert found == pytest.approx(3 * found[:1])
    assert variation(np.zeros(4), np.zeros(4)) == 0  # ReLUs that are all idle
    assert variation(np.zeros(4), np.ones(4)) == 1  # tanhs around 0


def test_the_drawn_blocks_are_the_papers():
    names = [
        f"stage{s}_block{b}_se"
        for s, depth in ((2, 3), (3, 4), (4, 6), (5, 3))
        for b in range(1, depth + 1)
    ]
    drawn = [tuple(map(int, re.findall(r"\d+", name))) for name in choose_blocks(names)]
    assert drawn == [(2, 3), (3, 4), (4, 6), (5, 1), (5, 2), (5, 3)]
    assert choose_blocks(names[:7]) == names[:7]
    assert len(choose_blocks([f"conv{i}_se" for i in range(40)])) == 12


def test_pictures(tmp_path, monkeypatch):
    figures, save = [], matplotlib.figure.Figure.savefig
    monkeypatch.setattr(
        matplotlib.figure.Figure,
        "savefig",
        lambda f, *a, **options: (figures.append(f), save(f, *a, **options))[1],
    )
    result = measured()
    excited_classes(result, [1, 2], tmp_path / "classes.png", "a title")
    excited_instances(result, [1, 2], tmp_path / "instances.png", "a title")
    rows = statistics(result)
    overview([rows[0], rows[1]._replace(specificity=None)], tmp_path / "blocks.png", "a title")
    block = result.blocks["stage2_block1_se"]
    panel = figures[0].axes[1]
    assert panel.get_title() == "stage2_block1_se"
    for line, expected in zip(panel.lines, (*block.class_means[[1, 2]], block.mean), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), expected)
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == [
        "b",
        "c",
        "all classes",
    ]
    low, high = (
        f(figures[1].axes[1].collections[0].get_paths()[0].vertices[:, 1]) for f in (min, max)
    )
    assert low == pytest.approx((block.class_means[1] - block.class_stds[1]).min())
    assert high == pytest.approx((block.class_means[1] + block.class_stds[1]).max())
    np.testing.assert_array_equal(
        figures[2].axes[2].lines[0].get_ydata(), [row.closed for row in rows]
    )
    drawn = [line.get_ydata().tolist() for line in figures[2].axes[4].lines]
    assert drawn == [[row.from_identity for row in rows], [row.variation for row in rows]]
    for name in ("classes", "instances", "blocks"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert min(image.size) > 300
    assert panel.get_ylim() == (-0.03, 1.03)
    large = dataclasses.replace(block, mean=5 * block.mean)
    excited_classes(
        dataclasses.replace(result, blocks={"se": large}), [1, 2], tmp_path / "large.png", "a title"
    )
    low, high = figures[-1].axes[0].get_ylim()
    assert low <= -0.03
    assert high > large.mean.max() > 2
    odd = dataclasses.replace(result, class_names=tuple(f"_{name}" for name in NAMES))
    for draw in (excited_classes, excited_instances):
        draw(odd, [1, 2], tmp_path / "odd.png", "a title")
        assert "_b" in figures[-1].legends[0].get_texts()[0].get_text()


def test_classes_by_name():
    assert find_classes(["c", "a", "c"], NAMES) == [2, 0]
    ids = tuple(each.wordnet_id for each in imagenet_classes())
    assert find_classes(["goldfish", "n02110958", "n01440764 tench"], ids) == [1, 254, 0]
    with pytest.raises(
        ValueError, match="no class 'goldfsh'; of its 1000 classes like it: goldfish"
    ):
        find_classes(["goldfsh"], ids)
    with pytest.raises(ValueError, match="2 classes are called 'crane': n02012849, n03126707"):
        find_classes(["crane"], ids)
    with pytest.raises(
        ValueError, match="no class 'zebra'; of its 5 classes the first: a, b, c, d, e"
    ):
        find_classes(["zebra"], NAMES)


class Subclassed(keras.Model):
    preprocessing = keras_senet.SEResNet20.preprocessing


def without_blocks():
    return network(SmallResNet((1, 1), se=None))


def not_finite():
    model = build()
    block = model.get_layer("stage2_block1_se")
    block.expand.bias.assign(np.full(32, np.nan))
    return model


EMPTY = Dataset(np.zeros((0, 32, 32, 3), "uint8"), np.zeros(0, "int64"), NAMES)


@pytest.mark.parametrize(
    ("model", "data", "options", "message"),
    [
        (without_blocks, dataset(), {}, "`model` has no SE blocks. Received: 'tiny'"),
        (Subclassed, dataset(), {}, "functional Keras model with one input. Received: <Subclassed"),
        (network, EMPTY, {}, "The dataset has no images"),
        (
            network,
            dataset(),
            {"classes": ["cat"]},
            "The dataset has no class 'cat'; of its 5 classes the first: a",
        ),
        (network, dataset(), {"classes": []}, "`classes` must be the names of one class or more"),
        (network, dataset(), {"classes": "a"}, "classes='a'"),
        (
            network,
            dataset(),
            {"classes": [["a"]]},
            "the names of one class or more. Received: classes=[['a']]",
        ),
        (network, dataset(), {"classes": 1}, "classes=1"),
        (
            network,
            dataset().images,
            {},
            "`dataset` must be a dataset of `keras_senet.data`. Received: dataset of type nd",
        ),
        (network, dataset(), {"batch_size": 0}, "batch_size=0"),
        (
            lambda: build(input_shape=(32, 32, 1)),
            dataset(),
            {},
            "takes 1 channels, the dataset's images have 3",
        ),
        (not_finite, dataset(), {}, "The gates of 'stage2_block1_se' are not finite"),
    ],
)
def test_what_does_not_fit_is_one_clear_error(model, data, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        excitations(model(), data, **options)


def folder_of_images(folder):
    random = np.random.default_rng(0)
    for split, name in (
        (split, name) for split in ("train", "test") for name in ("cat", "dog", "frog")
    ):
        (folder / split / name).mkdir(parents=True)
        for i in range(3):
            pixels = random.integers(0, 256, (40, 36 + i, 3), "uint8")
            Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    (folder / "test" / "dog" / "0.png").write_bytes(b"<html>")
    return folder


@pytest.fixture
def little_network(monkeypatch):
    """In the place of SE-ResNet-20; `test_pictures` draws what commands do not here."""
    little.skip_drawing(monkeypatch)
    little.put_in_place(monkeypatch.setitem, monkeypatch.setattr, little.TWO_STAGES)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """What training leaves, of a network for three classes of images; to be read only."""
    return leave(
        tmp_path_factory.mktemp("finished") / "run", little.TWO_STAGES(weights=None, classes=3)
    )


@pytest.fixture
def run_folder(finished, tmp_path, little_network):
    """A copy that may be written to."""
    return shutil.copytree(finished, tmp_path / "run")


def leave(folder, model):
    folder.mkdir()
    model.save(folder / "model.keras")
    keras_senet.save_weights(model, folder / "model.weights.h5")
    images = str(folder_of_images(folder.parent / "images")).replace("\\", "/")
    (folder / "recipe.json").write_text(
        f'{{"recipe": {{"model": "SEResNet20", "dataset": "{images}"}}}}'
    )
    return folder


def command(*arguments):
    try:
        return cli.main(["excitations", *map(str, arguments)])
    except SystemExit as error:
        return error.code


def test_the_command(run_folder, capfd):
    assert command("--workdir", run_folder, "--skip-corrupt", "--classes", "frog", "cat") == 0
    printed = capfd.readouterr()
    assert printed.err == ""
    assert "stage2_block1_se" in printed.out
    assert "0.png" in printed.out
    output = run_folder / "excitations"
    files = {
        "statistics.csv",
        "gates.csv",
        "gates.npz",
        "classes.png",
        "instances.png",
        "blocks.png",
    }
    assert {path.name for path in output.iterdir()} == files
    with (output / "gates.csv").open(newline="") as file:
        assert list(dict.fromkeys(row["class"] for row in csv.DictReader(file))) == [
            "",
            "frog",
            "cat",
        ]
    with np.load(output / "gates.npz") as stored:
        assert stored["class_images"].tolist() == [3, 2, 3]
        assert stored["stage2_block1_se/class_stds"].shape == (3, 32)


def test_the_command_with_a_models_weights_prints_alone(run_folder, finished, capfd):
    weights, images = run_folder / "model.weights.h5", finished.parent / "images"
    assert (
        command(
            "--model", "SEResNet20", "--weights", weights, "--dataset", images, "--split", "train"
        )
        == 0
    )
    assert "9 images" in capfd.readouterr().out
    assert not (run_folder / "excitations").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--model or --workdir must be given"),
        (("--workdir", "gone"), "'gone' holds no training run"),
        (("--workdir", "{run}", "--classes", "forg"), "--classes: The dataset has no class 'forg'"),
        (("--workdir", "{run}"), "0.png"),
        (("--workdir", "{run}", "--output", "{run}/out/there"), "0.png"),
        (("--workdir", "{run}", "--output", "{run}/out", "--split", "val"), "--split val"),
        (
            ("--workdir", "{run}", "--output", "{run}/out", "--batch-size", "0"),
            "--batch-size must be at least 1. Received: --batch-size 0",
        ),
        (
            ("--workdir", "{run}", "--output", "{run}/out", "--dataset", "empty"),
            "The dataset has no images",
        ),
        (
            ("--workdir", "{run}", "--skip-corrupt", "--output", "{run}/model.keras"),
            "--output cannot be written",
        ),
        (
            ("--workdir", "{run}", "--skip-corrupt", "--output", "{run}/model.keras/out"),
            "model.keras' is not a folder)",
        ),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    arguments, message, run_folder, capfd, monkeypatch
):
    monkeypatch.setitem(DATASETS, "empty", lambda split: EMPTY)
    before = sorted(run_folder.iterdir())
    assert_refused(
        [argument.replace("{run}", str(run_folder)) for argument in arguments], message, capfd
    )
    assert sorted(run_folder.iterdir()) == before


@pytest.mark.usefixtures("little_network")
def test_the_command_on_a_file_of_prune(tmp_path):
    model, images = network(), folder_of_images(tmp_path / "images")
    model.save(tmp_path / "keep-0.5.keras")
    report = {
        "network": "tiny",
        "dataset": str(images),
        "preprocessing": describe(model.preprocessing),
        "variants": [{"file": "keep-0.5.keras"}],
    }
    (tmp_path / "pruning.json").write_text(json.dumps(report))
    assert command("--workdir", tmp_path / "keep-0.5.keras", "--skip-corrupt") == 0
    assert (tmp_path / "keep-0.5" / "excitations" / "statistics.csv").exists()


def assert_refused(arguments, message, capfd):
    assert command(*arguments) == 2
    printed = capfd.readouterr()
    assert len(printed.err.splitlines()) == 1
    assert message in printed.err


def test_a_network_without_blocks_is_one_line_and_leaves_nothing(tmp_path, capfd):
    folder = leave(tmp_path / "run", without_blocks())
    assert_refused(["--workdir", folder, "--skip-corrupt"], "`model` has no SE blocks", capfd)
    assert not (folder / "excitations").exists()


@pytest.mark.usefixtures("little_network")
def test_classes_without_an_image_that_can_be_decoded(tmp_path, capfd):
    folder = leave(tmp_path / "run", little.TWO_STAGES(weights=None, classes=3))
    for image in (tmp_path / "images" / "test" / "frog").iterdir():
        image.write_bytes(b"<html>")
    arguments = ["--workdir", folder, "--skip-corrupt"]
    assert_refused(
        [*arguments, "--classes", "cat", "frog"], "--classes: there are no images of 'frog'", capfd
    )
    assert not (folder / "excitations").exists()
    assert command(*arguments) == 0  # the default is of those that have some
    assert "gates.csv: cat, dog\n" in capfd.readouterr().out


MEMORY = """
import resource, sys
import numpy as np
import keras_senet
from keras_senet.analysis.excitations import excitations
from keras_senet.data import Dataset

images = np.random.default_rng(0).integers(0, 256, (10_000, 32, 32, 3), "uint8")
count = int(sys.argv[1])
data = Dataset(images[:count], np.arange(count) % 1000, tuple(map(str, range(1000))))
model = keras_senet.SEResNet50(weights=None, input_shape=(32, 32, 3))
result = excitations(model, data)
assert sum(len(block.mean) for block in result.blocks.values()) == 15_104
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_images():
    """SE-ResNet-50 and 1,000 classes, in a process of its own for 100 and for 10,000 images: MiB at
    most.
    """
    few, many = (
        int(
            subprocess.run(
                [sys.executable, "-c", MEMORY, count], capture_output=True, text=True, check=True
            ).stdout
        )
        for count in ("100", "10000")
    )
    print(f"{few} MiB for 100 images, {many} MiB for 10,000")
    assert many - few < 300
