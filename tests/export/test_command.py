"""`keras-senet export`, as a user runs it."""

import json

import numpy as np
import pytest
import tensorflow as tf

import keras_senet
from keras_senet import cli
from keras_senet.training import RECIPES, Trainer


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "se_resnet20.weights.h5"
    keras_senet.save_weights(keras_senet.SEResNet20(weights=None), path)
    return str(path)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for i in range(6):
        pixels = tf.constant(np.kron(random.integers(0, 256, (5 + i, 7, 3)), np.ones((8, 8, 1))), tf.uint8)
        (folder / f"{i}.jpg").write_bytes(tf.io.encode_jpeg(pixels).numpy())
    return str(folder)


def test_every_format_of_a_network(weights, pictures, tmp_path, capsys):
    flags = ["--weights", weights, "--quantization", "float16", "int8", "--calibration", pictures]
    assert cli.main(["export", "SEResNet20", *flags, "--output", str(tmp_path / "out")]) == 0
    files = {"saved_model", "model.tflite", "model.onnx", "model.float16.tflite", "model.int8.tflite"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*files, "report.json"}
    reports = json.loads((tmp_path / "out" / "report.json").read_text())["exports"]
    assert {(r["format"], r["quantization"]) for r in reports} == {
        ("savedmodel", None),
        ("tflite", None),
        ("onnx", None),
        ("tflite", "float16"),
        ("tflite", "int8"),
    }
    assert all(r["relative_error"] <= 1e-4 for r in reports if r["quantization"] is None)
    printed = capsys.readouterr().out
    assert all(name in printed for name in files)


def test_a_finished_run_with_its_classes(tmp_path):
    recipe = RECIPES["digits"].override(epochs=1, warmup_epochs=0.0)
    Trainer(recipe, tmp_path, verbose=False, max_steps=2).train()
    assert cli.main(["export", str(tmp_path), "--format", "savedmodel", "--calibration", "digits"]) == 0
    served = tf.saved_model.load(tmp_path / "exports" / "saved_model").signatures["serve_uint8"]
    images = keras_senet.data.load("digits", "test").images[:3]
    assert set(served(images=tf.constant(images))["classes"].numpy().tolist()) <= {str(i).encode() for i in range(10)}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--quantization", "int8"], "--quantization int8 needs images: --calibration DIR"),
        (["--format", "onnx", "--quantization", "float16"], "--quantization is of TFLite files"),
        (["--quantization", "int8", "--calibration", "/nowhere"], "/nowhere"),
        (["--weights", "/nowhere.weights.h5"], "/nowhere.weights.h5"),
    ],
)
def test_bad_input_is_one_line(flags, message, weights, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = [] if "--weights" in flags else ["--weights", weights]
    assert cli.main(["export", "SEResNet20", *given, *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not list(tmp_path.iterdir())
