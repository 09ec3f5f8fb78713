"""Detectors are trained by the engine: what a run leaves, continuation, replicas, freezing."""

import dataclasses
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import keras
import little
import little_scenes
import numpy as np
import pytest
import tensorflow as tf
from eager import run_eagerly
from little_scenes import RECIPE, digest, train
from runs import checkpoints, finish, make_configs, wait_for_checkpoint

from keras_senet import detection, training, weights
from keras_senet.detection.loss import losses
from keras_senet.detection.trainer import Trainer
from keras_senet.graphs import stages_of
from keras_senet.runs.tables import Metrics
from keras_senet.training.progress import Progress
from keras_senet.training.signals import Terminated
from keras_senet.training.tensor_file import read_tensors

PARTS = ("classifier_loss", "box_loss", "objectness_loss", "proposal_loss")
FIGURES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")


@pytest.fixture(autouse=True)
def little_scenes_and_network(monkeypatch):
    """Curves are drawn in test_pictures.py."""
    little_scenes.put_in_place(monkeypatch.setattr)
    little.skip_drawing(monkeypatch)


class Runs(NamedTuple):
    """A trainer at its end, its values after the first of six steps, and a copy of its folder after
    five: one step after a checkpoint, in the second epoch.
    """

    trainer: Trainer
    values: list
    killed: Path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Takes over 5 s, most of them to trace a training step of two stages."""
    folder, calls, values = tmp_path_factory.mktemp("runs"), [], []

    def advance(self, totals):
        calls.append(totals)
        if len(calls) == 1:
            values.extend(variable.numpy() for variable in trainer.model.weights)
        if len(calls) == 5:
            ignored = shutil.ignore_patterns(".lock")
            shutil.copytree(folder / "whole", folder / "killed", ignore=ignored)

    with pytest.MonkeyPatch.context() as patch, little.graphs_as_traced():
        little_scenes.put_in_place(patch.setattr)
        little.skip_drawing(patch)
        patch.setattr(Progress, "advance", advance)
        recipe = RECIPE.override(ema=0.5, clip_norm=1.0, sync_bn=True)
        trainer = Trainer(recipe, folder / "whole", verbose=False, checkpoint_steps=4)
        trainer.train()
    return Runs(trainer, values, folder / "killed")


def test_what_a_run_leaves(runs):
    trainer, folder = runs.trainer, runs.trainer.workdir.path
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *("recipe.json", "metrics.csv", "checkpoints", "curves.png"),
        *("best.safetensors", "model.safetensors"),
    }
    rows = Metrics(folder / "metrics.csv").read()
    assert list(rows[0]) == ["step", "epoch", "loss", *PARTS, "learning_rate", *FIGURES]
    assert [(row["step"], row["epoch"]) for row in rows] == [(3, 1), (6, 2)]
    for row in rows:
        assert row["loss"] == pytest.approx(sum(row[part] for part in PARTS), rel=1e-5)
        assert 0 <= row["ap"] <= 1
    about = json.loads((folder / "recipe.json").read_text())
    assert about["task"] == "detection"
    assert detection.Recipe.from_json(about["recipe"]) == trainer.recipe
    assert about["class_names"] == ["red", "green"]


def test_the_seed_decides_the_initial_weights(tmp_path):
    """Also those of layers whose modules were imported before; no two layers have equal ones."""
    kernels = []
    for seed, name in ((0, "a"), (0, "b"), (1, "c")):
        detector = Trainer(RECIPE.override(seed=seed), tmp_path / name, verbose=False).detector
        there = [v.numpy() for v in detector.variables if v.path.endswith("kernel")]
        assert len({value.tobytes() for value in there}) == len(there)
        kernels.append(there)
    for first, again, other in zip(*kernels, strict=True):
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)


def test_the_file_is_the_trained_detector(runs):
    trainer = runs.trainer
    with weights.readers.open_file(trainer.workdir.path / "model.safetensors") as file:
        entries = {
            name: entry.read() for name, entry in weights.names.from_own(file.entries).items()
        }
    for variable in trainer.detector.variables:
        np.testing.assert_array_equal(variable.numpy(), entries[weights.names.own_name(variable)])


def test_a_run_that_was_killed_and_told_to_stop_continues_to_the_same_weights(runs, monkeypatch):
    """Killed a step after a checkpoint, and then SIGTERM in the first step: a checkpoint of it, and
    the status of a run to be continued. By the run's own trainer, whose step has been traced.
    """
    trainer, _, killed = runs
    folder, names = trainer.workdir.path, ("metrics.csv", "model.safetensors")
    values, files = digest(trainer), [(folder / name).read_bytes() for name in names]
    assert len(Metrics(killed / "metrics.csv").read()) == 1
    little.go_back(trainer, killed)
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "advance", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Terminated) as status:
            trainer.train()
    assert (trainer.began_at, status.value.code) == (4, 75)
    assert "ckpt-5.safetensors" in checkpoints(folder)
    assert not (folder / "model.safetensors").exists()
    little.go_back(trainer, shutil.copytree(folder, killed.with_name("stopped")))
    trainer.train()
    assert trainer.began_at == 5
    assert digest(trainer) == values
    assert [(folder / name).read_bytes() for name in names] == files


def test_another_trainer_continues_from_all_values(runs, tmp_path):
    """As one in another process does."""
    folder = shutil.copytree(runs.killed, tmp_path / "run")
    trainer = Trainer(runs.trainer.recipe, folder, verbose=False)
    step, sums, _ = trainer._restore()
    assert (step, set(sums.sums)) == (4, {"loss", *PARTS})
    values, _ = read_tensors(folder / "checkpoints" / "ckpt-4.safetensors")
    assert values.keys() == trainer.checkpoints.variables.keys()
    for name, variable in trainer.checkpoints.variables.items():
        np.testing.assert_array_equal(variable, values[name], err_msg=name)


def start(workdir, epochs, **environment):
    """A process that trains the little network there."""
    command = [sys.executable, little_scenes.__file__, str(workdir), str(epochs)]
    paths = os.pathsep.join(sys.path)
    threads = {"PYTHONPATH": paths, "TF_NUM_INTRAOP_THREADS": "1"}
    return subprocess.Popen(command, env={**os.environ, **threads, **environment})


@pytest.mark.slow
def test_a_run_that_is_killed_five_times(tmp_path):
    """In processes of their own, at random moments after a checkpoint."""
    assert start(tmp_path / "whole", 40).wait() == 0
    moments, folder = random.Random(0), tmp_path / "killed"
    for _ in range(5):
        before = checkpoints(folder)
        process = start(folder, 40)
        wait_for_checkpoint(folder, before, [process])
        time.sleep(moments.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert start(folder, 40).wait() == 0
    assert_equal_runs(tmp_path / "whole", folder)


def assert_equal_runs(a, b):
    for name in ("model.safetensors", "best.safetensors", "metrics.csv"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name


@pytest.mark.slow
def test_two_workers_train_as_one_stop_at_one_step_and_continue(tmp_path):
    """By TF_CONFIG: after two steps of float32 the weights are those of one process with the whole
    batch. SIGTERM reaches one of both; the run then ends as one that was not stopped.
    """

    def start_both(workdir):
        return [start(workdir, 12, TF_CONFIG=config) for config in make_configs(2)]

    one, two, broken = tmp_path / "one", tmp_path / "two", tmp_path / "broken"
    assert finish(start(one, 1)) == [0]
    assert finish(*start_both(two)) == [0, 0]
    first, second = (read_tensors(f / "checkpoints" / "ckpt-2.safetensors")[0] for f in (one, two))
    assert len(first) > 40
    for name, value in first.items():
        np.testing.assert_allclose(value, second[name], rtol=1e-5, atol=1e-5, err_msg=name)
    processes = start_both(broken)
    wait_for_checkpoint(broken, set(), processes)
    processes[1].send_signal(signal.SIGTERM)
    assert finish(*processes) == [75, 75]
    assert not (broken / "model.safetensors").exists()
    assert finish(*start_both(broken)) == [0, 0]
    assert_equal_runs(two, broken)


def test_an_epoch_that_another_worker_evaluates_is_described(runs):
    assert runs.trainer.task.describe_epoch({"epoch": 2, "loss": 1.5}) == "epoch 2: loss 1.5000"


def test_two_replicas_are_one_device(tmp_path, runs):
    """With synchronised batch normalisation, and denominators that do not depend on what is in the
    images: to 1e-5 after a step. Each replica draws what one device draws for its images.

    Over 5 s: the operations of two replicas, in threads that take turns.
    """
    trainer = Trainer(runs.trainer.recipe, tmp_path, verbose=False, strategy="mirrored")
    with run_eagerly():
        trainer.step(next(trainer._batches(0)), 0)
    for two, one in zip(trainer.model.weights, runs.values, strict=True):
        for copy in trainer.devices.strategy.experimental_local_results(two.value):
            np.testing.assert_allclose(copy.numpy(), one, rtol=1e-5, atol=1e-5, err_msg=two.path)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_trains(tmp_path, precision):
    """In micro-batches, with a moving average; the file that is written is of float32."""
    fields = {"precision": precision, "accumulation": 2, "ema": 0.5, "clip_norm": 1.0}
    trainer = train(tmp_path, RECIPE.override(**fields))
    assert keras.config.dtype_policy().name == "float32"
    for variable in trainer.detector.variables:
        assert variable.dtype == "float32"
        assert np.isfinite(variable).all()
    losses = [row["loss"] for row in Metrics(tmp_path / "metrics.csv").read()]
    assert losses[1] < losses[0]


@pytest.fixture
def backbone(tmp_path):
    """A file of weights of the backbone, with statistics that are not those of the start."""
    keras.utils.set_random_seed(3)
    model = little_scenes.NETWORK(weights=None, classes=5)
    for variable in model.weights:
        if "moving" in variable.path:
            variable.assign(np.random.default_rng(0).uniform(0.5, 1.5, variable.shape))
    path = tmp_path / "backbone.weights.h5"
    weights.save_weights(model, path)
    return model, path


def test_a_step_is_the_arithmetic_of_the_recipe(tmp_path, backbone):
    """Detectron's: biases have twice the rate and no decay, anchors that cross the border are left
    out; and two micro-batches, of which one has no boxes. What is frozen is so to the last bit.
    """
    _, path = backbone
    recipe = RECIPE.override(
        **{"backbone_weights": str(path), "frozen_stages": 2, "frozen_bn": True},
        **{"bias_rate": 2.0, "bias_decay": False, "straddling": False, "box_beta": 1.0},
        **{"weight_decay": 0.01, "accumulation": 2, "warmup_steps": 0, "schedule": "constant"},
    )
    trainer = Trainer(recipe, tmp_path / "run", verbose=False)
    detector = trainer.detector
    numbers = range(trainer.steps_per_epoch)
    empty = [i for i in numbers if 0 in trainer.data.indices(i).tolist()]
    (batch,) = trainer.data.batches(empty[0], empty[0] + 1)
    canvas, truths = batch
    assert 0 in truths.counts
    frozen = {
        variable.path
        for layer, stage in stages_of(detector.backbone).items()
        for variable in layer.weights
        if (stage or 9) <= 2 or isinstance(layer, keras.layers.BatchNormalization)
    }
    trained = [v for v in detector.variables if v.path not in frozen]
    before = {v.path: v.numpy() for v in detector.variables}
    places = empty[0] * 2 + np.arange(2)
    seeds = tf.constant([[recipe.seed, place] for place in places], tf.int64)
    with tf.GradientTape() as tape:
        found = losses(detector, *canvas, truths, recipe.sampling, seeds, training=False)
        loss = tf.add_n(list(found.values())) / 2
    gradients = tape.gradient(loss, [v.value for v in trained])
    with run_eagerly():
        outcome = trainer.step(batch, empty[0])
    assert float(outcome.loss) == pytest.approx(float(loss), rel=1e-5)
    for variable, gradient in zip(trained, gradients, strict=True):
        kernel = variable.path.endswith("kernel")
        decayed = gradient + 0.01 * before[variable.path] if kernel else gradient
        rate = recipe.learning_rate * (1 if not variable.path.endswith("bias") else 2)
        expected = before[variable.path] - rate * decayed
        np.testing.assert_allclose(variable, expected, rtol=1e-4, atol=1e-6, err_msg=variable.path)
    for variable in detector.variables:
        if variable.path in frozen:
            np.testing.assert_array_equal(variable, before[variable.path], err_msg=variable.path)
    assert any("stage2" in name for name in frozen)
    assert any("stage5" in v.path for v in trained)


def test_the_backbone_begins_from_a_file(tmp_path, backbone):
    model, path = backbone
    recipe = RECIPE.override(backbone_weights=str(path))
    trainer = Trainer(recipe, tmp_path / "run", verbose=False)
    assert_backbone(trainer, model)
    assert f"from the weights of '{path}'" in trainer.workdir.notes[-1]


def assert_backbone(trainer, model):
    there = {v.path: v.numpy() for v in model.weights}
    for variable in trainer.detector.backbone.weights:
        np.testing.assert_array_equal(variable.numpy(), there[variable.path])


def test_the_backbone_begins_from_a_finished_run_of_classification(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(training.trainer.data.DATASETS, "digits", little.digits)
        recipe = training.Recipe(model="SEResNet18", batch_size=16, epochs=1, image_size=32)
        before = training.Trainer(recipe, tmp_path / "digits", verbose=False)
        before.workdir.save_network(before.model)
    recipe = RECIPE.override(backbone_weights=str(tmp_path / "digits"), frozen_stages=2)
    trainer = Trainer(recipe, tmp_path / "run", verbose=False)
    assert_backbone(trainer, before.model)
    assert trainer.detector.preprocessing.mean == before.model.preprocessing.mean
    other = recipe.override(model="SEResNet34")
    with pytest.raises(ValueError, match="must be of SEResNet34, as `model` says"):
        Trainer(other, tmp_path / "other", verbose=False)
    assert not (tmp_path / "other").exists()


def test_a_loss_that_is_not_finite_has_failed(runs):
    """The engine then ends the run. The last test of this trainer's step."""
    trainer = runs.trainer
    kernel = trainer.detector.head.get_layer("box_classes").kernel
    value = kernel.numpy()
    (batch,) = trainer.data.batches(0, 1)
    kernel.assign(np.full_like(value, np.nan))
    try:
        outcome = trainer.step(batch, 0)
    finally:
        kernel.assign(value)
    assert outcome.failed
    assert not math.isfinite(outcome.loss)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "SEResNet20", "depths": ()}, "strides"),
        ({"dataset": "no/such"}, "There is no dataset"),
        (
            {"dataset": "no/such", "backbone_weights": "nowhere.weights.h5"},
            "There is no dataset",
        ),
        ({"short": 31}, "`short` must be pixels, at least 32. Received: short=31$"),
        ({"short": 97}, "`long` must be pixels, at least short=97. Received: long=96$"),
        ({"batch_size": 7}, r"`batch_size` must be from 1 to the number of images, 6"),
        ({"frozen_stages": 2}, "0 without `backbone_weights`"),
        ({"frozen_bn": True}, "False without `backbone_weights`"),
        ({"backbone_weights": "nowhere.weights.h5"}, "nowhere.weights.h5"),
        ({"anchor_samples": (0, 0.5)}, "`anchor_samples` must be a whole number from 1 to 100000"),
        ({"box_samples": (math.inf, 0.5)}, "`box_samples` must be a whole number from 1"),
        ({"box_samples": (3, 0.25)}, "and a fraction of at most 1, of at least one sample"),
        ({"short_sides": (16,)}, "`short_sides` must be pixels from 32 to long=96"),
        ({"milestones": (3.0,)}, "`milestones` must be rising, above 0 and below epochs=2"),
        ({"accumulation": 2, "sync_bn": True}, "`accumulation` must be 1"),
    ],
    ids=str,
)
def test_what_cannot_be_trained_is_said_in_one_line(tmp_path, monkeypatch, fields, message):
    if "dataset" in fields:
        monkeypatch.undo()
    with pytest.raises((ValueError, OSError), match=message) as caught:
        Trainer(RECIPE.override(**fields), tmp_path / "run", verbose=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_file_is_evaluated_on_its_training_images_and_says_so(tmp_path):
    """In what is printed, and in the word for the figures of an epoch."""
    file = tmp_path / "train.json"
    file.touch()
    trainer = Trainer(RECIPE.override(dataset=str(file)), tmp_path / "run", verbose=False)
    assert any("of the images that are trained on" in note for note in trainer.workdir.notes)
    assert trainer.validation.describe().endswith("chosen on the 6 training images")
    row = {"epoch": 1, "loss": 1.0, "ap": 0.5, "ap50": 0.5}
    assert "; training AP 50.0%" in trainer.task.describe_epoch(row)


def test_a_run_of_another_task_is_refused(tmp_path, runs):
    with pytest.raises(ValueError, match="detection.Recipe. Received"):
        Trainer(training.Recipe(), tmp_path)
    with pytest.raises(ValueError, match="a run of detection"):
        training.Trainer(training.Recipe(), runs.trainer.workdir.path)


@pytest.mark.parametrize("name", detection.RECIPES)
def test_a_recipe_is_the_same_from_json(name):
    recipe = detection.RECIPES[name]
    fields = json.loads(json.dumps(dataclasses.asdict(recipe)))
    assert detection.Recipe.from_json(fields) == recipe
    assert recipe.source
    assert recipe.result
    assert recipe.override() is recipe
    assert recipe.override(short=96, anchor_ratios=(1.0,)).detector.anchors.ratios == (1.0,)


def test_the_linear_rule():
    recipe = detection.RECIPES["coco-2x"]
    assert recipe.describe_rate(16) is None
    assert "--learning-rate 0.0025 --warmup-steps 4000" in recipe.describe_rate(2)


def test_recipes_need_no_tensorflow():
    program = (
        "import sys, keras_senet_cli; keras_senet_cli.parsing = True; sys.modules['keras'] = None; "
        "sys.modules['tensorflow'] = None; from keras_senet.detection import RECIPES, Recipe"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parent)
