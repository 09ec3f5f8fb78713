"""The README's Python runs as written, in one process from top to bottom; its commands exist."""

import re
from pathlib import Path

import pytest

import keras_senet_cli
from keras_senet import models

README = (Path(__file__).parents[1] / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_python_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    printed = capsys.readouterr().out.split()
    assert float(printed[0]) <= 1e-4
    assert int(printed[1]) == 3857973248
    assert names["probabilities"].shape == (2, 5)
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
    assert len([line for line in blocks("python")[0].splitlines() if line.strip()]) <= 10


def test_the_two_commands():
    assert blocks("bash") == [
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
        name = line.split()[0]
        folder = "keras_senet/" if line.startswith("      ") else ""
        assert (Path(__file__).parents[1] / folder / name).exists(), name
