"""Flags as dataclasses have them: how each kind of value is read, and what is refused."""

import dataclasses
import re
from typing import get_args, get_type_hints

import pytest
from cyclopts.completion import ShellDetectionError

import keras_senet_cli
from keras_senet import cli
from keras_senet.cli.flags import KINDS, UsageError, make_complete_app, read_options
from keras_senet.cli.options import CLASSES
from keras_senet.cli.options.export import CALIBRATED, QUANTIZED, Formats, Quantizations
from keras_senet.cli.options.networks import Protocols
from keras_senet.evaluation.protocols import PROTOCOLS
from keras_senet.export.files import FORMATS
from keras_senet.fields import meanings


def read(text):
    command, arguments = keras_senet_cli.split_command(text.split())
    return read_options(command, CLASSES[command], arguments)


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("prune --model SEResNet50 --remove-se 2 3 --remove-se 4", "remove_se", ((2, 3), (4,))),
        ("prune --remove-se --model SEResNet50", "remove_se", ((),)),
        ("prune --model SEResNet50 --remove-se 5 --remove-se", "remove_se", ((5,), ())),
        ("prune --model SEResNet50 --keep .5 1 --baseline", "baseline", 1),
        ("prune --model SEResNet50 --keep .5 1 --baseline 3", "baseline", 3),
        ("prune --model SEResNet50 --keep .5,1", "keep", (0.5, 1.0)),
        ("evaluate --model SEResNet50 --model SEResNet18", "model", ("SEResNet50", "SEResNet18")),
        ("evaluate --model SEResNet50 SEResNet18", "model", ("SEResNet50", "SEResNet18")),
        ("evaluate --workdir run --size 224 320", "size", (224, 320)),
        ("evaluate --workdir run --size none", "size", ()),
        ("export SEResNet50 --size 320", "size", (320, 320)),
        ("export SEResNet50 --size 320x256", "size", (320, 256)),
        ("export SEResNet50 --size any", "size", (None, None)),
        ("export --size 320 SEResNet50", "size", (320, 320)),
        ("export --size=320 SEResNet50", "model", ("SEResNet50",)),
        ("export SEResNet50 --format onnx tflite", "format", ("onnx", "tflite")),
        ("export --all run1 run2", "model", ("run1", "run2")),
        ("predict a.jpg b.jpg --model SEResNet50", "images", ("a.jpg", "b.jpg")),
        ("predict --model SEResNet50 --top 1 -- -a.jpg", "images", ("-a.jpg",)),
        ("excitations --workdir run --classes tench goldfish", "classes", ("tench", "goldfish")),
        ("report run --no-gates", "no_gates", True),
        ("curves a b --output c.png", "workdirs", ("a", "b")),
        ("curves a b --output c.png --title=", "title", ""),
        ("train --workdir=w --recipe=digits --seed 1 --seed 2", "workdir", "w"),
        ("detect export FILE --size 320 256", "canvas", (320, 256)),
        ("detect export FILE --size 320", "canvas", (320, 320)),
        ("detect export FILE", "canvas", None),
    ],
)
def test_values_are_read(text, field, value, tmp_path, monkeypatch):
    (tmp_path / "detector.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    text = text.replace("FILE", "detector.safetensors")
    assert getattr(read(text), field) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prune --model SEResNet50 --remove-se a", "--remove-se: must be numbers of stages"),
        ("prune --model SEResNet50 --keep 0.5 a", "--keep: must be numbers. Received: 0.5 a"),
        ("prune --model SEResNet50 --keep 1.5", "--keep must be above 0 and at most 1"),
        ("prune --model SEResNet50", "--remove-se or --keep must be given"),
        ("prune --keep 0.5", "--model or --workdir must be given"),
        (
            "evaluate --model SEResNet50 --weights a b",
            "once for each --model that is a constructor's name: 2 for 1",
        ),
        ("evaluate --workdir w --batch-size 0", "--batch-size must be at least 1"),
        ("evaluate --workdir w --protocol six", '"six" for --protocol'),
        ("export SEResNet50 --format onxn", '"onxn" for --format.*Did you mean "onnx"'),
        ("convert a.pth --model SEResNet50", "--output must be given"),
        ("predict --model SEResNet50", "IMAGE must be given"),
        ("predict a.jpg --model", "--model requires an argument"),
        ("report", "WORKDIR must be given"),
        ("report a b", "no place for 'b'"),
        ("detect predict --workdir w", "IMAGE must be given"),
        ("train --recipe digits --workdir=", "--workdir: must not be empty"),
        ("evaluate --workdir w --output=", "--output: must not be empty"),
        ("predict a.jpg --workdir w --csv=", "--csv: must not be empty"),
        (
            "predict a.jpg --workdir w --batch-size 99999999999999999999",
            "--batch-size must be at most 2147483647. Received: --batch-size 9{20}",
        ),
        (
            "train --recipe digits --workdir w --checkpoint-minutes inf",
            "must be at most 2147483647",
        ),
        ("train --recipe digits --workdir w --checkpoint-minutes nan", "must be at least 0"),
        ("export SEResNet50 --size 5000x32", "--size: must be at most 4096 pixels. .*5000x32"),
        ("detect export FILE --size 4128", "--size must be at most 4096"),
        ("ablate --workdir w --recipe digits --se.reduction 3", "Unknown option: --se.reduction"),
    ],
)
def test_bad_values_are_named(text, message, tmp_path, monkeypatch):
    (tmp_path / "detector.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    text = text.replace("FILE", "detector.safetensors")
    with pytest.raises(ValueError, match=message):
        read(text)


def test_errors_are_of_usage():
    with pytest.raises(UsageError):
        read("list --jsn")


@pytest.mark.parametrize("command", CLASSES)
def test_every_option_has_its_meaning_in_the_help(command, capsys):
    cls = CLASSES[command]
    assert cli.main([*command.split(), "--help"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"Usage: keras-senet {command} ")
    for name in {each.name for each in dataclasses.fields(cls)}:
        if get_type_hints(cls)[name] not in KINDS:
            assert len(meanings(cls)[name].text) > 5, name
            flag = name.replace("_", "-")
            assert re.search(rf"--{flag}\b|\b{flag.upper().removesuffix('S')}\b", printed), name


def test_completion_is_installed_for_the_shell_that_runs_it(monkeypatch, tmp_path, capsys):
    for name in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr("cyclopts.completion.detect.detect_shell", lambda: "bash")
    assert keras_senet_cli.main(["--install-completion"]) == 0
    (file,) = (each for each in tmp_path.rglob("keras-senet") if each.is_file())
    assert str(file) in capsys.readouterr().out
    assert "--workdir" in file.read_text()


@pytest.mark.parametrize("shell", [[], ["csh"]])
def test_a_shell_that_is_not_known_is_one_line(monkeypatch, capsys, shell):
    def detect():
        raise ShellDetectionError("Unable to detect shell type.")

    monkeypatch.setattr("cyclopts.completion.detect.detect_shell", detect)
    assert keras_senet_cli.main(["--install-completion", *shell]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match("keras-senet: error: .*shell", line)


def test_choices_are_those_of_the_package():
    assert set(CLASSES) == set(keras_senet_cli.EVERY_COMMAND)
    assert get_args(Protocols) == (*PROTOCOLS, "larger")
    assert get_args(Formats) == tuple(FORMATS)
    calibrates = {
        name: {quantization: q.calibrates for quantization, q in each.QUANTIZATIONS.items()}
        for name, each in FORMATS.items()
    }
    assert all(not each.pop(None) for each in calibrates.values())
    assert {name: tuple(each) for name, each in calibrates.items()} == QUANTIZED
    assert {*get_args(Quantizations)} == {name for each in calibrates.values() for name in each}
    for each in calibrates.values():
        assert [name for name in each if each[name]] == [n for n in each if n in CALIBRATED]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_and_flags(shell):
    script = make_complete_app(CLASSES).generate_completion(shell=shell)
    assert all(text in script for text in ("excitations", "quantization", "label-smoothing"))
