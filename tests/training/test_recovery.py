"""Runs go on to the last bit after what kills, power cuts, full disks and people do to a work
directory, or refuse.
"""

import json
import re
import shlex
import shutil

import little
import numpy as np
import pytest
import tensorflow as tf
from runs import ONE_EPOCH

from keras_senet import cli
from keras_senet.runs.workdir import WorkDir
from keras_senet.training import RECIPES, Recipe, Trainer
from keras_senet.training.checkpoints import Checkpoints
from keras_senet.training.fit import FitTrainer

RECIPE = Recipe(epochs=2, batch_size=16)


# --- checkpoints, of one variable


def saved(folder, steps=(1, 2, 3), **options):
    """Checkpoints whose variable is the number of the step."""
    value = tf.Variable(np.zeros(1000))
    found = Checkpoints(
        folder, **{"keep": 5, "every_steps": 0, "every_minutes": 0} | options, value=value
    )
    for step in steps:
        value.assign(np.full(1000, step))
        found.save(step, 10.0 * step, 100.0 * step)
    return found, value


def opened(folder, **options):
    return saved(folder, (), **options)


def cut(file):
    file.write_bytes(file.read_bytes()[:-1])


def flip_a_bit(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGES = {
    "cut": cut,
    "half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "empty": lambda file: file.write_bytes(b""),
    "zeros": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "bit": flip_a_bit,
    "gone": lambda file: file.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("ending", ["index", "data-00000-of-00001"])
def test_of_damaged_checkpoints_the_newest_whole_one_is_taken(tmp_path, ending, damage):
    saved(tmp_path)
    damage(tmp_path / f"ckpt-3.{ending}")
    found, value = opened(tmp_path)
    assert found.restore() == (2, 20.0, 200.0)
    np.testing.assert_array_equal(value, np.full(1000, 2))
    (note,) = found.notes(2)
    assert re.search(r"ckpt-3' is damaged \(.+\); continuing from step 2$", note), note
    found.set_aside()
    assert found.latest == str(tmp_path / "ckpt-2")
    assert list(tmp_path.glob("damaged-ckpt-3.*"))
    found.save(3, 1.0, 2.0)
    again, _ = opened(tmp_path)
    assert again.restore() == (3, 1.0, 2.0)
    assert again.damaged == {}


def test_damaged_checkpoints_alone_are_refused_and_kept(tmp_path):
    saved(tmp_path)
    for file in tmp_path.glob("*.data*"):
        cut(file)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"is damaged \(.+\); remove it to begin again"):
        opened(tmp_path)[0].restore()
    assert sorted(tmp_path.iterdir()) == before
    for file in before:
        file.unlink() if file.name.startswith("ckpt") else None
    with pytest.raises(
        ValueError, match="is damaged.*names no checkpoint"
    ):  # the list of TensorFlow's has some
        opened(tmp_path)[0].restore()


@pytest.mark.parametrize(
    "content", [None, b"", b"<html>", b"\0" * 50, b'model_checkpoint_path: "ckpt-9"\n']
)
def test_checkpoints_are_found_without_tensorflows_list(tmp_path, content):
    saved(tmp_path, keep=2)
    state = tmp_path / "checkpoint"
    assert tf.train.latest_checkpoint(tmp_path) == str(tmp_path / "ckpt-3")
    state.unlink() if content is None else state.write_bytes(content)
    found, _ = opened(tmp_path, keep=2)
    assert found.restore()[0] == 3
    found.save(4, 0.0, 0.0)
    assert sorted(file.stem for file in tmp_path.glob("*.index")) == ["ckpt-3", "ckpt-4"]
    assert tf.train.latest_checkpoint(tmp_path) == str(tmp_path / "ckpt-4")


def test_what_tensorflows_manager_saved_is_restored(tmp_path):
    """As this package did before it looked for the files itself."""
    found, value = opened(tmp_path)
    value.assign(np.full(1000, 7))
    found.state["step"].assign(7)
    whole = tf.train.Checkpoint(value=value, state=found.state)
    tf.train.CheckpointManager(whole, str(tmp_path), max_to_keep=2).save(checkpoint_number=7)
    again, restored = opened(tmp_path)
    assert again.restore() == (7, 0.0, 0.0)
    np.testing.assert_array_equal(restored, value)


def test_an_interrupted_write_is_no_checkpoint(tmp_path):
    """TensorFlow's folder of parts is there until both files are; next to a whole checkpoint it is
    only old.
    """
    folder = tmp_path / "ckpt-4_temp"
    folder.mkdir()
    (folder / "part-00000-of-00001.data-00000-of-00001").write_bytes(b"half")
    (tmp_path / "ckpt-4.data-00000-of-00001").write_bytes(b"half")
    unfinished, _ = opened(tmp_path)
    assert unfinished.restore() == (0, 0.0, 0.0)
    saved(tmp_path)
    found, _ = opened(tmp_path)
    assert found.restore()[0] == 3
    assert found.notes(3) == []
    (tmp_path / "ckpt-3_temp").mkdir()
    assert opened(tmp_path)[0].restore()[0] == 3
    found.set_aside()
    assert {path.name.partition(".")[0] for path in tmp_path.iterdir()} == {
        "checkpoint",
        "ckpt-1",
        "ckpt-2",
        "ckpt-3",
    }


# --- whole runs


def copy_run(source, target, keep_network=False):
    shutil.copytree(source, target)
    if not keep_network:
        for name in ("model.keras", "model.weights.h5"):
            (target / name).unlink()


@pytest.fixture
def whole(tmp_path):
    """A run with a checkpoint of each step."""
    trainer = Trainer(RECIPE, tmp_path / "whole", verbose=False, checkpoint_steps=1, keep=20)
    trainer.train()
    return trainer


def test_everything_at_once_is_recovered_to_the_last_bit(tmp_path, whole, capsys):
    """Two whole trainings: over 5 s on a slow machine. Continues from step 7, as later checkpoints
    are damaged.
    """
    damaged = tmp_path / "damaged"
    copy_run(whole.workdir.path, damaged)
    checkpoints = damaged / "checkpoints"
    cut(checkpoints / "ckpt-10.data-00000-of-00001")
    (checkpoints / "ckpt-9.index").unlink()
    DAMAGES["zeros"](checkpoints / "ckpt-8.index")
    (checkpoints / "checkpoint").unlink()
    table = damaged / "metrics.csv"
    table.write_bytes(table.read_bytes()[:-10] + b"\0\0\0")
    continued = Trainer(RECIPE, damaged, verbose=False, keep=20)
    continued.train()
    said = capsys.readouterr().err
    assert [f"ckpt-{step}' is damaged" in said for step in (7, 8, 9, 10)] == [
        False,
        True,
        True,
        True,
    ]
    assert said.count("continuing from step 7") == 3
    for value, expected in zip(
        continued.model.get_weights(), whole.model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(value, expected)
    assert table.read_bytes() == whole.workdir.metrics.path.read_bytes()
    assert (damaged / "model.keras").exists()


def test_a_run_without_its_recipe_is_refused(tmp_path, capsys):
    """Also by another recipe; the copy beside the checkpoints restores it, by the command that is
    named.
    """
    run = tmp_path / "a run"
    flags = ["train", *ONE_EPOCH]
    flags += ["--workdir", str(run)]
    assert cli.main([*flags, "--max-steps", "2"]) == 0
    recipe = (run / "recipe.json").read_bytes()
    (run / "recipe.json").unlink()
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    for other in ([], ["--seed", "1"]):
        capsys.readouterr()
        assert cli.main([*flags, *other]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert re.search(
            r"holds a run \(checkpoints, model\.keras\) whose recipe\.json is missing; restore",
            error,
        )
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before
    copy, source, target = shlex.split(error.partition("`")[2].partition("`")[0])
    assert copy == "cp"
    shutil.copy(source, target)
    assert (run / "recipe.json").read_bytes() == recipe
    assert (
        WorkDir(
            run, RECIPES["digits"].override(epochs=1, batch_size=16, warmup_epochs=0.0), {}
        ).path
        == run
    )


def test_a_run_of_an_earlier_version_learns_its_classes(tmp_path):
    WorkDir(tmp_path, RECIPE, {})
    content = json.loads((tmp_path / "recipe.json").read_text())
    del content["class_names"]
    (tmp_path / "recipe.json").write_text(json.dumps(content))
    WorkDir(tmp_path, RECIPE, {}, class_names=("cat", "dog"))
    again = json.loads((tmp_path / "recipe.json").read_text())
    assert again == content | {"class_names": ["cat", "dog"]}


def test_a_damaged_recipe_can_be_restored(tmp_path):
    WorkDir(tmp_path, RECIPE, {}).begin_at(0)
    cut(tmp_path / "recipe.json")
    cut(tmp_path / "recipe.json")
    with pytest.raises(
        ValueError,
        match=r"recipe\.json' is damaged \(.+\); restore it with `cp .*checkpoints/recipe",
    ):
        WorkDir(tmp_path, RECIPE, {})


@pytest.mark.parametrize(
    "name", ["checkpoints/ckpt-3.index", "backup/latest.weights.h5", "metrics.csv", "model.keras"]
)
def test_what_a_run_left_is_not_taken_for_a_new_one(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("")
    with pytest.raises(
        ValueError, match=r"holds a run \(.+\) whose recipe\.json is missing; put its own one back"
    ):
        WorkDir(tmp_path, RECIPE, {})
    assert not (tmp_path / "recipe.json").exists()


def test_a_folder_with_other_files_can_be_a_work_directory(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "checkpoints").mkdir()
    WorkDir(tmp_path, RECIPE, {})
    assert (tmp_path / "recipe.json").exists()


def another_epoch(weights):
    """As when a kill comes between the writes of both files of a backup."""
    weights.with_name("training_metadata.json").write_text('{"epoch": 1, "batch": 0}')


def test_keras_loop_goes_on_from_the_older_backup(tmp_path, fitted, capsys):
    """Trains a run once more from its middle: over 5 s on a slow machine."""
    expected, table = fitted.model.get_weights(), fitted.workdir.metrics.path.read_bytes()
    shutil.copytree(fitted.workdir.path, tmp_path, dirs_exist_ok=True)
    backup, kept = tmp_path / "backup", fitted.workdir.path / "backup"
    continued = FitTrainer(little.FITTED, tmp_path, verbose=False)
    for damage in (
        DAMAGES["half"],
        DAMAGES["empty"],
        DAMAGES["zeros"],
        DAMAGES["gone"],
        another_epoch,
    ):
        shutil.copytree(kept, backup, dirs_exist_ok=True)
        damage(backup / "latest.weights.h5")
        epoch, (note,) = continued._restore()
        assert epoch == 1
        assert re.search(
            r"newest backup in .* is damaged \(.+\); continuing from epoch 1$", note
        ), note
        assert int(continued.model.optimizer.iterations) == 5
    shutil.copytree(kept, backup, dirs_exist_ok=True)
    cut(backup / "latest.weights.h5")
    continued.train()
    assert "is damaged" in capsys.readouterr().err
    for value, weights in zip(continued.model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(value, weights)
    assert (tmp_path / "metrics.csv").read_bytes() == table


def test_keras_loop_refuses_damaged_backups(tmp_path):
    trainer = FitTrainer(RECIPE, tmp_path, verbose=False)
    for name in ("latest.weights.h5", "training_metadata.json.bkp"):  # each without the others
        (tmp_path / "backup").mkdir()
        (tmp_path / "backup" / name).write_text("{}")
        with pytest.raises(ValueError, match="backup' is damaged.*remove it to begin again"):
            trainer.train()
        shutil.rmtree(tmp_path / "backup")


# --- the table


@pytest.fixture
def table(tmp_path):
    """A work directory with the metrics of two epochs."""
    workdir = WorkDir(tmp_path / "run", RECIPE, {})
    for row in ROWS:
        workdir.metrics.append(row)
    return workdir


ROWS = [
    {"step": 5, "epoch": 1, "loss": 2.25, "test_accuracy": 0.5432},
    {"step": 10, "epoch": 2, "loss": 1.125, "test_accuracy": 0.625},
]


def test_a_table_cut_anywhere_has_only_whole_rows(table):
    """At each byte: part of a number is another number."""
    content = table.metrics.path.read_bytes()
    ends = [at + 1 for at, byte in enumerate(content) if byte == ord("\n")]
    for length in range(len(content) + 1):
        whole = max(sum(end <= length for end in ends) - 1, 0)
        for tail in (b"", b"\0\0\0\0"):
            table.metrics.path.write_bytes(content[:length] + tail)
            assert table.metrics.read() == ROWS[:whole], (length, tail)
    table.metrics.path.write_bytes(content[: ends[1] + 9] + b"\0")
    table.begin_at(5)
    table.metrics.append(ROWS[1])
    assert table.metrics.path.read_bytes() == content


def test_rows_after_the_checkpoint_are_dropped(table):
    table.begin_at(7)
    assert table.metrics.read() == ROWS[:1]
    table.begin_at(0)
    assert not table.metrics.path.exists()


@pytest.mark.parametrize(
    "content",
    [
        "stp,epoch,loss\n5,1,2.0\n",
        "<html>\n",
        "5,1,2.25\n",
        "step,epoch,loss\n5,1\n10,2,1.0\n",
        "step,epoch,loss\n5,1,2.0,3.0\n",
        "step,epoch,loss\n5,1,\0\0\n10,2,1.0\n",
        "step,epoch,loss\n5,1,\xe9\n",
    ],
)
def test_a_table_that_is_damaged_otherwise_is_refused(table, content):
    table.metrics.path.write_bytes(content.encode("latin-1"))
    with pytest.raises(
        ValueError, match=r"metrics\.csv' is damaged: .+; remove it, the run itself can go on"
    ):
        table.begin_at(5)
    assert table.metrics.path.read_bytes() == content.encode("latin-1")


# --- the environment


def test_another_environment_is_told_and_an_unknown_one_too(tmp_path):
    now = {"threads": 2, "onednn": True, "instructions": "x86_64 avx2"}
    for name, before, said in (
        ("same", now, []),
        (
            "onednn",
            now | {"onednn": False},
            ["the last bits may differ from the run's beginning: onednn is False there, True here"],
        ),
        (
            "cpu",
            now | {"instructions": "x86_64"},
            [
                "the last bits may differ from the run's beginning: "
                "instructions is 'x86_64' there, 'x86_64 avx2' here"
            ],
        ),
        (
            "old",
            {"threads": 2},
            [
                "the last bits may differ from the run's beginning: "
                "instructions, onednn not recorded then"
            ],
        ),
    ):
        WorkDir(tmp_path / name, RECIPE, before)
        workdir = WorkDir(tmp_path / name, RECIPE, now)
        assert workdir.notes == said
        assert json.loads((tmp_path / name / "recipe.json").read_text())["environment"] == before
