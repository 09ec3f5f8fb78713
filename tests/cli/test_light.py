"""What needs no network imports neither Keras nor TensorFlow, and so is there at once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import keras_senet_cli

HEAVY = ("keras", "tensorflow", "torch", "jax", "matplotlib")
LIGHT = [
    *([command, "--help"] for command in keras_senet_cli.COMMANDS),
    *([*command.split(), "--help"] for command in keras_senet_cli.EVERY_COMMAND if " " in command),
    ["detect", "train", "--workdir", "/nowhere", "--recipe", "scenes", "--help"],
    ["--help"],
    ["--version"],
    ["list"],
    ["list", "--paper"],
    ["list", "--weights"],
    ["list", "--recipes"],
    ["list", "--detectors"],
    ["data", str(Path(__file__).parents[2] / "results"), "--headers-only"],
]
REFUSED = [
    [],
    ["trian"],
    ["summary"],
    ["summary", "SEResNet51"],
    ["list", "extra"],
    ["list", "--weights", "--paper"],
    ["train"],
    ["train", "--workdir", "/nowhere"],
    ["train", "--workdir", "/nowhere", "--recipe", "digit"],
    ["train", "--workdir", "/nowhere", "--recipe", "digits", "--epochs", "x"],
    ["train", "--workdir", "/nowhere", "--recipe", "digits", "--epochs", "0"],
    ["train", "--workdir", "/nowhere", "--recipe", "digits", "--model", "SEResNet51"],
    ["train", "--workdir", "/nowhere", "--recipe", "digits", "--no-such"],
    ["ablate", "--workdir", "/nowhere", "--recipe", "digits", "--variants", "r3"],
    ["evaluate", "--model", "SEResNet51"],
    ["train", "--workdir", "/nowhere", "--recipe", "none"],
    ["train", "--workdir", "/nowhere", "--recipe", "digits", "--engine", "none"],
    ["train", "--workdir", "/nowhere", "--dataset", "cifar10", "--epochs", "0"],
    ["ablate", "--workdir", "/nowhere", "--recipe", "digits", "--seeds", "0", "-1"],
    ["evaluate", "--model", "SEResNet50", "--size", "0"],
    ["evaluate", "--model", "SEResNet50", "--short-side", "-1"],
    ["summary", "SEResNet50", "--size", "0"],
    ["export", "/"],
    ["predict", "a.jpg", "--model", "SEResNet51"],
    ["predict", "a.jpg", "--model", "SEResNet50", "--top", "0"],
    ["prune", "--model", "SEResNet50", "--keep", "2"],
    ["export", "SEResNet51"],
    ["export", "SEResNet50", "--quantization", "int8"],
    ["quickstart", "--seed", "-1"],
    ["data"],
    ["data", "./nowhere", "--recipe", "digits"],
    ["detect"],
    ["detect", "tarin"],
    ["detect", "train", "--workdir", "/nowhere"],
    ["detect", "train", "--workdir", "/nowhere", "--recipe", "scenes", "--short", "0"],
    ["detect", "predict", "a.jpg", "--workdir", "/nowhere"],
    ["detect", "export", "SEResNet50"],
]
# One process runs them all, each as if it were the first.
PROGRAM = """
import contextlib, io, json, sys
import keras_senet_cli
results = []
for arguments in json.load(sys.stdin):
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        status = keras_senet_cli.main(arguments)
    results.append((status, out.getvalue(), errors.getvalue()))
    if heavy := [name for name in HEAVY if name in sys.modules]:
        raise SystemExit(f"{arguments} imports {heavy}")
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def results():
    done = subprocess.run(
        [sys.executable, "-c", f"HEAVY = {HEAVY}\n{PROGRAM}"],
        input=json.dumps([*LIGHT, *REFUSED]),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_help_and_lists_are_without_keras(results):
    for arguments, (status, out, errors) in zip(LIGHT, results, strict=False):
        assert (status, errors) == (0, ""), arguments
        assert len(out) > 10


def test_usage_errors_are_one_line_without_keras(results):
    for arguments, (status, out, errors) in zip(REFUSED, results[len(LIGHT) :], strict=True):
        assert (status, out) == (2, ""), arguments
        assert errors.count("\n") == 1, arguments
        assert errors.startswith("keras-senet"), arguments
        assert "│" not in errors


def test_help_names_the_commands_without_any_library():
    code = "import sys, keras_senet_cli as c; c.main(['--help']); sys.exit('rich' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0
    for name in keras_senet_cli.COMMANDS:
        assert f"  {name} " in result.stdout
