"""The README is short, its Python runs and prints what it says, and its tables are generated."""

import re

import network_table
from documents import ROOT, blocks, prepare_folder

from keras_senet import models

README = (ROOT / "README.md").read_text()


def test_the_python_runs_and_prints_what_it_says(tmp_path, monkeypatch, capsys):
    prepare_folder(tmp_path, monkeypatch, README)
    for block in blocks(README, "python"):
        exec(compile(block, "README.md", "exec"), {})
    *predictions, error = capsys.readouterr().out.splitlines()
    assert f"# {', '.join(predictions)}\n" in README
    assert float(error) <= 1e-4
    assert (tmp_path / "se_resnet20.onnx").exists()


def test_the_first_example_has_ten_lines():
    first, *_ = blocks(README, "python")
    assert len([line for line in first.splitlines() if line.strip()]) <= 10


def test_the_two_commands():
    assert blocks(README, "bash") == [
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
