"""Accuracy beside computations of its own: by hand, image by image."""

import csv
import dataclasses
import functools
import io
import json
import math
import re
from pathlib import Path

import keras
import little
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from rich.console import Console
from tiny import TINY

import keras_senet
from keras_senet import cli
from keras_senet.cli import tables
from keras_senet.data import Dataset, with_classes
from keras_senet.evaluation import (
    PROTOCOLS,
    Protocol,
    evaluate,
    larger,
    load_run,
    per_class,
    per_class_csv,
    prediction_step,
    readable,
)
from keras_senet.evaluation.accuracy import Counts
from keras_senet.evaluation.protocols import Crops, Whole
from keras_senet.imagenet import imagenet_classes
from keras_senet.initializers import blank
from keras_senet.plots.confusion import confusion_matrix
from keras_senet.preprocessing import IMAGENET
from keras_senet.runs.images import load_for_run

NAMES = tuple("abcdefghij")


def dataset(count=23, height=48, width=60, classes=10, seed=0):
    """Smooth random images, as photographs are, and random labels."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (count, 6, 6, 3), "uint8")
    images = np.stack(
        [
            np.asarray(Image.fromarray(i).resize((width, height), Image.Resampling.BICUBIC))
            for i in small
        ]
    )
    return Dataset(images, random.integers(0, classes, count), NAMES[:classes])


def network(kind="small", seed=0, **options):
    """A tiny network whose outputs differ from image to image, made once: tests must leave it as it
    is.
    """
    policy, layout = keras.config.dtype_policy().name, keras.config.image_data_format()
    return _network(kind, seed, tuple(options.items()), policy, layout)


@functools.cache
def _network(kind, seed, options, *_):
    return new_network(kind, seed, **dict(options))


def new_network(kind="small", seed=0, **options):
    keras.utils.set_random_seed(seed)
    model = TINY[kind].constructor(weights=None, **options)
    random = np.random.default_rng(seed)
    for variable in model.get_layer("predictions").weights:
        variable.assign(random.normal(size=variable.shape) * 0.3)
    model.preprocessing = dataclasses.replace(IMAGENET, size=model.preprocessing.size)
    return model


@functools.cache
def traced():
    """The step of `network()`, traced once for the tests that are not about it."""
    return prediction_step(network())


@functools.cache
def evaluated():
    """`dataset()` by `network()`, all at once."""
    return evaluate(network(), dataset(), step=traced())


def probabilities(model, images):
    """Of float images of 0..255."""
    return model(model.preprocessing.normalize(np.asarray(images)), training=False).numpy()


def resized(image, short):
    """The short side `short`, the other one in proportion, antialiased."""
    height, width = image.shape[:2]
    size = [short * side // min(height, width) for side in (height, width)]
    return np.round(tf.image.resize(image.astype("float32"), size, antialias=True).numpy()).clip(
        0, 255
    )


def centre(image, size):
    top, left = (round((side - size) / 2) for side in image.shape[:2])
    return image[top : top + size, left : left + size]


def centre_crops(data, size, short):
    return np.stack([centre(resized(image, short), size) for image in data.images])


def assert_counts(result, expected, labels):
    """Top-1, top-5, loss and confusion, from probabilities (N, classes), without ties, in loops."""
    confusion = np.zeros((expected.shape[1],) * 2, int)
    top5, losses = 0, []
    for row, label in zip(expected, labels, strict=True):
        best = sorted(range(len(row)), key=lambda i: row[i], reverse=True)
        confusion[label, best[0]] += 1
        top5 += label in best[:5]
        losses.append(-math.log(row[label]))
    np.testing.assert_array_equal(result.confusion, confusion)
    assert result.top1 == confusion.trace() / len(labels)
    assert result.top5 == top5 / len(labels)
    assert result.loss == pytest.approx(np.mean(losses), rel=1e-4)
    assert 0 < result.top5 < 1


def test_the_centre_crop_of_the_networks_own_settings():
    model, data = network(), dataset()
    result = evaluate(model, data)
    assert result.views == ((Crops(32, 36, "bilinear", "centre"),),)
    assert_counts(result, probabilities(model, centre_crops(data, 32, 36)), data.labels)
    assert result.images.sum() == 23
    assert (result.not_finite, result.skipped) == (0, ())


def test_images_of_the_networks_size_are_taken_whole():
    model, data = network(), dataset(height=32, width=32)
    result = evaluate(model, data)
    assert result.views == ((Whole(32, 32),),)
    assert_counts(result, probabilities(model, data.images), data.labels)
    cropped = evaluate(model, data, protocol=PROTOCOLS["own"], step=traced())
    assert_counts(cropped, probabilities(model, centre_crops(data, 32, 36)), data.labels)
    oblong = network(input_shape=(32, 40, 3))
    data = dataset(height=32, width=40)
    assert_counts(evaluate(oblong, data), probabilities(oblong, data.images), data.labels)


def test_a_step_is_traced_once_for_several_evaluations():
    model, data = network(), dataset(height=32, width=32)
    step = prediction_step(model)
    results = [evaluate(model, data, step=step, batch_size=size) for size in (10, 23, 23)]
    assert step.experimental_get_tracing_count() == 1
    assert len({(result.top1, result.top5) for result in results}) == 1


@pytest.mark.parametrize("size", [1, 7, 100])
def test_batches_give_what_all_at_once_gives(size):
    whole, parts = evaluated(), evaluate(network(), dataset(), batch_size=size, step=traced())
    np.testing.assert_array_equal(whole.confusion, parts.confusion)
    np.testing.assert_array_equal(whole.top5_correct, parts.top5_correct)
    assert whole.loss == pytest.approx(parts.loss, rel=1e-5)


def test_a_progress_bar_is_for_terminals():
    for is_terminal in (True, False):
        console = Console(file=io.StringIO(), force_terminal=is_terminal)
        evaluate(network(), dataset(4), progress=console, step=traced())
        assert ("evaluating" in console.file.getvalue()) == is_terminal


def test_ten_crops():
    """Krizhevsky: the corners of the middle square, the centre, and their mirror images;
    probabilities averaged.
    """
    model, data = network(), dataset()
    expected = []
    for image in data.images:
        square = centre(resized(image, 40), 40)
        corners = [square[y : y + 32, x : x + 32] for y in (0, 8) for x in (0, 8)]
        crops = [centre(resized(image, 40), 32), *corners]
        crops += [crop[:, ::-1] for crop in crops]
        expected.append(probabilities(model, np.stack(crops)).mean(axis=0))
    for batch_size in (128, 25, 3):
        result = evaluate(
            model,
            data,
            protocol=Protocol(short_sides=(40,), crop="ten"),
            batch_size=batch_size,
            step=traced(),
        )
        assert_counts(result, np.stack(expected), data.labels)


def test_the_centre_and_its_mirror_image():
    model, data = network(), dataset()
    crops = centre_crops(data, 32, 36)
    expected = (probabilities(model, crops) + probabilities(model, crops[:, :, ::-1])) / 2
    found = evaluate(model, data, protocol=Protocol(crop="mirrored"), step=traced())
    assert_counts(found, expected, data.labels)


def test_several_scales_and_sizes():
    """A network that was built for one size runs at another with the same weights."""
    model, data = network(), dataset()
    at_40 = TINY["small"].constructor(weights=None, input_shape=(40, 40, 3))
    at_40.set_weights(model.get_weights())
    at_40.preprocessing = model.preprocessing
    parts = [
        probabilities(net, centre_crops(data, size, short))
        for net, size in ((model, 32), (at_40, 40))
        for short in (44, 56)
    ]
    result = evaluate(model, data, protocol=Protocol((32, 40), (44, 56)))
    assert [(view.size, view.short_side) for view in result.views[0]] == [
        (32, 44),
        (32, 56),
        (40, 44),
        (40, 56),
    ]
    assert_counts(result, np.mean(parts, axis=0), data.labels)


@pytest.mark.parametrize(
    "kind",
    [
        *("preact_pad", "shake_shake", "bn_inception", "shufflenet"),
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("senet", "mobilenet")),
    ],
)
def test_a_network_runs_at_another_size(kind):
    """As one that was built for it, with the same weights."""
    model = TINY[kind].constructor(weights=None)
    size = {"bn_inception": 96}.get(kind, 49)
    with blank():
        built = TINY[kind].constructor(weights=None, input_shape=(size, size, 3))
    built.set_weights(model.get_weights())
    images = dataset(2, size, size).images
    result = prediction_step(model, (size, size))(images)
    np.testing.assert_allclose(result, probabilities(built, images), atol=1e-5)


def test_networks_of_any_size_take_their_preprocessings():
    model, data = network(input_shape=(None, None, 3)), dataset()
    result = evaluate(model, data, step=prediction_step(model))
    assert_counts(result, probabilities(model, centre_crops(data, 32, 36)), data.labels)


def test_an_ensemble_averages_networks_that_each_see_their_own_image():
    first, second = network(), new_network("basic", 1, input_shape=(40, 40, 3))
    second.preprocessing = keras_senet.Preprocessing((127.5,) * 3, (127.5,) * 3, 40, 1.0)
    data = dataset()
    parts = (
        probabilities(first, centre_crops(data, 32, 36)),
        probabilities(second, centre_crops(data, 40, 40)),
    )
    result = evaluate([first, second], data)
    assert_counts(result, (parts[0] + parts[1]) / 2, data.labels)
    single = evaluate([first], data)
    np.testing.assert_array_equal(single.confusion, evaluated().confusion)
    protocols = [Protocol(), Protocol((32,), (36,))]
    both = evaluate([first, second], data, protocol=protocols)
    assert both.views[0] == both.views[1] == (Crops(32, 36, "bilinear", "centre"),)


@pytest.mark.usefixtures("eagerly")
def test_logits_get_their_softmax():
    model, data = network(), dataset(height=32, width=32)
    logits = new_network(classifier_activation=None)
    logits.set_weights(model.get_weights())
    with_layer = keras.Sequential([logits, keras.layers.Softmax()])
    with_layer.build((None, 32, 32, 3))
    nested = keras.Sequential([keras.Input((32, 32, 3)), model])
    operation = keras.Model(logits.inputs, keras.ops.softmax(logits.output))
    others = (with_layer, nested, operation)
    for other in others:
        other.preprocessing = model.preprocessing
    expected = evaluate(model, data)
    for other in (logits, *others):
        result = evaluate(other, data)
        np.testing.assert_array_equal(result.confusion, expected.confusion)
        assert result.loss == pytest.approx(expected.loss, rel=1e-4)


def test_channels_first(channels_first):
    """The images of a dataset are (N, H, W, C) in any case."""
    model = new_network()
    keras.config.set_image_data_format("channels_last")
    model.set_weights(network().get_weights())
    expected = evaluated()
    keras.config.set_image_data_format("channels_first")
    np.testing.assert_array_equal(evaluate(model, dataset()).confusion, expected.confusion)


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    result = evaluate(network(), dataset(), protocol=Protocol((32, 40)))
    assert math.isfinite(result.loss)


def test_equally_likely_classes_rank_by_their_number():
    """As a stable sort ranks them: a network that always outputs the same is right by chance, not
    always.
    """
    counts = Counts(10)
    counts.add(np.full((10, 10), 0.1, "float32"), np.arange(10))
    result = counts.evaluation((), ())
    assert (result.top1, result.top5) == (0.1, 0.5)
    assert result.loss == pytest.approx(math.log(10), rel=1e-6)
    np.testing.assert_array_equal(result.confusion[:, 0], np.ones(10))


def test_answers_that_are_not_finite_are_wrong():
    counts = Counts(3)  # of three classes each is among the top 5
    counts.add(np.array([[np.nan] * 3, [0.2, 0.7, 0.1]], "float32"), np.array([0, 1]))
    result = counts.evaluation((), ())
    assert (result.top1, result.top5, result.not_finite) == (0.5, 0.5, 1)
    assert math.isnan(result.loss)
    assert result.confusion.sum() == 1
    assert result.images.sum() == 2


def test_the_table_of_classes():
    counts = Counts(6)
    answers = np.array(
        [[0, 1, 2, 3, 4, 5], [1, 0, 2, 3, 4, 5], [1, 2, 3, 4, 5, 0], [2, 1, 0, 3, 4, 5]]
    )  # the most probable first
    scores = np.zeros((4, 6), "float32")
    np.put_along_axis(
        scores, answers, np.array([0.4, 0.2, 0.15, 0.12, 0.08, 0.05], "float32"), axis=1
    )
    counts.add(scores, np.array([0, 0, 0, 2]))
    result = counts.evaluation((), ())
    rows = per_class(result, tuple("abcdef"))
    assert rows[0] == ("a", 3, 1, 1 / 3, 2 / 3, "b")
    assert rows[1] == ("b", 0, 0, None, None, "")
    assert rows[2] == ("c", 1, 1, 1.0, 1.0, "")
    table = list(csv.DictReader(io.StringIO(per_class_csv(result, tuple("abcdef")))))
    assert list(table[0]) == ["class", "images", "correct", "top1", "top5", "most_confused_with"]
    assert table[0]["class"] == "a"
    assert float(table[0]["top5"]) == pytest.approx(2 / 3)
    assert table[1] == {
        "class": "b",
        "images": "0",
        "correct": "0",
        "top1": "",
        "top5": "",
        "most_confused_with": "",
    }


def test_classes_by_their_words():
    assert readable(("n02123045", "cat")) == ("n02123045 tabby", "cat")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": (0,)}, "`sizes` must be different integers of 1..4096. Received: sizes=(0,)"),
        ({"sizes": (2.5,)}, "sizes=(2.5,)"),
        ({"sizes": 224}, "sizes=224"),
        ({"short_sides": (256, 256)}, "short_sides=(256, 256)"),
        ({"crop": "five"}, "crop='five'"),
    ],
)
def test_a_protocols_wrong_field_is_named(change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Protocol(**change)


def test_the_papers_protocols():
    constructor = keras_senet.SEResNet50
    own = PROTOCOLS["own"].views(constructor.preprocessing, 224)
    assert (
        own
        == PROTOCOLS["paper-224"].views(constructor.preprocessing, 224)
        == (Crops(224, 256, "bilinear", "centre"),)
    )
    inception = keras_senet.SEInceptionResNetV2.preprocessing
    assert PROTOCOLS["own"].views(inception, 299) == PROTOCOLS["paper-299"].views(inception, 299)
    assert [v.short_side for v in PROTOCOLS["fusion"].views(IMAGENET, 224)] == [256, 288, 320, 352]
    (at_320,) = PROTOCOLS["paper-320"].views(IMAGENET, 224)
    assert (at_320.size, at_320.short_side) == (320, 320)


def test_the_larger_size_of_published_weights():
    checkpoints = {(c.model, c.tag): c for c in keras_senet.list_weights()}
    assert larger(checkpoints["SEResNet50", "imagenet-a1"]) == Protocol((288,), (288,))
    assert larger(checkpoints["SEResNet50", "imagenet-ra2"]) == Protocol((288,), (303,))
    with pytest.raises(ValueError, match="SEResNet50 'imagenet' was not measured"):
        larger(checkpoints["SEResNet50", "imagenet"])


def without_preprocessing():
    images = keras.Input((32, 32, 3))
    scores = keras.layers.Dense(10, "softmax")(keras.layers.Flatten()(images))
    return keras.Model(images, scores)


def sigmoids():
    return network(classifier_activation="sigmoid")


def headless():
    return TINY["small"].constructor(weights=None, include_top=False)


STANDARD = [c.wordnet_id for c in imagenet_classes()]
EMPTY = Dataset(np.zeros((0, 32, 32, 3), "uint8"), np.zeros(0, "int64"), NAMES)
SHUFFLED = Dataset(np.zeros((1, 32, 32, 3), "uint8"), [0], [*STANDARD[1:], STANDARD[0]])


@pytest.mark.parametrize(
    ("model", "data", "options", "message"),
    [
        (network, dataset(classes=7), {}, "'tiny' has 10 classes, the dataset 7"),
        (
            lambda: network(classes=1000),
            SHUFFLED,
            {},
            "in another order .* class 0 is n01443537, not n01440764",
        ),
        (
            lambda: network(input_shape=(32, 32, 1)),
            dataset(),
            {},
            "takes 1 channels, the dataset's images have 3",
        ),
        (network, EMPTY, {}, "The dataset has no images"),
        (without_preprocessing, dataset(), {}, "attribute `preprocessing`"),
        (headless, dataset(), {}, "must be a classifier; 'tiny' has the output"),
        (sigmoids, dataset(), {}, "must end in a softmax or in logits .* 'predictions', a Dense"),
        (
            lambda: "SEResNet50",
            dataset(),
            {},
            "functional Keras model with one input. Received: 'SEResNet50'",
        ),
        (list, dataset(), {}, "There must be a network"),
        (
            lambda: [network(), new_network()],
            dataset(),
            {"protocol": [Protocol()]},
            "Received: 2 and 1",
        ),
        (
            lambda: [network(), new_network()],
            dataset(),
            {"step": abs},
            "`step` must be None for several networks",
        ),
        (network, dataset(), {"batch_size": 0}, "batch_size=0"),
        (network, dataset(), {"protocol": "ten"}, "protocol='ten'"),
        (
            network,
            dataset(),
            {"protocol": Protocol((40,), (36,))},
            "at least the size of the crops, 40. Received: 36",
        ),
        (
            network,
            dataset(),
            {"protocol": Protocol((), (32,), "ten")},
            "above the size of the crops, 32",
        ),
        (
            lambda: network("vgg"),
            dataset(),
            {"protocol": Protocol((64,))},
            "cannot run at 64 x 64; .* for 32 x 32",
        ),
    ],
)
def test_what_does_not_fit_is_one_clear_error(model, data, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(model(), data, **options)


def tree(folder, count=3, corrupt=0):
    """A folder of class folders, whose first images cannot be decoded; their sizes differ."""
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in "abc":
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 256, (40 + i, 50 - i, 3), "uint8")
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    for name in "abc"[:corrupt]:
        (folder / "test" / name / "0.png").write_bytes(b"<html>")
    return folder


def test_images_that_cannot_be_decoded(tmp_path):
    model = network(classes=3)
    step = prediction_step(model)
    data = keras_senet.data.load(str(tree(tmp_path, corrupt=2)), "test")
    with pytest.raises(ValueError, match=r"0\.png"):
        evaluate(model, data, step=step)
    result = evaluate(model, data, skip_corrupt=True, step=step)
    assert result.images.tolist() == [2, 2, 3]
    assert sorted(Path(each.name).parent.name for each in result.skipped) == ["a", "b"]
    data = keras_senet.data.load(str(tree(tmp_path / "all", count=1, corrupt=3)), "test")
    with pytest.raises(
        ValueError, match="No image of the dataset could be decoded: 3 were left out"
    ):
        evaluate(model, data, skip_corrupt=True, step=step)


@pytest.mark.parametrize("classes", [2, 30, 1000])
def test_the_picture_of_confusions(classes, tmp_path):
    random = np.random.default_rng(0)
    counts = (random.random((classes, classes)) < min(0.5, 20 / classes)).astype(int)
    counts[0] = 0  # a class without images
    confusion_matrix(
        counts, tuple(f"class {i}" for i in range(classes)), tmp_path / "a.png", "random"
    )
    pixels = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).reshape(-1, 3).astype(int)
    assert (pixels[:, 0] - pixels[:, 1] > 50).sum() > 20  # what is wrong is red


def in_this_process(*arguments):
    """The exit status; a process of its own takes TensorFlow's start."""
    return cli.main(["evaluate", *map(str, arguments)])


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The file of a random little network for three classes."""
    path = tmp_path_factory.mktemp("weights") / "own.weights.h5"
    keras_senet.save_weights(little.NETWORK(weights=None, classes=3), path)
    return path


@pytest.fixture
def little_network(monkeypatch):
    """In the place of SE-ResNet-20."""
    little.skip_drawing(monkeypatch)
    little.put_in_place(monkeypatch.setitem, monkeypatch.setattr)


def test_the_command_line(tmp_path, weights, little_network, capfd, monkeypatch):
    """Up to 5 s: files are decoded, and shown in twenty views, by a pipeline of each evaluation."""
    monkeypatch.setattr(tables.console, "width", 200)
    images, output = tree(tmp_path / "images", corrupt=1), tmp_path / "out"
    options = (
        "--dataset",
        images,
        "--skip-corrupt",
        "--short-side",
        40,
        48,
        "--ten-crop",
        "--output",
        output,
    )
    assert in_this_process(*2 * ("--model", "SEResNet20", "--weights", weights), *options) == 0
    printed = capfd.readouterr()
    assert printed.err == ""
    report = json.loads((output / "report.json").read_text())
    model = little.NETWORK(weights=weights, classes=3)
    (images / "test" / "a" / "0.png").unlink()  # the corrupt one
    data = keras_senet.data.load(str(images), "test")
    expected = evaluate(model, data, protocol=Protocol((), (40, 48), "ten"))
    assert (report["accuracy"], report["top5"]) == (expected.top1, expected.top5)
    assert report["loss"] == pytest.approx(expected.loss, rel=1e-4)
    assert (report["images"], report["classes"], report["not_finite"]) == (8, 3, 0)
    assert [Path(each["name"]).name for each in report["skipped"]] == ["0.png"]
    assert [n["model"] for n in report["networks"]] == ["SEResNet20", "SEResNet20"]
    view = {"size": 8, "short_side": 40, "interpolation": "bilinear", "crop": "ten"}
    assert report["networks"][0]["views"] == [view, view | {"short_side": 48}]
    with (output / "per_class.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["class"], row["images"]) for row in table] == [("a", "2"), ("b", "3"), ("c", "3")]
    assert sum(int(row["correct"]) for row in table) / 8 == report["accuracy"]
    assert (output / "confusion.png").exists()
    assert f"{100 * report['accuracy']:.2f}%" in printed.out
    assert "0.png" in printed.out


def left_by_training(folder):
    """The files of a run of a network at another size than its own."""
    folder.mkdir()
    keras.utils.set_random_seed(0)
    model = little.NETWORK(weights=None, classes=3, input_shape=(24, 24, 3))
    model.preprocessing = dataclasses.replace(model.preprocessing, size=24, std=(100.0,) * 3)
    model.save(folder / "model.keras")
    keras_senet.save_weights(model, folder / "model.weights.h5")
    recipe = {"model": "SEResNet20", "dataset": str(folder.parent / "images")}
    (folder / "recipe.json").write_text(json.dumps({"recipe": recipe, "environment": {}}))
    return model


def test_a_run_that_training_left(tmp_path, little_network):
    images, folder = tree(tmp_path / "images"), tmp_path / "run"
    model = left_by_training(folder)
    (folder / "report.json").write_text('{"exports": [1], "accuracy": 0}')
    assert in_this_process("--workdir", folder) == 0
    report = json.loads((folder / "report.json").read_text())
    expected = evaluate(model, keras_senet.data.load(str(images), "test"))
    assert report["accuracy"] == expected.top1
    assert report["loss"] == pytest.approx(expected.loss, rel=1e-4)
    assert report["networks"][0]["views"][0]["size"] == 24
    assert report["exports"] == [1]
    assert {"per_class.csv", "confusion.png"} <= {path.name for path in folder.iterdir()}


def test_a_run_that_is_damaged(tmp_path, little_network):
    folder = tmp_path / "run"
    with pytest.raises(FileNotFoundError, match="holds no training run: there is no recipe.json"):
        load_run(folder)
    model = left_by_training(folder)
    assert load_run(folder).preprocessing.size == 24
    keras.Model(model.input, model.output).save(folder / "model.keras")  # as earlier versions
    assert load_run(folder).preprocessing.size == 24
    little.NETWORK(weights=None).save_weights(folder / "model.weights.h5")
    with pytest.raises(ValueError, match="does not say how images are prepared"):
        load_run(folder)
    left_by_training(tmp_path / "other")
    (tmp_path / "other" / "model.keras").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match=r"model\.keras' is damaged"):
        load_run(tmp_path / "other")
    (folder / "recipe.json").write_text("{}")
    with pytest.raises(ValueError, match=r"recipe\.json' is damaged"):
        load_run(folder)
    (tmp_path / "other" / "model.keras").unlink()
    with pytest.raises(
        FileNotFoundError, match="holds a run that has not ended: there is no model.keras"
    ):
        load_run(tmp_path / "other")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--model or --workdir must be given"),
        (("--workdir", "gone"), "'gone' holds no training run"),
        (("--workdir", "gone", "--model", "SEResNet20"), "--workdir is in place of --model"),
        (("--model", "SEResNet21"), "Did you mean 'SEResNet"),
        (("--model", "SEResNet20", "--weights", "gone.pth"), "gone.pth"),
        (
            ("--model", "SEResNet20", "--weights", "a", "--weights", "b"),
            "once for each --model that is a constructor's name: 2 for 1",
        ),
        (("--model", "SEResNet20", "--weights", "{weights}", "--dataset", "gone/"), "gone/"),
        (
            (
                "--model",
                "SEResNet20",
                "--weights",
                "{weights}",
                "--dataset",
                "{images}",
                "--split",
                "dev",
            ),
            "--split dev",
        ),
        (
            ("--model", "SEResNet20", "--weights", "{weights}", "--dataset", "digits"),
            "has 3 classes, the dataset 10",
        ),
        (
            ("--model", "SEResNet20", "--weights", "{weights}", "--protocol", "best"),
            '"best" for --protocol. Choose from: "own", ',
        ),
        (
            ("--model", "SEResNet20", "--weights", "{weights}", "--protocol", "larger"),
            "is for published weights",
        ),
        (("--model", "SEResNet20", "--weights", "{weights}", "--size", "0"), "--size 0"),
        (
            ("--model", "SEResNet20", "--weights", "{weights}", "--output", "{weights}/a"),
            "--output cannot be written",
        ),
        (("--model", "SEResNet20", "--size", "big"), "big"),
    ],
)
def test_bad_input_is_one_line(arguments, message, tmp_path, weights, little_network, capfd):
    places = {"{weights}": str(weights), "{images}": str(tmp_path / "images")}
    if "{images}" in arguments:
        tree(tmp_path / "images")
    for name, place in places.items():
        arguments = tuple(argument.replace(name, place) for argument in arguments)
    assert in_this_process(*arguments) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert message in printed.err


def test_a_networks_classes_are_found_by_name():
    """In the order of numbers in a table, of texts in a folder; a dataset may lack some."""
    model = new_network()
    whole = Dataset(dataset().images, np.arange(23) % 10, tuple(str(i) for i in range(10)))
    expected = evaluate(model, whole)
    order = np.random.default_rng(0).permutation(10)
    names = tuple(whole.class_names[i] for i in order)
    shuffled = Dataset(whole.images, np.argsort(order)[whole.labels], names)
    model.class_names = whole.class_names
    with pytest.raises(ValueError, match=r"in their order: take `keras_senet.data.with_classes\("):
        evaluate(model, shuffled)
    found = with_classes(shuffled, model.class_names)
    assert found.listing() == shuffled.listing()
    np.testing.assert_array_equal(found.labels, whole.labels)
    result = evaluate(model, found)
    np.testing.assert_array_equal(result.confusion, expected.confusion)
    some = with_classes(Dataset(whole.images[[3, 9]], [1, 0], ("9", "3")), whole.class_names)
    assert evaluate(model, some).images.nonzero()[0].tolist() == [3, 9]
    assert with_classes(whole, NAMES) is with_classes(whole, whole.class_names) is whole
    with pytest.raises(ValueError, match="classes of the network, 0, 1. Received: also 2, 3, 4"):
        with_classes(whole, ["0", "1"])
    unlabelled = Dataset(whole.images[:3], [-1, 1, 9], ("9", "3"))
    assert with_classes(unlabelled, whole.class_names).labels.tolist() == [-1, 3, -1]


def test_a_command_finds_the_classes_by_name(tmp_path):
    picture = Image.new("RGB", (8, 8))
    for label in ("9", "10"):
        (tmp_path / "test" / label).mkdir(parents=True)
        picture.save(tmp_path / "test" / label / "0.png")

    def labels(*class_names):
        opened = load_for_run(
            tmp_path, "test", own=None, division={}, upright=True, class_names=class_names
        )
        return opened.images.labels.tolist()

    assert labels("10", "9") == [0, 1]
    assert labels("9", "10") == [1, 0]
    assert labels("8", "9", "10") == [2, 1]
    with pytest.raises(ValueError, match="Received: also 10"):
        labels("8", "9")
    with pytest.warns(UserWarning, match="are called 10, 9, and those of the network a, b: both"):
        assert labels("a", "b") == [0, 1]
