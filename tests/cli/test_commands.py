"""The command line as a user runs it: most of it in this process, and as a process what only a
process shows.
"""

import csv
import json
import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import little
import numpy as np
import pytest
from PIL import Image
from run_here import run_files_here

import keras_senet
from keras_senet import detection, models
from keras_senet.analysis import gates_by_stage
from keras_senet.recipes import RECIPES

COMMAND = str(Path(sys.executable).with_name("keras-senet"))


def start_process(*arguments):
    """A process: for what is printed besides our own output, and exit statuses."""
    environment = os.environ | {"COLUMNS": "120"}
    return subprocess.run(
        [COMMAND, *map(str, arguments)], capture_output=True, text=True, env=environment
    )


def cells(output):
    """The rows of a printed table."""
    return [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in output.splitlines()
        if "│" in line
    ]


def test_list_shows_every_network(run):
    result = run("list")
    assert result.returncode == 0, result.stderr
    rows = {name: rest for name, *rest in cells(result.stdout)}
    assert list(rows) == models.__all__
    assert rows["SENet154"][:3] == ["224 x 224", "115,088,984", "20,688,363,520"]
    assert rows["SENet154"][3:5] == ["81.32", "81.32"]  # the paper's accuracy, the best weights'
    assert rows["SEResNet20"][:5] == ["32 x 32", "274,847", "40,815,200", "-", "87.31"]
    assert result.stderr == ""


def test_the_papers_figures_of_every_network(run):
    result = run("list", "--paper")
    rows = {name: rest for name, *rest in cells(result.stdout)}
    assert list(rows) == models.__all__
    assert rows["SEResNet50"] == ["3.86", "3.86", "3.86", "3.87", "3.87"]
    assert rows["SEMobileNet"] == ["0.569", "0.569", "0.569", "0.572", "0.572"]
    for name, (plain, paper_plain, _, rescaled, paper) in rows.items():
        if paper != "-" and name != "SEInceptionResNetV2":  # whose variant is not public
            assert abs(Decimal(plain) - Decimal(paper_plain)) <= Decimal("0.02")
            assert abs(Decimal(rescaled) - Decimal(paper)) <= Decimal("0.02")


@pytest.mark.parametrize("flags", [[], ["--weights"], ["--recipes"], ["--detectors"]], ids=str)
def test_lists_as_json(flags, run):
    content = json.loads(run("list", *flags, "--json").stdout)
    if not flags:
        counts = {row["name"]: row["multiply_adds"] for row in content}
        assert counts["SEResNet50"] == 3860488192
    elif flags == ["--weights"]:
        assert [(row["model"], row["tag"]) for row in content] == [
            (w.model, w.tag) for w in keras_senet.list_weights()
        ]
    else:
        own = {"--recipes": RECIPES, "--detectors": detection.RECIPES}[flags[0]]
        kind = type(own["finetune"])
        assert {name: kind.from_json(row) for name, row in content.items()} == own


def test_summary_adds_up(run):
    result = run("summary", "SEResNet50")
    assert result.returncode == 0, result.stderr
    table = cells(result.stdout)
    assert [row[0] for row in table] == [
        "stem",
        "stage2",
        "stage3",
        "stage4",
        "stage5",
        "avg",
        "predictions",
        "total",
    ]
    numbers = [[int(c.replace(",", "")) for c in row[2:]] for row in table]
    assert (
        [sum(column) for column in zip(*numbers[:-1], strict=True)]
        == numbers[-1]
        == [28088024, 3860488192, 5519360]
    )
    assert table[1][1] == "56 x 56 x 256"
    assert "28,141,144 parameters" in result.stdout


def test_a_summary_as_json(run):
    content = json.loads(run("summary", "SEResNet20", "--json").stdout)
    assert content["multiply_adds"] == 40815200
    stages = content["stages"]
    assert sum(stage["parameters"] for stage in stages) == content["parameters"] == 274847
    assert stages[1]["stage"] == "stage1"
    assert stages[1]["output"] == [32, 32, 16]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "a command must be given: quickstart, list, summary"),
        (["trian"], "there is no command 'trian'; commands: quickstart"),
        (["trian"], "Did you mean 'train'?"),
        (["summary", "SEResNet51"], "MODEL must be a constructor's name"),
        (["summary", "SEResNet51"], "Received: 'SEResNet51'. Did you mean"),
        (["export", "SEResNet51"], "Received: 'SEResNet51'. Did you mean"),
        (["summary", "SEResNet50", "--size", "16"], "--size must be at least 32 for SEResNet50"),
        (["summary", "SEResNet50", "--size", "0"], "--size must be at least 1. Received: --size 0"),
        (["summary"], "MODEL"),
        (["list", "extra"], "extra"),
        (["quickstart", "--seed", "abc"], "abc"),
        (["quickstart", "--workdir", "/proc/keras_senet"], "/proc/keras_senet' cannot be"),
        (["quickstart", "--seed", "-1", "--workdir", "/nowhere"], "--seed -1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_line_and_status_2(arguments, named, run):
    result = run(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert named in result.stderr


def test_bad_input_ends_a_process_with_status_2():
    result = start_process("summary", "SEResNet51")
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert "Received: 'SEResNet51'" in result.stderr


@pytest.mark.parametrize("module", ["sklearn", "matplotlib", "ai_edge_litert", "onnxruntime"])
def test_a_missing_extra_is_named_before_anything_is_trained(module, tmp_path, run, monkeypatch):
    """A module that `sys.modules` says cannot be imported is one that is not installed."""
    for name in {module, *(name for name in sys.modules if name.startswith(f"{module}."))}:
        monkeypatch.setitem(sys.modules, name, None)
    result = run("quickstart", "--workdir", tmp_path / "work")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    extra = "train" if module in ("sklearn", "matplotlib") else "export"
    assert f"pip install 'keras_senet[{extra}]'" in result.stderr
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_quickstart(tmp_path):
    """The main job on the real digits, to the accuracy that it promises: about two minutes on two
    cores.
    """
    result = start_process("quickstart", "--workdir", tmp_path / "work")
    assert result.returncode == 0, result.stderr
    report = check_quickstart(tmp_path / "work", epochs=14)
    assert report["accuracy"] >= 0.99
    assert f"{100 * report['accuracy']:.2f}%" in result.stdout
    assert all(entry["top1_agreement"] >= 0.99 for entry in report["exports"])
    assert result.stderr == ""


def test_quickstart_with_a_little_network(tmp_path, run, monkeypatch):
    """All that it leaves: about five seconds, as every format is written and run."""
    little.put_in_place(monkeypatch.setitem, monkeypatch.setattr)
    run_files_here(monkeypatch)
    monkeypatch.setitem(RECIPES, "digits", RECIPES["digits"].override(epochs=2, batch_size=16))
    with little.graphs_as_traced():
        result = run("quickstart", "--workdir", tmp_path / "work")
    assert result.returncode == 0, result.stderr
    report = check_quickstart(tmp_path / "work", epochs=2)
    assert f"{100 * report['accuracy']:.2f}%" in result.stdout


def check_quickstart(work, epochs):
    """What it wrote; returns its report."""
    assert {p.name for p in work.iterdir()} == {
        *(
            "recipe.json",
            "metrics.csv",
            "checkpoints",
            "model.keras",
            "model.weights.h5",
            "best.weights.h5",
        ),
        *("report.json", "per_class.csv", "curves.png", "confusion.png", "exports"),
    }
    report = json.loads((work / "report.json").read_text())
    exports = {(e["format"], e["quantization"]): e for e in report["exports"]}
    assert set(exports) == {
        ("savedmodel", None),
        ("tflite", None),
        ("tflite", "int8"),
        ("onnx", None),
    }
    for (_, quantization), entry in exports.items():
        assert Path(entry["path"]).exists()
        assert entry["relative_error"] <= (1e-4 if quantization is None else 0.5)
        # The fraction of the images with another class bounds the difference of the accuracies.
        assert quantization or entry["top1_agreement"] == 1.0
    with (work / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(1, epochs + 1))
    assert (
        (work / "curves.png").read_bytes()[:4]
        == (work / "confusion.png").read_bytes()[:4]
        == b"\x89PNG"
    )
    return report


def saved(tmp_path, constructor=keras_senet.SEResNet20, **options):
    model = constructor(weights=None, **options)
    keras_senet.save_weights(model, tmp_path / "own.safetensors")
    return model


@pytest.fixture
def little_network(monkeypatch):
    """In the place of SE-ResNet-20."""
    little.put_in_place(monkeypatch.setitem, monkeypatch.setattr, little.TWO_STAGES)
    return little.TWO_STAGES


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`own.safetensors`, of SEResNet20, and `picture.png`."""
    folder = tmp_path_factory.mktemp("weights")
    saved(folder)
    picture(folder)
    return folder


def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 40, 3), "uint8")
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


@pytest.mark.parametrize(
    ("flag", "recipes"), [("--recipes", RECIPES), ("--detectors", detection.RECIPES)]
)
def test_list_recipes_shows_each_with_its_source(flag, recipes, run):
    result = run("list", flag)
    for name, recipe in recipes.items():
        assert f"{name}: {recipe.source}. Result: {recipe.result}" in result.stdout


def test_list_weights_shows_the_registry(run):
    result = run("list", "--weights")
    rows = [row for row in cells(result.stdout) if row[1].startswith(("imagenet", "cifar"))]
    listed = keras_senet.list_weights()
    assert [(row[0], row[1]) for row in rows] == [(w.model, w.tag) for w in listed]
    assert rows[2][2:] == ["77.65", "93.73", "224", "28.09 M", "Apache-2.0"]
    for w in listed:
        assert f"{w.model} {w.tag}: {w.source}\n" in result.stdout
    assert run("list", "--weights", "--paper").returncode == 2


def test_convert_and_predict(tmp_path, run, little_network):
    model = saved(tmp_path, little_network, classes=4)
    output = tmp_path / "out.weights.h5"
    result = run(
        "convert", tmp_path / "own.safetensors", "--model", "SEResNet20", "--output", output
    )
    assert result.returncode == 0, result.stderr
    again = little_network(weights=output, classes=4)
    for value, expected in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)
    repeated = run(
        "convert", tmp_path / "own.safetensors", "--model", "SEResNet20", "--output", output
    )
    assert repeated.returncode == 2
    assert "--output exists" in repeated.stderr
    arguments = (
        "predict",
        picture(tmp_path),
        "--model",
        "SEResNet20",
        "--weights",
        output,
        "--top",
        2,
        "--gates",
    )
    result = run(*arguments)
    assert result.returncode == 0, result.stderr
    images = model.preprocessing.normalize(model.preprocessing.read(tmp_path / "picture.png")[None])
    probabilities = model(images).numpy()[0]
    rows = cells(result.stdout)
    best = probabilities.argsort()[::-1][:2]
    assert rows[0][0] == str(tmp_path / "picture.png")
    shown = [[f"class {i}", f"{100 * probabilities[i]:.2f}%"] for i in best]
    assert [row[-2:] for row in rows[:2]] == shown
    (content,) = json.loads(run(*arguments, "--json").stdout)
    gates = gates_by_stage(model, images)
    assert content["gates"] == pytest.approx(gates)
    assert content["predictions"] == [
        {"class": f"class {i}", "probability": pytest.approx(float(probabilities[i]))} for i in best
    ]
    assert rows[2:] == [
        [stage, f"{mean:.3f}", "most excited" if mean == max(gates.values()) else ""]
        for stage, mean in gates.items()
    ]


def test_predict_names_the_classes_of_imagenet(tmp_path, run, little_network):
    """Those of a network of a thousand classes."""
    model, file = saved(tmp_path, little_network, classes=1000), tmp_path / "own.safetensors"
    result = run("predict", picture(tmp_path), "--model", "SEResNet20", "--weights", file)
    images = model.preprocessing.normalize(model.preprocessing.read(tmp_path / "picture.png")[None])
    (expected,) = keras_senet.decode_predictions(model(images))
    assert [row[-2:] for row in cells(result.stdout)] == [
        [f"{name} ({wnid})", f"{100 * score:.2f}%"] for wnid, name, score in expected
    ]


def test_a_headless_network_of_one_channel_converts(tmp_path, run, little_network):
    grey = {"include_top": False, "input_shape": (32, 32, 1)}
    keras_senet.save_weights(little_network(weights=None, **grey), tmp_path / "grey.safetensors")
    output = tmp_path / "out.weights.h5"
    result = run(
        "convert", tmp_path / "grey.safetensors", "--model", "SEResNet20", "--output", output
    )
    assert result.returncode == 0, result.stderr
    assert little_network(weights=output, **grey)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("predict", "{picture}", "--model", "SEResNet21"),
            "Did you mean 'SEResNet",
        ),
        (("predict", "{picture}", "--model", "SEResNet20"), "--weights imagenet"),
        (("predict", "gone.jpg", "--model", "SEResNet20", "--weights", "{weights}"), "gone.jpg"),
        (
            ("predict", "{weights}", "--model", "SEResNet20", "--weights", "{weights}"),
            "cannot be decoded|can be decoded",
        ),
        (
            (
                "predict",
                "{picture}",
                "--model",
                "SEResNet20",
                "--weights",
                "{weights}",
                "--top",
                "11",
            ),
            "--top must be 1..10",
        ),
        (
            ("predict", "{picture}", "--model", "SEResNet32", "--weights", "{weights}"),
            "another architecture",
        ),
        (
            ("convert", "{weights}", "--model", "SEResNet20", "--output", "a.bin"),
            "must end in one of .weights.h5",
        ),
        (
            ("convert", "{weights}", "--model", "SEResNet20", "--output", "gone/a.safetensors"),
            "folder of",
        ),
        (
            ("convert", "{picture}", "--model", "SEResNet20", "--output", "a.safetensors"),
            "picture.png",
        ),
    ],
)
def test_bad_input_is_one_line(arguments, message, folder, run):
    places = {"{picture}": folder / "picture.png", "{weights}": folder / "own.safetensors"}
    result = run(*(places.get(argument, argument) for argument in arguments))
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert re.search(message, result.stderr)
