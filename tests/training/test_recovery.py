"""Runs go on to the last bit after what kills, power cuts, full disks and people do to a work
directory, or refuse.
"""

import json
import re
import shlex
import shutil

import keras
import little
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
from eager import run_eagerly
from runs import ONE_EPOCH

from keras_senet import cli
from keras_senet.runs.history import Segment, recipe_at
from keras_senet.runs.workdir import WorkDir
from keras_senet.training import RECIPES, Recipe, Trainer
from keras_senet.training.checkpoints import Checkpoints, has_checkpoint, list_steps
from keras_senet.training.fit import FitTrainer
from keras_senet.training.tensor_file import DamagedTensorsError, read_tensors, write_tensors

RECIPE = Recipe(epochs=2, batch_size=16)


# --- checkpoints, of one variable


def saved(folder, steps=(1, 2, 3), **options):
    """Checkpoints whose variable is the number of the step."""
    value = keras.Variable(np.zeros(1000), name="value")
    found = Checkpoints(
        folder, **{"keep": 5, "every_steps": 0, "every_minutes": 0} | options, values=[value]
    )
    for step in steps:
        value.assign(np.full(1000, step))
        found.save(step, {"loss": 10.0 * step, "correct": 100.0 * step})
    return found, value


def saved_by_tensorflow(folder, steps=(1, 2, 3)):
    """The same by an earlier version."""
    value = keras.Variable(np.zeros(1000), name="value")
    state = {name: tf.Variable(0.0, dtype=tf.float64) for name in ("step", "loss", "correct")}
    checkpoint = tf.train.Checkpoint(values=[value], state=state)
    manager = tf.train.CheckpointManager(checkpoint, str(folder), max_to_keep=5)
    for step in steps:
        value.assign(np.full(1000, step))
        for factor, variable in zip((1, 10, 100), state.values(), strict=True):
            variable.assign(factor * step)
        manager.save(checkpoint_number=step)


def opened(folder, **options):
    return saved(folder, (), **options)


def sums(step):
    return {"loss": 10.0 * step, "correct": 100.0 * step}


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
WRITERS = {
    "safetensors": saved,
    "index": saved_by_tensorflow,
    "data-00000-of-00001": saved_by_tensorflow,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("ending", WRITERS)
def test_of_damaged_checkpoints_the_newest_whole_one_is_taken(tmp_path, ending, damage):
    WRITERS[ending](tmp_path)
    DAMAGES[damage](tmp_path / f"ckpt-3.{ending}")
    found, value = opened(tmp_path)
    assert found.restore() == (2, sums(2))
    np.testing.assert_array_equal(value, np.full(1000, 2))
    if (ending, damage) != ("safetensors", "gone"):  # then nothing tells that it was there
        (note,) = found.notes(2)
        assert re.search(r"ckpt-3' is damaged \(.+\); continuing from step 2$", note), note
    found.set_aside()
    assert found.latest == str(tmp_path / "ckpt-2")
    assert bool(list(tmp_path.glob("damaged-ckpt-3.*"))) == bool(found.damaged)
    found.save(3, {"loss": 1.0, "correct": 2.0})
    again, _ = opened(tmp_path)
    assert again.restore() == (3, {"loss": 1.0, "correct": 2.0})
    assert again.damaged == {}


def test_any_bit_and_any_length_but_the_right_one_is_damage(tmp_path):
    """Of a small file, and what the library of the format reads of it."""
    path = tmp_path / "small.safetensors"
    arrays = {"a/b": np.arange(3, dtype="float32"), "n": np.array(7), "none": np.zeros((0, 2))}
    write_tensors(path, arrays, {"text": "x"})
    loaded = safetensors.numpy.load_file(path)
    content = path.read_bytes()
    assert loaded.keys() == arrays.keys()
    for found in (loaded, read_tensors(path)[0]):
        for name, value in arrays.items():
            np.testing.assert_array_equal(found[name], value)
            assert found[name].dtype == value.dtype
    changed = [content[:length] for length in range(len(content))]
    for place in range(len(content) * 8):
        wrong = bytearray(content)
        wrong[place // 8] ^= 1 << place % 8
        changed.append(bytes(wrong))
    for wrong in (*changed, content + b"\0"):
        path.write_bytes(wrong)
        with pytest.raises(DamagedTensorsError):
            read_tensors(path)


@pytest.mark.parametrize("write", [saved, saved_by_tensorflow])
def test_damaged_checkpoints_alone_are_refused_and_kept(tmp_path, write):
    write(tmp_path)
    for file in (*tmp_path.glob("*.data*"), *tmp_path.glob("*.safetensors")):
        cut(file)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"is damaged \(.+\); remove it to begin again"):
        opened(tmp_path)[0].restore()
    assert sorted(tmp_path.iterdir()) == before
    for file in before:
        file.unlink() if file.name.startswith("ckpt") else None
    if write is saved_by_tensorflow:  # its list has some
        with pytest.raises(ValueError, match="is damaged.*names no checkpoint"):
            opened(tmp_path)[0].restore()


@pytest.mark.parametrize(
    "content", [None, b"", b"<html>", b"\0" * 50, b'model_checkpoint_path: "ckpt-9"\n']
)
def test_checkpoints_of_tensorflow_are_found_without_its_list(tmp_path, content):
    saved_by_tensorflow(tmp_path)
    state = tmp_path / "checkpoint"
    state.unlink() if content is None else state.write_bytes(content)
    found, value = opened(tmp_path, keep=2)
    assert found.restore() == (3, sums(3))
    np.testing.assert_array_equal(value, np.full(1000, 3))
    found.save(4, {})
    assert list_steps(tmp_path) == [3, 4]
    found.save(5, {})
    assert {file.name for file in tmp_path.iterdir()} == {
        "ckpt-4.safetensors",
        "ckpt-5.safetensors",
    }


def test_an_interrupted_write_is_no_checkpoint(tmp_path):
    """TensorFlow's folder of parts is there until both files are; next to a whole checkpoint it is
    only old.
    """
    folder = tmp_path / "ckpt-4_temp"
    folder.mkdir()
    (folder / "part-00000-of-00001.data-00000-of-00001").write_bytes(b"half")
    (tmp_path / "ckpt-4.data-00000-of-00001").write_bytes(b"half")
    (tmp_path / ".partial-12345678-ckpt-5.safetensors").write_bytes(b"half")
    unfinished, _ = opened(tmp_path)
    assert unfinished.restore() == (0, {})
    assert not has_checkpoint(tmp_path)
    saved(tmp_path)
    assert has_checkpoint(tmp_path)
    found, _ = opened(tmp_path)
    assert found.restore()[0] == 3
    assert found.notes(3) == []
    found.set_aside()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"ckpt-{step}.safetensors" for step in (1, 2, 3)}


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    """Its recipe differs, or its variables; more epochs are the same run.

    Also where someone edited `recipe.json`: of an extended run what it follows after the restart.
    """
    changed = RECIPE.override(epochs=9, learning_rate=0.2)
    segments = [Segment(RECIPE), Segment(changed, 2, 2)]

    def followed(step):  # an epoch of 1.5 steps
        return recipe_at(segments, step / 1.5)

    saved(tmp_path, recipe_at=followed)
    assert opened(tmp_path, recipe_at=followed)[0].restore()[0] == 3
    longer = RECIPE.override(epochs=9)
    assert opened(tmp_path, recipe_at=lambda step: longer)[0].restore()[0] == 3
    for fields, said in (
        ({"learning_rate": 0.3}, "learning_rate is 0.1 there, 0.3 here"),
        ({"precision": "mixed_float16"}, "precision is 'float32' there, 'mixed_float16' here"),
        ({"model": "SEResNet32"}, "model is 'SEResNet20' there, 'SEResNet32' here"),
    ):
        with pytest.raises(ValueError, match=rf"ckpt-3' is of another run: {said}$"):
            opened(tmp_path, recipe_at=lambda _, f=fields: RECIPE.override(**f))[0].restore()
    saved(tmp_path, steps=(4,), recipe_at=followed)
    assert opened(tmp_path, recipe_at=followed)[0].restore()[0] == 4
    with pytest.raises(ValueError, match="learning_rate is 0.2 there, 0.1 here"):
        opened(tmp_path, recipe_at=lambda step: RECIPE)[0].restore()
    (tmp_path / "ckpt-4.safetensors").unlink()
    for other, said in (
        (keras.Variable(np.zeros(10), name="value"), "float64 [1000]' there, 'float64 [10]' here"),
        (keras.Variable(np.zeros(1000), name="other"), "values/other is None there"),
        (keras.Variable(np.zeros(1000), name="value", dtype="float16"), "float16 [1000]' here"),
    ):
        found = Checkpoints(tmp_path, keep=1, every_steps=0, every_minutes=0, values=[other])
        with pytest.raises(ValueError, match=re.escape(said)):
            found.restore()


# --- whole runs


def copy_run(source, target, keep_network=False):
    shutil.copytree(source, target)
    if not keep_network:
        for name in ("model.keras", "model.weights.h5"):
            (target / name).unlink()


def test_everything_at_once_is_recovered_to_the_last_bit(tmp_path, whole, capsys):
    """Continues from step 4, as later checkpoints are damaged."""
    damaged = tmp_path / "damaged"
    copy_run(whole.workdir.path, damaged)
    checkpoints = damaged / "checkpoints"
    cut(checkpoints / "ckpt-10.safetensors")
    DAMAGES["bit"](checkpoints / "ckpt-8.safetensors")
    DAMAGES["zeros"](checkpoints / "ckpt-6.safetensors")
    cut(checkpoints / "ckpt-5.safetensors")
    table = damaged / "metrics.csv"
    table.write_bytes(table.read_bytes()[:-10] + b"\0\0\0")
    continued = Trainer(little.RECIPE, damaged, verbose=False, keep=20)
    continued.train()
    said = capsys.readouterr().err
    damage = [step for step in (4, 5, 6, 8, 10) if f"ckpt-{step}' is damaged" in said]
    assert damage == [5, 6, 8, 10]
    assert said.count("continuing from step 4") == 4
    for value, expected in zip(
        continued.model.get_weights(), whole.model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(value, expected)
    assert table.read_bytes() == whole.workdir.metrics.path.read_bytes()
    assert (damaged / "model.keras").exists()


@run_eagerly()
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
    "name",
    ["checkpoints/ckpt-3.safetensors", "backup/latest.weights.h5", "metrics.csv", "model.keras"],
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
        ValueError, match=r"metrics\.csv' is damaged \(.+\); remove it, the run itself can go on"
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
        (
            "both",
            {"threads": 1, "onednn": True},
            [
                "the last bits may differ from the run's beginning: threads is 1 there, 2 here; "
                "instructions not recorded then"
            ],
        ),
        (
            "backend",  # of names that are its own nothing is said
            {"threads": 2, "backend": "jax", "jax": "0.7", "devices": ["cpu"]},
            [
                "the last bits may differ from the run's beginning: "
                "backend is 'jax' there, 'tensorflow' here"
            ],
        ),
    ):
        backend = {"backend": "tensorflow"} if "backend" in before else {}
        WorkDir(tmp_path / name, RECIPE, before)
        workdir = WorkDir(tmp_path / name, RECIPE, now | backend)
        assert workdir.notes == said
        assert json.loads((tmp_path / name / "recipe.json").read_text())["environment"] == before
