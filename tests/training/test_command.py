"""`keras-senet train`: the flags are the recipe's fields."""

import argparse
import dataclasses
import re
import shlex

import pytest

from keras_senet import cli
from keras_senet.cli import train as command
from keras_senet.data import Augmentation
from keras_senet.training import RECIPES, Recipe

RUN = ["--recipe", "digits", "--workdir", "w"]


def parse(*flags):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args([*RUN, *flags])


def test_no_flags_are_the_named_recipe():
    assert command.recipe_of(parse()) is RECIPES["digits"]


def test_flags_change_fields():
    flags = shlex.split(
        "--epochs 5 --learning-rate 0.5 --milestones 1,2.5 --no-nesterov --flip --mixup 0.2 --se none"
    )
    recipe = command.recipe_of(parse(*flags))
    expected = RECIPES["digits"].override(
        epochs=5,
        learning_rate=0.5,
        milestones=(1.0, 2.5),
        nesterov=False,
        flip=True,
        mixup=0.2,
        se="none",
    )
    assert recipe == expected
    assert recipe.result == "not run"


@pytest.mark.parametrize("cls", [Recipe, Augmentation])
def test_every_field_is_a_flag_with_its_meaning(cls):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    help_text, meanings = parser.format_help(), command.meanings(cls)
    for field in dataclasses.fields(cls):
        if field.name not in command.NOT_FLAGS:
            assert "--" + field.name.replace("_", "-") in help_text
            assert len(meanings[field.name]) > 10


def test_it_trains_and_continues(tmp_path, capsys):
    flags = [
        "train",
        "--recipe",
        "digits",
        "--workdir",
        str(tmp_path / "run"),
        "--batch-size",
        "16",
        "--epochs",
        "1",
    ]
    assert cli.main([*flags, "--max-steps", "3", "--quiet"]) == 0
    assert "stopped before the end of an epoch" in capsys.readouterr().out
    assert cli.main(flags) == 0
    assert "SEResNet20 on digits" in capsys.readouterr().out
    assert (tmp_path / "run" / "curves.png").exists()
    assert cli.main([*flags, "--engine", "fit"]) == 2
    assert "engine is 'trainer' there, 'fit' here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--recipe", "resnet"], "--recipe must be one of digits, .*--recipe resnet"),
        (["--epochs", "0"], "epochs=0"),
        (["--batch-size", "81"], "batch_size=81"),
        (["--max-steps", "0"], "--max-steps must be at least 1.*--max-steps 0"),
        (["--keep", "0"], "--keep must be at least 1"),
        (["--checkpoint-minutes", "nan"], "--checkpoint-minutes must be at least 0"),
        (["--dataset", "/nowhere/at/all"], "/nowhere/at/all"),
        (["--se", "reduction=a"], "reduction"),
    ],
    ids=str,
)
def test_bad_flags_are_one_line(tmp_path, capsys, flags, message):
    assert cli.main(["train", *RUN[:2], "--workdir", str(tmp_path / "w"), *flags]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error), error
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    "flags",
    [["--epochs", "x"], ["--milestones", "1,b"], ["--engine", "jit"], ["--no-such"]],
    ids=str,
)
def test_flags_that_cannot_be_read_exit_with_2(capsys, flags):
    with pytest.raises(SystemExit) as raised:
        cli.main(["train", *RUN, *flags])
    assert raised.value.code == 2
    assert flags[-1] in capsys.readouterr().err
