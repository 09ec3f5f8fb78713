"""The README's Python runs as written, in one process from top to bottom; its commands exist."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import keras_senet
import keras_senet_cli
from keras_senet import detection, models
from keras_senet.cli.flags import read_options
from keras_senet.cli.options import CLASSES
from keras_senet.recipes import Recipe
from keras_senet.runs.workdir import WorkDir
from keras_senet.weights.download import cache_folder

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def put_published_weights(tmp_path, monkeypatch):
    """Random weights at the place where those that the example asks for would be put by hand, and a
    photo.
    """
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    spec = keras_senet.SEResNet50.spec.published_by("timm")
    (checkpoint,) = (c for c in keras_senet.list_weights("SEResNet50") if c.tag == "imagenet-ra2")
    cache_folder().mkdir(parents=True)
    keras_senet.save_weights(
        keras_senet.SEResNet50.variant(spec)(weights=None), cache_folder() / checkpoint.file_name
    )
    Image.fromarray(np.zeros((300, 400, 3), "uint8")).save(tmp_path / "photo.jpg")


def put_run(folder):
    """What training on photographs of two classes leaves."""
    folder.mkdir()
    model = keras_senet.SEResNet20(weights=None, classes=2)
    model.class_names = ("cat", "dog")
    model.save(folder / "model.keras")
    (folder / "recipe.json").write_text(
        json.dumps({"recipe": {"model": "SEResNet20", "dataset": "photos"}})
    )


def test_the_python_runs(tmp_path, monkeypatch, capsys):
    """Takes 10 s: the examples, taken as they are, build SE-ResNet-50 and its like nine times."""
    monkeypatch.chdir(tmp_path)
    put_published_weights(tmp_path, monkeypatch)
    put_run(tmp_path / "run")
    names = {}
    for block in blocks("python"):
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
        folder = "keras_senet/" if line.startswith("      ") else ""
        for name in re.split("  +", line.strip())[0].split(", "):
            assert (ROOT / folder / name).exists(), name


def read(file):
    if file.suffix != ".ipynb":
        return file.read_text()
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(file.read_text())["cells"])


def documented_commands():
    """The `keras-senet` lines in the console blocks of README.md, the results and the notebooks."""
    for file in (
        ROOT / "README.md",
        *ROOT.glob("results/**/*.md"),
        *ROOT.glob("notebooks/*.ipynb"),
    ):
        for block in re.findall(r"```console\n(.*?)```", read(file), re.DOTALL):
            yield from re.findall(r"^keras-senet .*", block.replace("\\\n", " "), re.MULTILINE)


@pytest.mark.parametrize("line", sorted(set(documented_commands())))
def test_documented_commands_can_be_read(line, tmp_path, monkeypatch):
    for name in ("plain", "run"):  # work directories in the examples
        WorkDir(tmp_path / name, Recipe(), {})
    for name in ("street", "se_seed0"):
        WorkDir(tmp_path / name, detection.RECIPES["scenes"], {}, task="detection")
    (tmp_path / "run" / "exports").mkdir()
    (tmp_path / "run" / "exports" / "model.int8.tflite").touch()
    monkeypatch.chdir(tmp_path)
    _, *words = shlex.split(line, comments=True)
    command, arguments = keras_senet_cli.split_command(words)
    assert read_options(command, CLASSES[command], arguments) is not None
