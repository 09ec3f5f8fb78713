"""The engine trains, continues exactly, and refuses what it cannot do."""

import dataclasses
import json
import math
import resource
import shutil
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_senet import data
from keras_senet.training import Recipe, Trainer
from keras_senet.training.optimizer import make_optimizer, make_schedule
from keras_senet.training.progress import Progress
from keras_senet.training.workdir import WorkDir

RECIPE = Recipe(epochs=2, batch_size=16, pad_and_crop=2, flip=True, label_smoothing=0.1, warmup_epochs=0.5)


@pytest.fixture(autouse=True)
def little_data(monkeypatch):
    """Eighty digits of 8x8 pixels: an epoch is five steps."""

    def few(split):
        random = np.random.default_rng({"train": 0, "test": 1}[split])
        count = {"train": 80, "test": 20}[split]
        images = random.integers(0, 256, (count, 8, 8, 3), "uint8")
        return data.Dataset(images, np.arange(count) % 10, tuple("0123456789"))

    monkeypatch.setitem(data.DATASETS, "digits", few)


def train(workdir, recipe=RECIPE, **options):
    trainer = Trainer(recipe, workdir, verbose=False, **options)
    trainer.train()
    return trainer


def assert_equal_weights(a, b):
    for value, expected in zip(a.model.get_weights(), b.model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_what_a_run_leaves(tmp_path):
    trainer = train(tmp_path)
    assert {"recipe.json", "metrics.csv", "checkpoints", "model.keras", "model.weights.h5"} <= {
        p.name for p in tmp_path.iterdir()
    }
    rows = trainer.workdir.read_metrics()
    assert [(row["step"], row["epoch"]) for row in rows] == [(5, 1), (10, 2)]
    assert all(math.isfinite(value) for row in rows for value in row.values())
    assert json.loads((tmp_path / "recipe.json").read_text())["recipe"] == dataclasses.asdict(RECIPE)
    images = np.zeros((1, 8, 8, 3), "float32")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), trainer.model(images))


def test_the_same_seed_gives_the_same_weights_and_another_does_not(tmp_path):
    first, again = train(tmp_path / "a"), train(tmp_path / "b")
    assert_equal_weights(first, again)
    other = train(tmp_path / "c", dataclasses.replace(RECIPE, seed=1))
    assert not np.array_equal(other.model.get_weights()[0], first.model.get_weights()[0])


def test_a_killed_run_continues_to_the_same_weights(tmp_path, monkeypatch):
    """Killed in the middle of the second epoch; metrics of the steps that are done again appear once."""
    whole = train(tmp_path / "whole")
    calls = []

    def killed(self, totals):
        calls.append(totals)
        if len(calls) == 8:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "advance", killed)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "killed")
    assert [row["epoch"] for row in WorkDir(tmp_path / "killed", RECIPE, {}).read_metrics()] == [1]
    continued = train(tmp_path / "killed")
    assert_equal_weights(continued, whole)
    assert continued.workdir.read_metrics() == whole.workdir.read_metrics()


def test_a_finished_run_is_not_trained_again(tmp_path):
    whole = train(tmp_path)
    metrics = whole.workdir.read_metrics()
    again = train(tmp_path)
    assert_equal_weights(again, whole)
    assert again.workdir.read_metrics() == metrics


def reference_steps(recipe, trainer, steps, replicas):
    """The same steps written out: each replica's part has its own batch statistics; then momentum and decay."""
    model = keras.models.clone_model(trainer.model)
    model.set_weights(trainer.model.get_weights())
    variables = model.trainable_variables
    velocity = [np.zeros(v.shape, "float32") for v in variables]
    schedule = make_schedule(recipe, trainer.steps_per_epoch)
    for i, (images, labels) in enumerate(trainer._batches(0).take(steps)):
        targets = 0.9 * tf.one_hot(labels, 10) + 0.01
        with tf.GradientTape() as tape:
            inputs = images.numpy().astype("float32") / 127.5 - 1
            probabilities = tf.concat([model(part, training=True) for part in np.split(inputs, replicas)], axis=0)
            loss = -tf.reduce_mean(tf.reduce_sum(targets * tf.math.log(probabilities), axis=-1))
        gradients = tape.gradient(loss, [v.value for v in variables])
        for j, (v, g) in enumerate(zip(variables, gradients, strict=True)):
            step = float(schedule(i)) * (g.numpy() + (recipe.weight_decay * v.numpy() if v.name == "kernel" else 0))
            velocity[j] = recipe.momentum * velocity[j] - step
            v.assign(v.numpy() + recipe.momentum * velocity[j] - step)
    return [v.numpy() for v in variables]


def two_replicas():
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.mark.parametrize("replicas", [1, 2])
def test_steps_are_the_arithmetic_of_the_recipe(tmp_path, replicas):
    recipe = dataclasses.replace(RECIPE, weight_decay=0.01)
    trainer = Trainer(recipe, tmp_path, verbose=False, strategy=two_replicas() if replicas == 2 else None)
    expected = reference_steps(recipe, trainer, 3, replicas)
    for batch in trainer.strategy.experimental_distribute_dataset(trainer._batches(0).take(3)):
        trainer._train_step(*batch)
    for variable, value in zip(trainer.model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(variable.numpy(), value, rtol=2e-3, atol=2e-5)


def test_two_replicas_train_and_continue(tmp_path):
    train(tmp_path, dataclasses.replace(RECIPE, epochs=1), strategy=two_replicas())
    (tmp_path / "recipe.json").unlink()
    continued = train(tmp_path, RECIPE, strategy=two_replicas())
    assert [row["epoch"] for row in continued.workdir.read_metrics()] == [1, 2]
    assert all(np.isfinite(w).all() for w in continued.model.get_weights())


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_trains(tmp_path, precision):
    trainer = train(tmp_path, dataclasses.replace(RECIPE, precision=precision))
    assert keras.config.dtype_policy().name == "float32"
    assert all(np.isfinite(w).all() for w in trainer.model.get_weights())


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    with pytest.raises(FloatingPointError, match=r"loss is (nan|inf).*step \d+.*learning rate.*checkpoint"):
        train(tmp_path, dataclasses.replace(RECIPE, learning_rate=1e30, warmup_epochs=0.0))


def test_schedules():
    recipe = dataclasses.replace(RECIPE, epochs=4, warmup_epochs=1.0, learning_rate=1.0)
    schedule = make_schedule(recipe, 10)
    expected = [(i + 1) / 10 for i in range(10)] + [(1 + math.cos(math.pi * i / 30)) / 2 for i in range(30)]
    np.testing.assert_allclose([float(schedule(i)) for i in range(40)], expected, rtol=1e-5, atol=1e-7)
    constant = make_schedule(dataclasses.replace(recipe, schedule="constant", warmup_epochs=0.0), 10)
    assert {float(constant(i)) for i in range(40)} == {1.0}
    optimizer = make_optimizer(recipe, 10)
    restored = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert restored.get_config() == optimizer.get_config()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "SEResNet51"}, "SEResNet51"),
        ({"dataset": "mnist"}, "dataset='mnist'"),
        ({"schedule": "steps"}, "schedule='steps'"),
        ({"precision": "float8"}, "precision='float8'"),
        ({"epochs": 0}, "epochs=0"),
        ({"batch_size": 1.5}, "batch_size=1.5"),
        ({"seed": -1}, "seed=-1"),
        ({"pad_and_crop": -1}, "pad_and_crop=-1"),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"weight_decay": -1.0}, "weight_decay=-1.0"),
        ({"momentum": 1.0}, "momentum=1.0"),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0"),
        ({"warmup_epochs": float("inf")}, "warmup_epochs=inf"),
        ({"warmup_epochs": 3.0}, "from 0 to epochs=2.*warmup_epochs=3.0"),
        ({"flip": "no"}, "flip='no'"),
        ({"epochs": True}, "epochs=True"),
        ({"learning_rate": "0.1"}, "learning_rate='0.1'"),
    ],
    ids=str,
)
def test_a_wrong_field_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(RECIPE, **fields)


def test_a_directory_of_another_recipe_is_refused(tmp_path):
    WorkDir(tmp_path, RECIPE, {})
    with pytest.raises(ValueError, match="epochs is 2 there, 3 here; seed is 0 there, 4 here"):
        WorkDir(tmp_path, dataclasses.replace(RECIPE, epochs=3, seed=4), {})


@pytest.mark.parametrize("content", ["", "{}", "[]", "<html>", '{"recipe": [1]}'])
def test_a_damaged_recipe_is_named(tmp_path, content):
    (tmp_path / "recipe.json").write_text(content)
    with pytest.raises(ValueError, match=r"recipe\.json.*damaged"):
        WorkDir(tmp_path, RECIPE, {})


def test_a_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file.*cannot be written"):
        WorkDir(tmp_path / "file", RECIPE, {})
    with pytest.raises(OSError, match="cannot be written"):
        WorkDir("/proc/keras_senet", RECIPE, {})


def test_more_images_a_step_than_there_are(tmp_path):
    with pytest.raises(ValueError, match="at most the number of images, 80.*batch_size=81"):
        Trainer(dataclasses.replace(RECIPE, batch_size=81), tmp_path / "work", verbose=False)
    assert not (tmp_path / "work").exists()


def damage_data(folder):
    for file in folder.glob("*.data*"):
        file.write_bytes(file.read_bytes()[:100])


def damage_state(folder):
    (folder / "checkpoint").write_text("<html>")


def replace_by_file(folder):
    shutil.rmtree(folder)
    folder.write_text("")


@pytest.mark.parametrize("damage", [damage_data, damage_state, replace_by_file])
def test_damaged_checkpoints_are_named(tmp_path, damage):
    train(tmp_path)
    damage(tmp_path / "checkpoints")
    with pytest.raises(ValueError, match="checkpoints' is damaged.*remove it"):
        train(tmp_path)


def test_a_table_that_a_kill_cut_off_goes_on(tmp_path):
    whole = train(tmp_path / "whole").workdir.read_metrics()
    for name, step in (("all", 10), ("half", 5)):
        workdir = WorkDir(tmp_path / name, RECIPE, {})
        lines = (tmp_path / "whole" / "metrics.csv").read_text().splitlines(keepends=True)
        workdir.metrics.write_text("".join(lines[: step // 5]) + lines[step // 5][:9])
        workdir.forget_metrics_after(step)
        assert workdir.read_metrics() == whole[: step // 5 - 1]


def test_a_table_that_is_gone_or_damaged(tmp_path):
    trainer = train(tmp_path)
    trainer.workdir.metrics.write_text("step,loss\n1,a\n")
    with pytest.raises(ValueError, match=r"metrics\.csv' is damaged"):
        train(tmp_path)
    trainer.workdir.metrics.unlink()
    assert Trainer(RECIPE, tmp_path, verbose=False).train() is None


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path):
    """In a process whose files may not grow beyond 300 KB, which a checkpoint's data is beyond."""
    trainer = train(tmp_path, dataclasses.replace(RECIPE, epochs=1))
    before = {p.name: p.read_bytes() for p in trainer.workdir.checkpoints.iterdir() if p.name != "checkpoint"}
    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    trainer.steps = 10
    try:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, kept[1]))
        with pytest.raises(OSError, match="checkpoints' cannot be written"):
            trainer.train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)
    for name, content in before.items():
        assert (trainer.workdir.checkpoints / name).read_bytes() == content
    assert Trainer(dataclasses.replace(RECIPE, epochs=1), tmp_path, verbose=False)._restore() == 5
