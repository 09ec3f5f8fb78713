"""`keras-senet train`: the flags are the recipe's fields, and a run is continued."""

import dataclasses
import json
import os
import re
import shlex
import signal
from types import SimpleNamespace

import little
import pytest
from eager import run_eagerly

from keras_senet import cli
from keras_senet.cli.flags import read_options
from keras_senet.cli.options import AblateOptions, TrainOptions
from keras_senet.cli.train import _errors
from keras_senet.fields import meanings
from keras_senet.recipes import RECIPES, Augmentation, Recipe
from keras_senet.recipes.recipe import NOT_FLAGS
from keras_senet.runs.workdir import WorkDir
from keras_senet.se import SE
from keras_senet.training.progress import Progress

RUN = ["--recipe", "digits", "--workdir", "w"]
DIGITS = RECIPES["digits"]


@pytest.fixture(autouse=True)
def little_data_and_network(monkeypatch):
    little.put_in_place(monkeypatch.setitem, monkeypatch.setattr)
    little.skip_drawing(monkeypatch)
    with little.graphs_as_traced():
        yield


def recipe_of(flags):
    return read_options("train", TrainOptions, [*RUN, *shlex.split(flags)]).recipe


def test_no_flags_are_the_named_recipe():
    assert recipe_of("") is DIGITS


def test_flags_change_fields():
    recipe = recipe_of(
        "--epochs 5 --learning-rate 0.5 --milestones 1 2.5 --no-nesterov --flip --mixup=0.2"
    )
    fields = {"epochs": 5, "learning_rate": 0.5, "milestones": (1.0, 2.5)}
    assert recipe == DIGITS.override(**fields, nesterov=False, flip=True, mixup=0.2)
    assert recipe.result == "not run"


@pytest.mark.parametrize("flags", ["1,2.5", "1, 2.5", "1 2.5", "1 --milestones 2.5"])
def test_numbers_are_separate_or_joined_by_commas(flags):
    assert recipe_of(f"--epochs 5 --milestones {flags}").milestones == (1.0, 2.5)


@pytest.mark.parametrize(
    ("flags", "se"),
    [
        ("", SE(use_bias=False)),
        ("--se none", None),
        ("--se default", SE()),
        ("--se.reduction 8", SE(8, use_bias=False)),
        ("--se default --se.reduction 8", SE(8)),
        ("--se.squeeze none --se.gate tanh", SE(squeeze=None, gate="tanh", use_bias=False)),
        ("--se.use-bias --se.position pre", SE(position="pre")),
        ("--se.stages 2 3 --se.use-bias", SE(stages=(2, 3))),
    ],
)
def test_se_blocks_are_those_of_the_recipe_with_some_fields_changed(flags, se):
    assert recipe_of(f"--recipe imagenet-ablation {flags}").se == se


@pytest.mark.parametrize("cls", [Recipe, Augmentation, SE])
def test_every_field_is_a_flag_with_its_meaning(cls, capsys):
    assert cli.main(["train", "--help"]) == 0
    printed = capsys.readouterr().out
    prefix = "--se." if cls is SE else "--"
    for field in dataclasses.fields(cls):
        if field.name not in NOT_FLAGS:
            assert prefix + field.name.replace("_", "-") in printed
            assert len(meanings(cls)[field.name].text) > 10


def test_help_has_topics_choices_and_the_values_of_a_named_recipe(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    cli.main(["train", "--recipe", "senet154", "--help"])
    printed = capsys.readouterr().out
    topics = ("Run", "Network", "Images", "Steps", "Optimizer", "Regularisation", "Augmentation")
    places = [printed.index(f" {topic} ─") for topic in topics]
    assert places == sorted(places)
    assert "[choices: sgd, adamw, lamb]" in printed
    assert re.search(r"--learning-rate .*\[default: 1\.0\]", printed)


@run_eagerly()
def test_it_trains_and_continues_with_the_recipe_that_it_began_with(tmp_path, capsys):
    """One run in parts, as commands are given."""
    workdir = ["--workdir", str(tmp_path / "run")]
    flags = ["train", "--recipe", "digits", *workdir, "--batch-size", "16", "--epochs", "1"]
    assert cli.main([*flags, "--max-steps", "3", "--quiet"]) == 0
    assert "stopped before the end of an epoch" in capsys.readouterr().out
    for other, named in (
        (["--se", "none"], "se is SE(reduction=16"),
        (["--engine", "fit"], "engine is 'trainer' there, 'fit' here"),
    ):
        assert cli.main(["train", *workdir, *other]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert named in line
    assert cli.main(["train", *workdir, "--batch-size", "16"]) == 0
    assert "SEResNet20 on digits" in capsys.readouterr().out
    assert (tmp_path / "run" / "curves.png").exists()


def test_a_run_of_keras_fit_is_continued_by_it(tmp_path, capsys):
    (tmp_path / "recipe.json").write_text(
        json.dumps({"recipe": dataclasses.asdict(DIGITS), "engine": "fit"})
    )
    assert cli.main(["train", "--workdir", str(tmp_path), "--engine", "trainer"]) == 2
    assert "engine is 'fit' there, 'trainer' here" in capsys.readouterr().err
    assert read_options("train", TrainOptions, ["--workdir", str(tmp_path)]).engine is None


@pytest.mark.parametrize(
    ("written", "se"),
    [("default", SE()), ("none", None), ("reduction=8,gate=tanh", SE(8, "avg", "tanh"))],
)
def test_a_run_that_an_earlier_version_began_is_continued(tmp_path, written, se):
    """Its recipe.json has SE blocks as a text."""
    recipe = dataclasses.asdict(DIGITS) | {"se": written}
    (tmp_path / "recipe.json").write_text(json.dumps({"recipe": recipe}))
    same = read_options("train", TrainOptions, ["--workdir", str(tmp_path)]).recipe
    assert same == DIGITS.override(se=se)
    WorkDir(tmp_path, same, {})
    other = read_options("train", TrainOptions, ["--workdir", str(tmp_path), "--se.reduction", "4"])
    with pytest.raises(ValueError, match="another recipe: se is "):
        WorkDir(tmp_path, other.recipe, {})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--recipe", "digit"], '"digit" for --recipe.*"cifar10".*Did you mean "digits"'),
        (["--epochs", "0"], "--epochs must be from 1 to 1000000. Received: --epochs 0"),
        (["--batch-size", "81"], "--batch-size must be .* images, 80. Received: --batch-size 81"),
        (["--milestones", "2", "1"], "--milestones must be rising.*: --milestones 2.0 1.0$"),
        (["--se.reduction", "0"], "--se.reduction must be .*Received: --se.reduction 0"),
        (["--warmup-epochs", "99"], "--warmup-epochs must be .*--epochs 14.*warmup-epochs 99.0"),
        (["--sync-bn", "--accumulation", "2"], "--accumulation must be 1 with --sync-bn"),
        (["--restart"], "--restart is for a run with fewer epochs.*Received: --restart$"),
        (["--max-steps", "0"], "--max-steps must be at least 1.*--max-steps 0"),
        (["--keep", "0"], "--keep must be at least 1"),
        (["--checkpoint-minutes", "nan"], "--checkpoint-minutes must be at least 0"),
        (["--dataset", "/nowhere/at/all"], "/nowhere/at/all"),
        (["--se.reduction", "a"], "--se.reduction"),
        (["--se", "none", "--se.gate", "tanh"], "--se none.*--se.gate"),
        (["--epochs", "x"], "--epochs: must be a whole number. Received: x"),
        (["--epochs", "1.5"], "--epochs: must be a whole number. Received: 1.5"),
        (["--milestones", "1,b"], "--milestones: must be numbers. Received: 1 b"),
        (["--depths", "1", "1.5", "1"], "--depths: must be whole numbers. Received: 1 1.5 1"),
        (["--engine", "none"], '"none" for --engine. Choose from: "trainer", "fit"'),
        (["--recipe", "none"], '"none" for --recipe'),
        (["--engine", "jit"], '"jit" for --engine. Choose from: "trainer", "fit"'),
        (["--epoch", "3"], "--epoch. Did you mean --epochs"),
        (["--flip=3"], '"3" into bool'),
        (["three"], "no place for 'three'"),
    ],
    ids=str,
)
def test_bad_flags_are_one_line(tmp_path, capsys, flags, message):
    assert cli.main(["train", *RUN[:2], "--workdir", str(tmp_path / "w"), *flags]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error), error
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("content", [None, "{"])
def test_a_recipe_that_is_gone_or_damaged_is_to_be_restored(tmp_path, capsys, content):
    (tmp_path / "checkpoints").mkdir()
    about = {"recipe": dataclasses.asdict(DIGITS.override(batch_size=16))}
    (tmp_path / "checkpoints" / "recipe.json").write_text(json.dumps(about))
    if content:
        (tmp_path / "recipe.json").write_text(content)
    assert cli.main(["train", "--workdir", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"restore it with `cp {tmp_path}/checkpoints/recipe.json" in line


def test_an_ablation_has_the_recipe_of_its_runs(tmp_path):
    folder = tmp_path / "se" / "seed0"
    folder.mkdir(parents=True)
    recipe = DIGITS.override(batch_size=16)
    (folder / "recipe.json").write_text(json.dumps({"recipe": dataclasses.asdict(recipe)}))
    assert (
        read_options("ablate", AblateOptions, ["--workdir", str(tmp_path), "--table"]).recipe
        == recipe
    )
    with pytest.raises(ValueError, match="holds no run to continue"):
        read_options("train", TrainOptions, ["--workdir", str(tmp_path)])


def test_an_ablation_has_not_the_recipe_of_another_run(tmp_path):
    (tmp_path / "recipe.json").write_text(json.dumps({"recipe": dataclasses.asdict(DIGITS)}))
    with pytest.raises(ValueError, match="holds no run to continue"):
        read_options("ablate", AblateOptions, ["--workdir", str(tmp_path)])


def test_a_damaged_run_does_not_keep_help_from_being_printed(tmp_path, capsys):
    (tmp_path / "recipe.json").write_text("{")
    assert cli.main(["train", "--workdir", str(tmp_path), "--help"]) == 0
    assert capsys.readouterr().out.startswith("Usage: keras-senet train ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "--dataset or --recipe must be given.*one of digits, .*Received: --workdir"),
        ("{", "recipe.json' is damaged"),
        ("[" * 100_000, "recipe.json' is damaged"),
    ],
)
def test_without_a_recipe_the_folder_must_hold_a_run(tmp_path, capsys, content, message):
    if content:
        (tmp_path / "recipe.json").write_text(content)
    assert cli.main(["train", "--workdir", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line), line


# --- a run and what comes after it


@pytest.fixture
def train(capsys, monkeypatch):
    """Trains in this process; returns (status, lines of the output, lines of the error stream)."""

    def train(*flags):
        status = cli.main(["train", *map(str, flags)])
        printed = capsys.readouterr()
        return status, printed.out.splitlines(), printed.err.splitlines()

    return train


@run_eagerly()
def test_a_run_tells_what_to_do_next_and_is_extended(tmp_path, train):
    """A run in a folder whose name a shell must have quoted, extended, and asked for again."""
    folder = tmp_path / "my run"
    quoted = shlex.quote(str(folder))
    flags = ["--recipe", "digits", "--batch-size", 16, "--warmup-epochs", 0, "--epochs", 1]
    status, out, _ = train(*flags, "--workdir", folder, "--max-steps", 2)
    assert (status, out[-1]) == (0, f"to continue: keras-senet train --workdir {quoted}")
    status, out, _ = train("--workdir", folder)
    assert status == 0
    commands = out[-1].removeprefix("next: ").split("; ")
    assert [shlex.split(each) for each in commands] == [
        ["keras-senet", "predict", "IMAGE.jpg", "--workdir", str(folder)],
        ["keras-senet", "report", str(folder)],
        ["keras-senet", "export", str(folder)],
    ]
    status, out, _ = train("--workdir", folder)
    extend = f"to extend it: keras-senet train --workdir {quoted} --epochs 2"
    assert any("had all of its 1 epochs before; " + extend in line for line in out)
    status, out, err = train(*shlex.split(extend)[5:], "--restart", "--quiet")
    assert status == 0
    assert out[-1].endswith(f"results in {folder}/")
    assert err[0] == "extended from 1 to 2 epochs"
    assert "2 epochs before" in "".join(train("--workdir", folder, "--epochs", 2, "--restart")[1])
    status, _, err = train("--workdir", folder, "--epochs", 1)
    assert (status, len(err)) == (2, 1)
    assert "a run can have more epochs than it had, not fewer" in err[0]


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)], ids=str
)
@run_eagerly()
def test_a_run_that_is_interrupted_says_how_to_continue(
    tmp_path, capsys, monkeypatch, number, status
):
    """Its own command, with what it was given, on the error stream."""
    monkeypatch.setattr(Progress, "advance", lambda *_: os.kill(os.getpid(), number))
    flags = ["train", "--recipe=digits", "--batch-size", "16", "--workdir", str(tmp_path / "a b")]
    for more, count in (([], 2), (["--quiet"], 1)):
        try:
            ended = cli.main([*flags, *more])
        except SystemExit as error:
            ended = error.code
        printed = capsys.readouterr()
        assert ended == status
        lines = printed.err.splitlines()
        assert len(lines) == count
        if not more:
            (line,) = [each for each in lines if each.startswith("to continue: ")]
            assert shlex.split(line)[2:] == ["keras-senet", *flags]


def test_a_rate_is_found_and_the_command_that_uses_it(tmp_path, train):
    status, out, err = train(*RUN[:2], "--batch-size", 16, "--find-rate", "--workdir", tmp_path)
    assert status == 0, err
    assert {path.name for path in tmp_path.iterdir()} == {"rates.csv", "rates.png"}
    command = shlex.split(out[-1])
    assert command[:4] == ["to", "use", "it:", "keras-senet"]
    assert "--find-rate" not in command
    options = read_options("train", TrainOptions, command[5:])
    assert f"learning rate {options.recipe.learning_rate:.2g}:" in out[-2]
    assert options.recipe.batch_size == 16


@run_eagerly()
def test_what_was_chosen_is_said_and_recorded(tmp_path, train):
    flags = ["--dataset", "digits", "--workdir", tmp_path, "--batch-size", 16, "--max-steps", 1]
    _, out, _ = train(*flags)
    assert out[0] == "recipe: digits, the protocol of digits; SEResNet20 on digits"
    about = json.loads((tmp_path / "recipe.json").read_text())
    assert about["recipe"]["chosen"] == "digits, the protocol of digits"
    _, out, _ = train(*flags)  # which continues it
    assert not any(line.startswith("recipe:") for line in out)


def test_the_best_epoch_is_named_where_it_is_not_the_last():
    rows = [{"epoch": i, "val_accuracy": each} for i, each in enumerate((0.5, 0.75, 0.625), 1)]
    metrics = SimpleNamespace(read=lambda: rows)
    trainer = SimpleNamespace(split="val", final_set=None, workdir=SimpleNamespace(metrics=metrics))
    told = "37.50% validation error; best.weights.h5: 25.00%, epoch 2"
    assert _errors(trainer, rows[-1]) == told
    rows.pop()
    assert _errors(trainer, rows[-1]) == "25.00% validation error"
