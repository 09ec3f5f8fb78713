"""`keras-senet export`, as a user runs it, with a little network in the place of SE-ResNet-20."""

import csv
import json
from pathlib import Path

import little
import numpy as np
import pytest
import report_runs
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from hostile import FACTOR, FIRST, SECOND, predictions, random_images, rescaled

import keras_senet
from keras_senet import cli, data
from keras_senet.cli import export_all as matrix
from keras_senet.cli.results import check_exports
from keras_senet.export import onnx
from keras_senet.export.conditioning import Precision
from keras_senet.export.files import ExportFile
from keras_senet.export.formats import Quantization
from keras_senet.export.images import images_for, images_of
from keras_senet.export.tflite_metadata import read_metadata

pytestmark = pytest.mark.usefixtures("graphs_as_traced")


@pytest.fixture(scope="module")
def network():
    """One whose classes differ from image to image."""
    return report_runs.network()


@pytest.fixture(scope="module")
def images(network):
    """By split. The network is right about 40 of 50 test images, and confident of each."""
    many = np.random.default_rng(0).integers(0, 256, (1000, 8, 8, 3), "uint8")
    probabilities = network(network.preprocessing.normalize(many)).numpy()
    second, first = np.sort(probabilities)[:, -2:].T
    surest = np.argsort(second - first)[:50]
    labels = probabilities.argmax(-1)
    test = labels[surest]
    test[:10] = (test[:10] + 1) % 10
    names = tuple("0123456789")
    return {
        "train": data.Dataset(many[:50], labels[:50], names),
        "test": data.Dataset(many[surest], test, names),
    }


@pytest.fixture(autouse=True)
def little_network_and_data(images, monkeypatch):
    little.put_in_place(monkeypatch.setitem, monkeypatch.setattr, little.TWO_STAGES)
    monkeypatch.setitem(data.DATASETS, "digits", images.get)


@pytest.fixture
def run_folder(network, tmp_path):
    """What training of the network leaves."""
    return report_runs.leave(tmp_path / "run", network)


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "se_resnet20.weights.h5"
    keras_senet.save_weights(network, path)
    return str(path)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for i in range(6):
        pixels = tf.constant(
            np.kron(random.integers(0, 256, (5 + i, 7, 3)), np.ones((8, 8, 1))), tf.uint8
        )
        (folder / f"{i}.jpg").write_bytes(tf.io.encode_jpeg(pixels).numpy())
    return str(folder)


def test_a_dataset_is_not_the_folder_of_its_name(network, tmp_path, monkeypatch):
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "curves.png").write_bytes(b"what training left")
    many = data.Dataset(np.zeros((250, 8, 8, 3), "uint8"), np.arange(250) % 10, tuple("0123456789"))
    monkeypatch.setitem(data.DATASETS, "digits", lambda split: many)
    monkeypatch.chdir(tmp_path)
    assert images_for(network, "digits").shape == (200, 8, 8, 3)


def test_images_that_cannot_be_used_are_left_out(network, tmp_path, caplog):
    """In memory by a label that is no class; of files by what is damaged, after its header."""
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), "uint8")
    found, labels = images_of(network, data.Dataset(images, [0, 99, 1, 2], tuple("0123456789")))
    np.testing.assert_array_equal(found, images[[0, 2, 3]])
    assert labels.tolist() == [0, 1, 2]
    assert "left out: image 1 cannot be used: its label 99 is not in 0..9" in caplog.text
    (tmp_path / "a").mkdir()
    for i, image in enumerate(images):
        content = tf.io.encode_png(image).numpy()
        (tmp_path / "a" / f"{i}.png").write_bytes(content[:-40] if i == 2 else content)
    view = network.preprocessing.crop
    found, labels = images_of(network, data.load(tmp_path, "all"), most=3)  # of 0, 1 and 3
    np.testing.assert_array_equal(found, [view(images[0]), view(images[1]), view(images[3])])
    assert labels.tolist() == [0, 0, 0]
    found, _ = images_of(network, data.load(tmp_path, "all"))
    np.testing.assert_array_equal(found, [view(images[0]), view(images[1]), view(images[3])])
    assert "2.png cannot be used" in caplog.text


def exports_of(folder):
    report = json.loads((folder / "exports" / "report.json").read_text())
    return {Path(each["path"]).name: each for each in report["exports"]}


def test_every_format_of_a_finished_run(run_folder, images, capsys):
    """Calibrated and evaluated on its own images, with its classes. Over 5 s: seven files, and the
    first use of each converter.
    """
    flags = ["--quantization", "float16", "int8", "--io-dtype", "uint8"]
    assert cli.main(["export", str(run_folder), *flags]) == 0
    folder, found = run_folder / "exports", exports_of(run_folder)
    assert {path.name for path in folder.iterdir()} == {*found, "report.json"}
    assert {(name, r["format"], r["quantization"]) for name, r in found.items()} == {
        ("saved_model", "savedmodel", None),
        ("model.tflite", "tflite", None),
        ("model.onnx", "onnx", None),
        ("model.float16.tflite", "tflite", "float16"),
        ("model.float16.onnx", "onnx", "float16"),
        ("model.int8.tflite", "tflite", "int8"),
        ("model.int8.onnx", "onnx", "int8"),
    }
    for each in found.values():
        assert each["quantization"] or each["relative_error"] <= 1e-4
        assert (each["evaluated_images"], each["evaluated_split"]) == (50, "test")
        assert each["keras_accuracy"] == 0.8  # by the labels of the fixture
        assert abs(each["accuracy"] - 0.8) <= 0.01
        assert each["sensitive_layers"] is None
    printed = capsys.readouterr().out
    assert all(name in printed for name in found)
    assert "accuracy on test images" in printed
    assert "Layers that lose most" not in printed
    content = (folder / "model.int8.tflite").read_bytes()
    assert Interpreter(model_content=content).get_input_details()[0]["dtype"] == np.uint8
    assert read_metadata(content).class_names == images["test"].class_names
    served = tf.saved_model.load(folder / "saved_model").signatures["serve_uint8"]
    known, labels = images["test"].images[10:], images["test"].labels[10:]
    assert served(images=tf.constant(known))["classes"].numpy().tolist() == [
        str(label).encode() for label in labels
    ]


def test_accuracy_is_of_so_many_images(run_folder):
    for count, expected in ((30, 30), (0, None)):
        flags = ["--format", "onnx", "--evaluate-images", str(count), "--overwrite"]
        assert cli.main(["export", str(run_folder), *flags]) == 0
        assert exports_of(run_folder)["model.onnx"]["evaluated_images"] == expected


def test_the_layers_that_lose_are_named(run_folder, capsys, monkeypatch):
    """In a run with a hostile layer, whose file is better when that stays in float. The command is
    the same for each format; TFLite's files are in test_sensitive_layers.py.
    """
    model, shown = rescaled(FACTOR), random_images()
    labelled = data.Dataset(shown, predictions(model, shown), tuple("0123456789"))
    monkeypatch.setitem(data.DATASETS, "digits", lambda split: labelled)
    report_runs.leave(run_folder, model)
    command = ["export", str(run_folder), "--format", "onnx", "--quantization", "int8"]
    assert cli.main(command) == 0
    printed = capsys.readouterr().out
    assert "Layers that lose most in int8" in printed
    assert f"int8 with --float-layers {FIRST} {SECOND}; more images" in printed
    found = exports_of(run_folder)
    assert found["model.onnx"]["sensitive_layers"] is None
    lossy = found["model.int8.onnx"]
    assert (lossy["keras_accuracy"], lossy["sensitive_layers"]) == (1, [FIRST])
    assert cli.main([*command, "--overwrite", "--float-layers", FIRST, SECOND]) == 0
    saved = exports_of(run_folder)["model.int8.onnx"]
    assert saved["accuracy"] > lossy["accuracy"] + 0.1


def test_no_file_is_written_for_a_layer_that_is_not_there(run_folder, capsys):
    flags = ["--quantization", "int8", "--float-layers", FIRST, "stage2_block1_con2"]
    assert cli.main(["export", str(run_folder), *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("Received: 'stage2_block1_con2'. Did you mean 'stage2_block1_conv2'?")
    assert not (run_folder / "exports").exists()


@pytest.fixture
def moved_run(network, tmp_path):
    """A run whose dataset is no longer there."""
    return report_runs.leave(tmp_path / "run", network, dataset=str(tmp_path / "gone"))


def test_a_run_whose_images_are_gone(moved_run, capsys):
    assert cli.main(["export", str(moved_run), "--quantization", "int8"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "give others by --dataset or --calibration" in line
    assert not (moved_run / "exports").exists()
    assert cli.main(["export", str(moved_run), "--format", "onnx"]) == 0
    assert "Accuracy is not measured" in capsys.readouterr().out
    assert exports_of(moved_run)["model.onnx"]["accuracy"] is None


def test_a_network_whose_dataset_is_not_known(network, tmp_path, capsys):
    network.save(tmp_path / "mine.keras")
    assert cli.main(["export", str(tmp_path / "mine.keras"), "--quantization", "int8"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no images to calibrate on: give --dataset or --calibration" in line
    assert [path.name for path in tmp_path.iterdir()] == ["mine.keras"]


def test_other_images_for_a_run_whose_images_are_gone(moved_run, pictures):
    flags = ["--format", "onnx", "--quantization", "int8"]
    assert cli.main(["export", str(moved_run), *flags, "--calibration", pictures]) == 0
    assert exports_of(moved_run)["model.int8.onnx"]["accuracy"] is None
    with pytest.warns(UserWarning, match="those of the network class 0, class 1, .* their order"):
        assert (
            cli.main(["export", str(moved_run), *flags, "--dataset", "digits", "--overwrite"]) == 0
        )
    assert exports_of(moved_run)["model.int8.onnx"]["keras_accuracy"] == 0.8


def test_a_dataset_of_other_classes(run_folder, images, monkeypatch, capsys):
    fewer = data.Dataset(images["test"].images[:4], np.arange(4), tuple("abcd"))
    monkeypatch.setitem(data.DATASETS, "digits", lambda split: fewer)
    assert cli.main(["export", str(run_folder), "--format", "onnx", "--dataset", "digits"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--dataset digits cannot be used: 'tiny' has 10 classes, the dataset 4" in line
    assert not (run_folder / "exports").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--quantization", "int8"], "--quantization int8 needs images: --calibration DIR"),
        (["--float-gates"], "--float-gates goes with --quantization int8"),
        (["--io-dtype", "uint8"], "--io-dtype goes with --quantization int8"),
        (
            ["--io-dtype=uint8", "--quantization=int8", "--calibration=.", "--format=onnx"],
            "--io-dtype goes with --quantization int8 and --format tflite",
        ),
        (["--evaluate-images", "-1"], "--evaluate-images must be at least 0"),
        (["--dataset", "/nowhere"], "--dataset /nowhere cannot be used"),
        (
            ["--format", "onnx", "--quantization", "dynamic"],
            "--quantization dynamic is not for --format onnx",
        ),
        (
            ["--format", "savedmodel", "--quantization", "int8", "--calibration", "."],
            "--quantization int8 is not for --format savedmodel",
        ),
        (["--quantization", "int8", "--calibration", "/nowhere"], "/nowhere"),
        (["--quantization", "int8", "--calibration", "."], "'.'"),  # a folder without images
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


@pytest.mark.parametrize(
    ("given", "named"), [([], "none"), (["SEResNet20", "SEResNet32"], "SEResNet20 SEResNet32")]
)
def test_one_network_is_asked_for(given, named, capsys):
    assert cli.main(["export", *given]) == 2
    assert f"export takes one MODEL, or --all. Received: {named}" in capsys.readouterr().err


def test_nothing_is_written_where_one_file_is_in_the_way(weights, tmp_path, capsys):
    (tmp_path / "model.onnx").write_bytes(b"mine")
    flags = ["--weights", weights, "--format", "tflite", "onnx", "--output", str(tmp_path)]
    assert cli.main(["export", "SEResNet20", *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "model.onnx' exists; pass `overwrite=True` (--overwrite) to replace it" in line
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert (tmp_path / "model.onnx").read_bytes() == b"mine"


def test_a_damaged_report_is_found_before_the_work(weights, tmp_path, capsys):
    (tmp_path / "report.json").write_text('{"exports": 5}')
    flags = ["--weights", weights, "--format", "onnx", "--output", str(tmp_path)]
    assert cli.main(["export", "SEResNet20", *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "report.json' is damaged (it is not a JSON object, or its `exports` are not a" in line
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_a_report_keeps_what_it_had(weights, tmp_path):
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"accuracy": 0.9, "exports": [{"path": "elsewhere.tflite"}]}))
    flags = ["--weights", weights, "--format", "onnx", "--output", str(tmp_path)]
    for more in ([], ["--overwrite"]):
        assert cli.main(["export", "SEResNet20", *flags, *more]) == 0
        found = json.loads(report.read_text())
        assert found["accuracy"] == 0.9
        assert [each["path"] for each in found["exports"]] == [
            "elsewhere.tflite",
            str(tmp_path / "model.onnx"),
        ]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--overwrite"], "--overwrite is not for --all"),
        (["--format", "onnx"], "--format is not for --all"),
        (["nowhere"], "'nowhere' holds no training run"),
    ],
)
def test_what_the_matrix_does_not_take(flags, message, tmp_path, capsys):
    assert cli.main(["export", "--all", *flags, "--output", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def small_matrix(monkeypatch):
    """The matrix of one network, with three files of the format that is written fastest."""
    monkeypatch.setattr(matrix.models, "__all__", ["SEResNet20"])
    plan = [ExportFile("onnx", quantization) for quantization in (None, "float16", "int8")]
    monkeypatch.setattr(matrix, "PLAN", plan)


def rows(folder):
    return list(csv.DictReader((folder / "export.csv").read_text().splitlines()))


def test_the_matrix_goes_on_where_it_stopped(small_matrix, tmp_path, capsys, monkeypatch):
    command = ["export", "--all", "--output", str(tmp_path)]
    assert cli.main(command) == 0
    first = rows(tmp_path)
    assert [(row["network"], row["file"]) for row in first] == [
        ("SEResNet20", "model.onnx"),
        ("SEResNet20", "model.float16.onnx"),
        ("SEResNet20", "model.int8.onnx"),
    ]
    assert 0 < float(first[0]["relative_error"]) <= 1e-4 < float(first[1]["relative_error"])
    assert not any(row["failure"] for row in first)
    assert "3 files, 0 failed" in capsys.readouterr().out
    (tmp_path / "export.csv").write_text(
        "".join((tmp_path / "export.csv").read_text().splitlines(keepends=True)[:3])
    )
    written = []
    write = ExportFile.write
    monkeypatch.setattr(
        ExportFile,
        "write",
        lambda file, *a, **k: (written.append(file.name), write(file, *a, **k))[1],
    )
    assert cli.main(command) == 0
    assert written == ["model.int8.onnx"]
    assert [row["file"] for row in rows(tmp_path)] == [row["file"] for row in first]
    text = (tmp_path / "export.md").read_text()
    assert "| SEResNet20 |" in text
    assert "not run" not in text


def test_a_failure_in_the_matrix_is_loud_and_tried_again(
    small_matrix, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(matrix, "PLAN", [ExportFile("onnx", None)])
    with monkeypatch.context() as broken:
        broken.setitem(onnx.QUANTIZATIONS, None, Quantization(Precision(0.0)))
        assert cli.main(["export", "--all", "--output", str(tmp_path)]) == 2
        assert "SEResNet20 model.onnx: The onnx file" in capsys.readouterr().err
        assert "| failed |" in (tmp_path / "export.md").read_text()
    assert cli.main(["export", "--all", "--output", str(tmp_path)]) == 0
    assert [row["failure"] for row in rows(tmp_path)] == [""]


@pytest.mark.parametrize(
    ("limit", "value", "reason"),
    [
        ("LEAST_AGREEMENT", 1.01, "top-1 agreement, and 101% are asked for"),
        ("MOST_ACCURACY_LOST", -1.0, "an accuracy of"),
    ],
)
def test_a_trained_network_in_the_matrix_is_gated(
    limit, value, reason, small_matrix, run_folder, tmp_path, monkeypatch
):
    """By the same code for each format."""
    monkeypatch.setattr(matrix, "PLAN", [ExportFile("onnx", None), ExportFile("onnx", "int8")])
    monkeypatch.setattr(matrix, "_random_networks", list)
    monkeypatch.setattr(matrix, limit, value)
    command = ["export", "--all", str(run_folder), "--output", str(tmp_path)]
    assert cli.main(command) == 2
    found = {row["file"]: row for row in rows(tmp_path)}
    assert not found["model.onnx"]["failure"]
    assert "| failed: " in (tmp_path / "export.md").read_text()
    assert reason in found["model.int8.onnx"]["failure"]


def test_the_matrix_has_the_accuracy_of_a_trained_network(
    small_matrix, run_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(matrix, "_random_networks", list)
    assert cli.main(["export", "--all", str(run_folder), "--output", str(tmp_path)]) == 0
    exact, *smaller = rows(tmp_path)
    assert float(exact["accuracy"]) == 0.8
    assert float(exact["accuracy_change"]) == 0
    assert all(abs(float(row["accuracy_change"])) <= 0.01 for row in smaller)
    assert "80.00% correct" in (tmp_path / "export.md").read_text()


def test_an_output_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"--output cannot be written: .*/file' is not a folder"):
        check_exports([], tmp_path / "file", False)
