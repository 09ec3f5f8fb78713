"""Weights that are in the package: of a network that was trained on CIFAR-10.

`cifar10.npz` has the first 200 of CIFAR-10's test images, without loss, by `np.savez_compressed`.
"""

import contextlib
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from runtimes import run
from tiny import TINY, randomize

import keras_senet
import keras_senet_cli
from keras_senet import data
from keras_senet.analysis import excitations
from keras_senet.evaluation import evaluate
from keras_senet.export import to_tflite
from keras_senet.recipes import Recipe
from keras_senet.recipes.choice import pick_recipe
from keras_senet.training.start import read_start
from keras_senet.weights import registry

IMAGES = Path(__file__).parents[1] / "cifar10.npz"
CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()
PACKAGED = registry.list_packaged()


def plain(constructor):
    return constructor.variant(replace(constructor.spec, se=None))


@pytest.fixture(scope="module")
def pictures():
    return data.load(IMAGES, "test")


@pytest.fixture(scope="module")
def model():
    return keras_senet.SEResNet20(weights="cifar10")


@pytest.fixture(scope="module")
def script():
    """results/package_weights.py as a module."""
    path = Path(__file__).parents[2] / "results" / "package_weights.py"
    spec = importlib.util.spec_from_file_location("package_weights", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_files_are_small_and_say_what_they_are(script):
    assert ("SEResNet20", "cifar10") in {(each.model, each.tag) for each in PACKAGED}
    assert sum(each.path.stat().st_size for each in PACKAGED) <= script.LIMIT
    assert set(PACKAGED) <= set(keras_senet.list_weights())
    for each in PACKAGED:
        assert each.file == f"{each.model}-{each.tag}.safetensors"
        assert 0 < each.top1 < each.top5 <= 100
        constructor = getattr(keras_senet, each.model)
        assert f'"{each.tag}", ' in constructor.__doc__
        count = registry.read_packaged(each.path)["checkpoint"]["parameters"]
        assert abs(count - each.path.stat().st_size / 2e6) < 0.1  # float16
        assert each.preprocessing.size == 32


@pytest.mark.parametrize("each", PACKAGED, ids=lambda each: f"{each.model}-{each.tag}")
def test_they_have_the_accuracy_that_the_file_states(each, pictures):
    """Of 200 images: within 3.5 standard deviations of that of all 10,000."""
    constructor = getattr(keras_senet, each.model)
    spec = registry.read_packaged(each.path)["spec"]
    if spec["se"] is None:
        constructor = plain(constructor)
    network = constructor(weights=each.tag)
    accuracy, stated = evaluate(network, pictures).top1, each.top1 / 100
    assert abs(accuracy - stated) < 3.5 * (stated * (1 - stated) / 200) ** 0.5
    assert list(network.class_names) == CLASSES


def test_it_has_its_classes_and_preprocessing(model, pictures):
    assert list(model.class_names) == CLASSES == list(pictures.class_names)
    assert model.preprocessing == PACKAGED[0].preprocessing
    images = model.preprocessing.normalize(pictures.images[:4].astype("float32"))
    top = keras_senet.decode_predictions(np.asarray(model(images)), class_names=CLASSES, top=1)
    assert {row[0][0] for row in top} <= set(CLASSES)


def test_it_is_loaded_without_a_network_or_a_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "none"))
    keras_senet.SEResNet20(weights="cifar10", include_top=False, pooling="avg")
    assert not (tmp_path / "none").exists()


def test_other_arguments_are_refused_in_a_line():
    with pytest.raises(ValueError, match="`classes` must be 10. Received: classes=7"):
        keras_senet.SEResNet20(weights="cifar10", classes=7)
    with pytest.raises(ValueError, match="'cifar10-plain', 'cifar10', .*weights='cifar100'"):
        keras_senet.SEResNet20(weights="cifar100")
    with pytest.raises(ValueError, match=r"of another architecture \(se: .*in the file, None here"):
        plain(keras_senet.SEResNet20)(weights="cifar10")
    with pytest.raises(ValueError, match="published weights for 'se_mobilenet'.*'cifar10'"):
        keras_senet.SEMobileNet(weights="cifar10")
    assert keras_senet.SEResNet20().class_names is None  # random, as before


def test_gates_of_a_trained_network_differ_between_classes(model, pictures):
    """In the last stage more than in the first, as the paper's Figure 6 has it."""
    blocks = list(excitations(model, pictures).blocks.values())
    first, last = (block.class_means.std(axis=0).mean() for block in (blocks[0], blocks[-2]))
    assert last > first


@pytest.mark.slow
def test_int8_has_its_accuracy(model, pictures, tmp_path):
    """Of 200 images, four or fewer more wrong. Takes 8 s: the conversion of a whole network."""
    path, images = tmp_path / "a.tflite", pictures.images.astype("float32")
    to_tflite(
        model, path, quantization="int8", preprocessing=model.preprocessing,
        images=images[:4], representative_images=images[:100],
    )  # fmt: skip
    found = run("tflite", path, images)["predictions"].argmax(1)
    exact = np.asarray(model(model.preprocessing.normalize(images))).argmax(1)
    right, expected = ((each == pictures.labels).sum() for each in (found, exact))
    assert right >= expected - 4


def test_training_begins_from_it(pictures, tmp_path):
    recipe = Recipe(dataset=str(IMAGES), weights="cifar10", head_epochs=1)
    start = read_start(recipe, tmp_path)
    assert start.keeps_head(CLASSES)
    assert start.source == "cifar10"
    assert not start.keeps_head(["cat", "dog"])
    assert pick_recipe("photos", weights="cifar10", images=500).model == "SEResNet20"


def test_the_command_predicts_by_it(pictures, tmp_path, capsys):
    Image.fromarray(pictures.images[0]).save(tmp_path / "a.png")
    command = ["predict", str(tmp_path / "a.png"), "--model", "SEResNet20", "--weights", "cifar10"]
    assert not keras_senet_cli.main([*command, "--json"])
    (found,) = json.loads(capsys.readouterr().out)
    assert {row["class"] for row in found["predictions"]} <= set(CLASSES)


def test_packaging_rounds_kernels_only_and_refuses_more_than_a_few_megabytes(tmp_path, script):
    network = randomize(TINY["small"].constructor(weights=None))
    network.class_names = list("0123456789")
    script.round_kernels(network)
    options = {"top1": 12.346, "top5": 50.0, "trained": "not", "folder": tmp_path}
    path = script.package_weights(network, "SEResNet20", "tiny", **options)
    about = registry.read_packaged(path)["checkpoint"]
    assert (about["top1"], about["top5"], about["tag"]) == (12.35, 50.0, "tiny")
    again = TINY["small"].constructor(weights=path)
    for variable, other in zip(network.weights, again.weights, strict=True):
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (variable, other)))
    (tmp_path / "other.safetensors").write_bytes(bytes(script.LIMIT))
    with pytest.raises(ValueError, match="must have at most 4,194,304 bytes together"):
        script.package_weights(network, "SEResNet20", "tiny", **options)


@pytest.mark.parametrize(
    ("classes", "count", "said"),
    [
        (CLASSES, 50_000, None),
        (CLASSES, 49_999, "49,999 images of 10 classes"),
        (CLASSES[::-1], 50_000, "50,000 images of 10 classes"),
        (["cat", "dog"], 50_000, "'photos' with 50,000 images of 2 classes"),
    ],
)
def test_only_runs_on_cifar10_are_packaged(tmp_path, script, classes, count, said):
    images = {"train": {"images": count, "digest": ""}}
    about = {"recipe": {"dataset": "photos"}, "class_names": classes, "images": images}
    (tmp_path / "recipe.json").write_text(json.dumps(about))
    refused = pytest.raises(ValueError, match=said) if said else contextlib.nullcontext()
    with refused:
        script.check_dataset(tmp_path, tuple(CLASSES))
