"""The README is short, its Python runs as written, its tables are generated; commands exist."""

import json
import re
import shlex
from pathlib import Path

import network_table
import numpy as np
import pytest
from PIL import Image

import keras_senet_cli
from keras_senet import detection, models
from keras_senet.cli.flags import read_options
from keras_senet.cli.options import CLASSES
from keras_senet.recipes import Recipe
from keras_senet.runs.workdir import WorkDir

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def put_photo(path):
    """The photograph of a cat in the example, one of CIFAR-10's test images, enlarged."""
    with np.load(ROOT / "tests" / "cifar10.npz") as arrays:
        image = Image.fromarray(arrays["x_test"][38])
    image.resize((320, 320), Image.Resampling.BICUBIC).save(path, quality=95)


def test_the_python_runs_and_prints_what_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    put_photo(tmp_path / "photo.jpg")
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), {})
    *predictions, error = capsys.readouterr().out.splitlines()
    assert f"# {', '.join(predictions)}\n" in README
    assert float(error) <= 1e-4
    assert (tmp_path / "se_resnet20.onnx").exists()


def test_the_first_example_has_ten_lines():
    assert len([line for line in blocks("python")[0].splitlines() if line.strip()]) <= 10


def test_the_two_commands():
    assert blocks("bash") == [
        "pip install '.[all]' && keras-senet quickstart\n",
        "pip install -e '.[dev]' && pytest\n",
    ]


def test_it_is_short():
    assert len(README.splitlines()) <= 150


def test_its_table_is_that_of_the_package():
    """`python tests/network_table.py` writes it."""
    (found,) = network_table.IN_README.findall(README)
    assert found.strip() == network_table.readme_table().strip()
    for name in models.__all__:
        assert f"| `{name}` |" in found


def test_its_picture_is_in_the_repository():
    (picture,) = re.findall(r"^!\[[^\]]+\]\((.*)\)$", README, re.MULTILINE)
    assert (ROOT / picture).is_file()


def test_what_the_layout_names_exists():
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    pattern = r"^    keras_senet_cli\.py.*?\n\n"
    layout = re.search(pattern, contributing, re.MULTILINE | re.DOTALL).group()
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
