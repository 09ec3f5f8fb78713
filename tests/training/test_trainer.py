"""The engine trains, continues exactly, and refuses what it cannot do."""

import csv
import dataclasses
import json
import math
import os
import resource
import shutil
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from eager import run_eagerly
from little import RECIPE, assert_equal_weights, do_after, go_back, keep_after, train

from keras_senet import data
from keras_senet.preprocessing import Preprocessing
from keras_senet.runs.record import read_run
from keras_senet.runs.workdir import WorkDir
from keras_senet.se import SE
from keras_senet.training import Terminated, Trainer
from keras_senet.training.backends.tensorflow import make_strategy


def test_what_a_run_leaves(whole):
    folder = whole.workdir.path
    names = {
        "recipe.json",
        "metrics.csv",
        "checkpoints",
        "model.keras",
        "model.weights.h5",
        "best.weights.h5",
        "per_class.csv",
    }
    assert names | {"curves.png", "tensorboard"} == {p.name for p in folder.iterdir()}
    rows = whole.workdir.metrics.read()
    assert [(row["step"], row["epoch"]) for row in rows] == [(5, 1), (10, 2)]
    assert list(rows[0])[:2] == ["step", "epoch"]
    assert all(math.isfinite(value) for row in rows for value in row.values())
    assert json.loads((folder / "recipe.json").read_text())["recipe"] == json.loads(
        json.dumps(dataclasses.asdict(whole.recipe))
    )
    images = np.zeros((1, 8, 8, 3), "float32")
    loaded = keras.models.load_model(folder / "model.keras")
    np.testing.assert_array_equal(loaded(images), whole.model(images))
    assert_prediction_is_known(folder, loaded)
    assert any(file.stat().st_size > 100 for file in (folder / "tensorboard").iterdir())


def assert_prediction_is_known(folder, loaded):
    """What a photograph is to be prepared by, and what its classes are called."""
    assert json.loads((folder / "recipe.json").read_text())["class_names"] == list("0123456789")
    assert loaded.class_names == tuple("0123456789")
    assert loaded.preprocessing == Preprocessing.scaled(8)


def test_another_seed_gives_other_weights(tmp_path, whole):
    other = Trainer(RECIPE.override(seed=1), tmp_path, verbose=False)
    assert not np.array_equal(other.model.get_weights()[0], whole.untrained)


# Two trainings each, the second from what the first had on the disk at one step: by another trainer
# where a step is traced fast. That replicas stay frozen, too, is in test_phases.py.
@pytest.mark.parametrize(
    ("fields", "strategy"),
    [
        (
            {
                "ema": 0.9,
                "accumulation": 2,
                "clip_norm": 1.0,
                "optimizer": "adamw",
                "decoupled": True,
                "precision": "mixed_float16",
            },
            "none",
        ),
        ({"pipeline": "device", "frozen_bn_epochs": 1}, "none"),  # two graphs of the same images
        ({"sync_bn": True, "ema": 0.9}, "mirrored"),
    ],
    ids=str,
)
def test_a_killed_run_continues_to_the_same_weights(tmp_path, monkeypatch, fields, strategy):
    """Killed in the middle of the second epoch, one step after a checkpoint; each row of the
    metrics is there once.
    """
    recipe = RECIPE.override(**fields)
    with monkeypatch.context() as patch:
        keep_after(patch, 8, tmp_path / "whole", tmp_path / "killed")
        whole = train(tmp_path / "whole", recipe, strategy=strategy, checkpoint_steps=7)
    killed = WorkDir(tmp_path / "killed", recipe, {})
    assert [row["epoch"] for row in killed.metrics.read()] == [1]
    weights, metrics = whole.model.get_weights(), whole.workdir.metrics.read()
    if "pipeline" in fields:
        continued = train(tmp_path / "killed", recipe, strategy=strategy)
    else:
        go_back(continued := whole, tmp_path / "killed")
        continued.train()
    assert continued.began_at == 7
    for value, expected in zip(continued.model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(value, expected)
    assert continued.workdir.metrics.read() == metrics
    assert keras.config.dtype_policy().name == "float32"
    assert all(np.isfinite(w).all() for w in whole.model.get_weights())


def test_max_steps_and_signals_stop_and_more_go_on(tmp_path, monkeypatch, whole):
    """First after two steps, then, by SIGTERM and by SIGINT, after one more each; the end, in
    another process, is that of one run.
    """
    trainer = Trainer(RECIPE, tmp_path, verbose=False, max_steps=2)
    trainer.train()
    assert not np.array_equal(trainer.model.get_weights()[0], whole.model.get_weights()[0])
    trainer.last = trainer.steps
    assert stop(monkeypatch, trainer, signal.SIGTERM, Terminated).code == 75
    assert trainer.checkpoints.restore()[0] == 3
    stop(monkeypatch, trainer, signal.SIGINT, KeyboardInterrupt)
    continued = Trainer(RECIPE, tmp_path, verbose=False)
    assert continued.checkpoints.restore()[0] == 4
    continued.train()
    assert_equal_weights(continued, whole)
    assert continued.workdir.metrics.read() == whole.workdir.metrics.read()


def stop(monkeypatch, trainer, number, error):
    """The error that ends a training to which the signal comes after one step."""
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        do_after(patch, 1, lambda: os.kill(os.getpid(), number))
        with pytest.raises(error) as raised:
            trainer.train()
    assert signal.getsignal(number) == before
    return raised.value


def test_a_finished_run_is_not_trained_again(tmp_path):
    recipe = RECIPE.override(ema=0.9)
    whole = train(tmp_path, recipe)
    metrics = whole.workdir.metrics.read()
    again = train(tmp_path, recipe)
    assert_equal_weights(again, whole)
    assert again.workdir.metrics.read() == metrics


def test_as_many_checkpoints_are_kept_as_asked_for(whole):
    names = sorted(file.name for file in whole.workdir.checkpoints.glob("ckpt-*"))
    assert names == [f"ckpt-{step}.safetensors" for step in (10, 4, 5, 6, 8)]


def test_the_best_network_is_that_of_the_best_row(tmp_path):
    trainer = train(tmp_path, RECIPE.override(epochs=4, learning_rate=1.0))
    rows = trainer.workdir.metrics.read()
    best = max(rows, key=lambda row: row["test_accuracy"])
    trainer.model.load_weights(tmp_path / "best.weights.h5")
    test = trainer.test_set
    predicted = trainer.prediction_step(tf.constant(test.images)).numpy().argmax(axis=1)
    assert np.mean(predicted == test.labels) == pytest.approx(best["test_accuracy"])


@pytest.mark.parametrize(
    "precision", [pytest.param("mixed_float16", marks=pytest.mark.slow), "mixed_bfloat16"]
)
def test_mixed_precision_trains(tmp_path, whole, precision):
    trainer = train(tmp_path, RECIPE.override(precision=precision))
    assert keras.config.dtype_policy().name == "float32"
    assert all(np.isfinite(w).all() for w in trainer.model.get_weights())
    assert trainer.workdir.metrics.read()[-1]["loss"] == pytest.approx(
        whole.workdir.metrics.read()[-1]["loss"], rel=0.02
    )


def test_xla_trains_to_nearly_the_same_and_evaluations_are_as_often_as_asked_for(tmp_path, whole):
    """Over 5 s: XLA compiles for long."""
    compiled = train(tmp_path, RECIPE.override(xla=True), evaluate_epochs=0)
    rows = compiled.workdir.metrics.read()
    assert [math.isfinite(row["test_accuracy"]) for row in rows] == [False, True]
    for a, b in zip(whole.model.get_weights(), compiled.model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("fields", "step"),
    [
        ({"learning_rate": 1e30, "warmup_epochs": 0.0}, r"step \d+"),
        ({"weight_decay": 1e17}, "step 2"),
    ],
)
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, fields, step):
    train(tmp_path, RECIPE.override(**fields), max_steps=1) if step == "step 2" else None
    with pytest.raises(
        FloatingPointError,
        match=rf"(loss is (nan|inf)|not finite) at {step}, at a learning rate of.*checkpoint",
    ):
        train(tmp_path, RECIPE.override(**fields))
    checkpoints = sorted(file.name for file in (tmp_path / "checkpoints").glob("ckpt-*"))
    assert checkpoints == (["ckpt-1.safetensors"] if step == "step 2" else [])


def test_a_strategy_that_cannot_be(tmp_path):
    for recipe, options, message in (
        (RECIPE.override(xla=True), {"strategy": "mirrored"}, "2 replicas.*xla=True"),
        (
            RECIPE.override(batch_size=15, mixup=0.0),
            {"strategy": "mirrored"},
            "multiple of 2.*batch_size=15",
        ),
        (RECIPE.override(accumulation=3), {}, "multiple of 3.*batch_size=16"),
        (RECIPE, {"strategy": "tpu"}, "strategy='tpu'"),
    ):
        with pytest.raises(ValueError, match=message):
            Trainer(recipe, tmp_path / "work", verbose=False, **options)
    assert not (tmp_path / "work").exists()
    assert make_strategy("mirrored") is make_strategy("mirrored")


# --- corrupt images


class Spoilt(data.Dataset):
    """Two of its images have labels that are no class."""

    def fetch(self, indices):
        images, labels = super().fetch(indices)
        return images, np.where(np.isin(indices, (7, 33)), 10, labels)


@pytest.fixture
def spoilt(monkeypatch):
    load = data.load

    def spoil(name, split, data_dir=None, **options):
        good = load(name, split, data_dir, **options)
        return Spoilt(good.images, good.labels, good.class_names) if split == "train" else good

    monkeypatch.setattr(data, "load", spoil)


@run_eagerly()
def test_a_corrupt_image_is_named(tmp_path, spoilt):
    with pytest.raises(data.CorruptImageError, match=r"(7|33)\b.*label"):
        train(tmp_path)


def test_corrupt_images_are_left_out_and_listed(tmp_path, spoilt, monkeypatch):
    with monkeypatch.context() as patch:
        keep_after(patch, 7, tmp_path / "whole", tmp_path / "killed")
        whole = train(tmp_path / "whole", skip_corrupt=True, checkpoint_steps=3)
    with (tmp_path / "whole" / "skipped.csv").open(newline="") as file:
        assert [int(row["index"]) for row in csv.DictReader(file)] == [7, 33]
    assert_equal_weights(train(tmp_path / "killed", skip_corrupt=True), whole)


# --- work directories


def test_a_directory_of_another_recipe_is_refused(tmp_path):
    WorkDir(tmp_path, RECIPE, {})
    with pytest.raises(
        ValueError,
        match="epochs is 2 there, 3 here; flip is True there, False here; seed is 0 there",
    ):
        WorkDir(tmp_path, RECIPE.override(epochs=3, seed=4, flip=False), {})
    with pytest.raises(ValueError, match="engine is 'trainer' there, 'fit' here"):
        WorkDir(tmp_path, RECIPE, {}, engine="fit")
    WorkDir(tmp_path, dataclasses.replace(RECIPE, result="90%", source="elsewhere"), {})


@pytest.mark.parametrize(
    ("text", "se"),
    [("default", SE()), ("none", None), ("reduction=8,stages=2+3", SE(reduction=8, stages=(2, 3)))],
)
def test_a_directory_of_an_earlier_version_has_its_se_blocks_as_text(tmp_path, text, se):
    fields = dataclasses.asdict(RECIPE) | {"se": text}
    (tmp_path / "recipe.json").write_text(json.dumps({"recipe": fields, "environment": {}}))
    assert WorkDir(tmp_path, RECIPE.override(se=se), {}).notes == []
    with pytest.raises(ValueError, match="belongs to another recipe: se is"):
        WorkDir(tmp_path, RECIPE.override(se=SE(gate="tanh")), {})


def test_another_environment_is_told(tmp_path):
    assert WorkDir(tmp_path, RECIPE, {"threads": 2}).changed == ""
    assert WorkDir(tmp_path, RECIPE, {"threads": 4}).changed == "threads is 2 there, 4 here"


def test_images_that_do_not_fit_on_the_device_leave_no_work_directory(tmp_path, monkeypatch):
    def refuse(values):
        raise RuntimeError("RESOURCE_EXHAUSTED")

    monkeypatch.setattr(keras.ops, "convert_to_tensor", refuse)
    with pytest.raises(ValueError, match="do not fit into the memory of the device"):
        Trainer(RECIPE.override(pipeline="device"), tmp_path / "run", verbose=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", ["", "{}", "[]", "<html>", '{"recipe": [1]}'])
def test_a_damaged_recipe_is_named(tmp_path, content):
    (tmp_path / "recipe.json").write_text(content)
    with pytest.raises(ValueError, match=r"recipe\.json.*damaged"):
        WorkDir(tmp_path, RECIPE, {})


def test_a_damaged_list_of_skipped_images_is_named(tmp_path):
    workdir = WorkDir(tmp_path, RECIPE, {})
    workdir.skipped.write({3: "a"})
    assert workdir.skipped.read() == {3: "a"}
    workdir.skipped.path.write_text("index,reason\nx,y\n")
    with pytest.raises(ValueError, match=r"skipped\.csv' is damaged"):
        workdir.skipped.read()


def test_a_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file.*cannot be written"):
        WorkDir(tmp_path / "file", RECIPE, {})
    with pytest.raises(OSError, match="cannot be written"):
        WorkDir("/proc/keras_senet", RECIPE, {})


def test_more_images_a_step_than_there_are(tmp_path):
    with pytest.raises(ValueError, match="number of images, 80.*batch_size=82"):
        Trainer(RECIPE.override(batch_size=82), tmp_path / "work", verbose=False)
    assert not (tmp_path / "work").exists()


def damage_data(folder):
    for file in folder.glob("ckpt-*"):
        file.write_bytes(file.read_bytes()[:100])


def replace_by_file(folder):
    shutil.rmtree(folder)
    folder.write_text("")


@pytest.mark.parametrize("damage", [damage_data, replace_by_file])
def test_damaged_checkpoints_are_named(finished, damage):
    damage(finished / "checkpoints")
    with pytest.raises(ValueError, match="checkpoints' is damaged.*remove it"):
        train(finished)


def test_a_table_that_a_kill_cut_off_goes_on(tmp_path, whole):
    rows = whole.workdir.metrics.read()
    for name, step in (("all", 10), ("half", 5)):
        workdir = WorkDir(tmp_path / name, RECIPE, {})
        lines = whole.workdir.metrics.path.read_text().splitlines(keepends=True)
        workdir.metrics.path.write_text("".join(lines[: step // 5]) + lines[step // 5][:9])
        workdir.metrics.drop_after(step)
        assert workdir.metrics.read() == rows[: step // 5 - 1]


def test_a_table_that_is_gone_or_damaged(finished):
    (finished / "metrics.csv").write_text("step,loss\n1,a\n")
    with pytest.raises(ValueError, match=r"metrics\.csv' is damaged"):
        train(finished)
    (finished / "metrics.csv").unlink()
    assert Trainer(RECIPE, finished, verbose=False).train() is None


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path):
    """In a process whose files may not grow beyond 30 KB, which a checkpoint's data is beyond."""
    trainer = train(tmp_path, max_steps=3)
    before = {p.name: p.read_bytes() for p in trainer.workdir.checkpoints.iterdir()}
    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    trainer.last = 4
    try:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, kept[1]))
        with pytest.raises(
            OSError, match="checkpoints' cannot be written.*last good checkpoint is .*ckpt-3"
        ):
            trainer.train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)
    for name, content in before.items():
        assert (trainer.workdir.checkpoints / name).read_bytes() == content
    assert Trainer(RECIPE, tmp_path, verbose=False).checkpoints.restore()[0] == 3


def test_a_run_can_be_read(tmp_path):
    recipe = RECIPE.override(milestones=(1.0,), schedule="step")
    workdir = WorkDir(tmp_path, recipe, {})
    workdir.metrics.append({"step": 5, "epoch": 1, "test_accuracy": 0.5})
    assert read_run(tmp_path) == (recipe, workdir.metrics.read())
    (tmp_path / "recipe.json").write_text('{"recipe": {"epochs": 0}}')
    with pytest.raises(ValueError, match=r"recipe\.json' is damaged"):
        read_run(tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no training run"):
        read_run(tmp_path / "nowhere")
