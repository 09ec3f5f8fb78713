"""The README's Python runs as written, in one process from top to bottom; what it names exists."""

import re

import pytest
from documents import ROOT, blocks, prepare_folder

import keras_senet_cli
from keras_senet import models

README = (ROOT / "README.md").read_text()


def test_the_python_runs(tmp_path, monkeypatch, capsys):
    """Takes 10 s: the examples, taken as they are, build SE-ResNet-50 and its like nine times."""
    prepare_folder(tmp_path, monkeypatch, README)
    names = {}
    for block in blocks(README, "python"):
        exec(compile(block, "README.md", "exec"), names)
    error, predictions, multiply_adds, named = capsys.readouterr().out.splitlines()
    assert {found for found, *_ in eval(named)[0]} == {"cat", "dog"}
    assert float(error) <= 1e-4
    assert len(eval(predictions)[0]) == 3
    assert int(multiply_adds) == 3857973248
    assert names["probabilities"].shape == (1, 1000)
    assert names["image"].shape == (224, 224, 3)
    assert names["outputs"].shape == (None, 32, 32, 64)
    assert [tuple(m.shape) for m in names["maps"].values()] == [
        (1, 32, 32, 256),
        (1, 16, 16, 512),
        (1, 8, 8, 1024),
        (1, 8, 8, 2048),
    ]
    assert len(names["gated"].layers) == len(names["resnet"].layers) + 16
    assert (tmp_path / "se_resnet18.onnx").exists()


def test_the_first_example_has_ten_lines():
    assert len([line for line in blocks(README, "python")[0].splitlines() if line.strip()]) <= 10


def test_the_two_commands():
    assert blocks(README, "bash") == [
        "pip install '.[all]' && keras-senet quickstart\n",
        "pip install -e '.[dev]' && pytest\n",
    ]


@pytest.mark.parametrize("command", keras_senet_cli.COMMANDS)
def test_every_command_is_described(command):
    assert f"| `keras-senet {command}" in README


@pytest.mark.parametrize("model", models.__all__)
def test_every_network_is_named(model):
    assert f"`{model}`" in README


def test_what_the_layout_names_exists():
    layout = re.search(r"^    keras_senet_cli\.py.*?\n\n", README, re.MULTILINE | re.DOTALL).group()
    for line in layout.strip("\n").splitlines():
        folder = "keras_senet/" if line.startswith("      ") else ""
        for name in re.split("  +", line.strip())[0].split(", "):
            assert (ROOT / folder / name).exists(), name
