"""A run with more epochs than it had: what it follows, what is recorded, and what is refused.

What compares whole runs is trained eagerly, but for one: a step is traced for each trainer. Three
or four runs take over 5 s on a slow machine all the same.
"""

import contextlib
import dataclasses
import json
import math

import little
import numpy as np
import pytest
from eager import run_eagerly
from little import FITTED, RECIPE, assert_equal_weights, do_after, keep_after, kill, train

import keras_senet
from keras_senet.runs.history import Segment
from keras_senet.runs.record import read_recipe
from keras_senet.training import Recipe, Trainer
from keras_senet.training.fit import FitTrainer
from keras_senet.training.phases import frozen_epochs

STEPS = 5  # of an epoch
CONSTANT = RECIPE.override(schedule="constant")


def train_and_kill(workdir, recipe, steps, **options):
    """Trains for so many steps, without a checkpoint at the last one."""
    with pytest.MonkeyPatch.context() as patch:
        do_after(patch, steps, kill)
        with pytest.raises(SystemError):
            train(workdir, recipe, **options)


def assert_equal_runs(a, b):
    assert_equal_weights(a, b)
    assert a.workdir.metrics.read() == b.workdir.metrics.read()


def rates(trainer):
    """The learning rate of the last step of each epoch."""
    return [row["learning_rate"] for row in trainer.workdir.metrics.read()]


@run_eagerly()
def test_an_extended_run_is_the_longer_run(tmp_path):
    """For a schedule that does not depend on the end; twice. Of two steps an epoch."""
    fields = {"ema": 0.9, "optimizer": "adamw", "decoupled": True, "learning_rate": 0.01}
    recipe = CONSTANT.override(batch_size=40, **fields)
    whole = train(tmp_path / "whole", recipe.override(epochs=4))
    train(tmp_path / "run", recipe)
    train(tmp_path / "run", recipe.override(epochs=3))
    extended = train(tmp_path / "run", recipe.override(epochs=4))
    assert_equal_runs(extended, whole)
    about = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert [entry["first_epoch"] for entry in about["history"]] == [0, 2, 3]
    assert [entry["recipe"]["epochs"] for entry in about["history"][:-1]] == [2, 3]
    assert about["recipe"]["epochs"] == 4
    assert (tmp_path / "run" / "checkpoints" / "recipe.json").read_text() == (
        tmp_path / "run" / "recipe.json"
    ).read_text()


def cosine(step, first, last, peak):
    return peak * (1 + math.cos(math.pi * (step - first) / (last - first))) / 2


def test_a_cosine_goes_on_with_that_of_the_longer_run_or_begins_again(finished):
    """By the formulas: 2 epochs, then 4 and a restart to 7, whose rate is another; the best weights
    are those of the best epoch of all. Half an epoch of warm-up, 2 steps, is at each beginning.
    6 s: three trainings.
    """
    longer = train(finished, RECIPE.override(epochs=4))
    assert "at first 0.0587" in " ".join(longer.workdir.notes)
    again = train(finished, RECIPE.override(epochs=7, learning_rate=0.2), restart=True)
    assert "a new schedule, at first 0.1" in " ".join(again.workdir.notes)
    expected = [cosine(STEPS * epoch - 1, 2, 2 * STEPS, 0.1) for epoch in (1, 2)]
    expected += [cosine(STEPS * epoch - 1, 2, 4 * STEPS, 0.1) for epoch in (3, 4)]
    expected += [cosine(STEPS * epoch - 1, 4 * STEPS + 2, 7 * STEPS, 0.2) for epoch in (5, 6, 7)]
    np.testing.assert_allclose(rates(again), expected, rtol=1e-5, atol=1e-8)
    rows = again.workdir.metrics.read()
    assert [(row["epoch"], row["step"]) for row in rows] == [(i, STEPS * i) for i in range(1, 8)]
    again.model.load_weights(finished / "best.weights.h5")
    predicted = again.prediction_step(again.test_set.images).numpy().argmax(axis=1)
    best = max(row["test_accuracy"] for row in rows)
    assert np.mean(predicted == again.test_set.labels) == pytest.approx(best)


@pytest.mark.parametrize(
    ("fields", "restart"),
    [({"ema": 0.9, "frozen_bn_epochs": 1}, False), ({"warmup_epochs": 1.0}, True)],
    ids=str,
)
def test_an_extended_run_that_was_killed_ends_as_one_that_was_not(
    tmp_path, monkeypatch, fields, restart
):
    """Stopped in its second epoch and extended there, then killed, after which its two newest
    checkpoints are damaged: steps of before come again by what they followed then.
    """
    recipe = RECIPE.override(**fields)
    longer = recipe.override(epochs=4)
    often = {"checkpoint_steps": 3, "keep": 9}
    with contextlib.nullcontext() if restart else run_eagerly():
        train(tmp_path / "whole", recipe, max_steps=7, **often)
        with monkeypatch.context() as patch:
            keep_after(patch, 4, tmp_path / "whole", tmp_path / "damaged")
            whole = train(tmp_path / "whole", longer, restart=restart, **often)
        for file in sorted(tmp_path.glob("damaged/checkpoints/ckpt-*.safetensors"), key=_step)[-2:]:
            file.write_bytes(b"damaged")
        again = train(tmp_path / "damaged", longer, restart=restart)  # the same command again
    assert again.began_at == 7
    assert_equal_runs(again, whole)
    about = json.loads((tmp_path / "damaged" / "recipe.json").read_text())
    origin = 2 if restart else 0
    assert about["history"][1] == {"first_epoch": 2, "schedule_from": origin}


def _step(file):
    return int(file.stem.rpartition("-")[2])


def test_batch_normalisation_is_frozen_at_the_end_of_each_part():
    """The last two epochs of each recipe, as far as they were trained before the next began."""

    def ranges(*parts):
        recipe = Recipe(frozen_bn_epochs=2)
        return [
            *frozen_epochs([Segment(dataclasses.replace(recipe, epochs=e), f) for e, f in parts])
        ]

    assert ranges((5, 0)) == [(3, 5)]
    assert ranges((5, 0), (9, 5)) == [(3, 5), (7, 9)]
    assert ranges((5, 0), (9, 4)) == [(3, 4), (7, 9)]
    assert ranges((5, 0), (9, 2)) == [(7, 9)]
    assert ranges((5, 0), (6, 5), (9, 6)) == [(3, 5), (5, 6), (7, 9)]
    assert [*frozen_epochs([Segment(Recipe())])] == []


@run_eagerly()
def test_fine_tuning_is_extended_as_the_longer_run(tmp_path):
    """Stopped while its head is trained, extended, killed in its frozen last epoch; the weights
    that it began from are gone by then.
    """
    model = little.NETWORK(weights=None, classes=7)
    keras_senet.save_weights(model, tmp_path / "seven.weights.h5")
    recipe = CONSTANT.override(
        weights=str(tmp_path / "seven.weights.h5"),
        head_epochs=1,
        head_rate=3.0,
        layer_decay=0.5,
        freeze=(0,),
        frozen_bn_epochs=1,
        warmup_epochs=0.0,
    )
    whole = train(tmp_path / "whole", recipe.override(epochs=3))
    train(tmp_path / "run", recipe, max_steps=3)
    (tmp_path / "seven.weights.h5").unlink()
    train_and_kill(tmp_path / "run", recipe.override(epochs=3), 9, checkpoint_steps=3)
    assert_equal_runs(train(tmp_path / "run", read_recipe(tmp_path / "run")), whole)


@pytest.mark.parametrize(
    ("fields", "restart", "message"),
    [
        ({"epochs": 1}, False, "epochs is 2 there, 1 here; a run can have more epochs .*not fewer"),
        ({"epochs": 4, "seed": 1}, False, "belongs to another recipe: epochs.*; seed is 0 there"),
        ({"epochs": 4, "batch_size": 8}, True, "batch_size is 16 there, 8 here"),
        (
            {"epochs": 4, "learning_rate": 0.3},
            False,
            "learning_rate is 0.1 there, 0.3 here; with more epochs and a restart",
        ),
        ({"learning_rate": 0.3}, True, "learning_rate is 0.1 there.*with more epochs"),
        ({}, True, "`restart` is for more epochs than the 2 of the run.*Received: epochs=2"),
        (
            {"epochs": 4, "warmup_epochs": 3.0},
            True,
            "`warmup_epochs` must be at most 2, .*warmup_epochs=3.0",
        ),
    ],
    ids=str,
)
def test_what_else_is_another_recipe_is_refused(finished, fields, restart, message):
    before = (finished / "recipe.json").read_text()
    with pytest.raises(ValueError, match=message):
        Trainer(RECIPE.override(**fields), finished, verbose=False, restart=restart)
    assert (finished / "recipe.json").read_text() == before


def test_a_restart_before_the_first_checkpoint_may_be_given_again(tmp_path):
    """As by the second of two workers, or after a kill: there is nothing that it begins after."""
    Trainer(RECIPE, tmp_path, verbose=False)
    for _ in range(2):
        again = Trainer(RECIPE.override(epochs=4), tmp_path, verbose=False, restart=True)
    recipe = RECIPE.override(epochs=4, pipeline="tf.data")
    assert again.workdir.segments == [Segment(recipe, 0, 0)]


def test_a_run_without_a_checkpoint_is_not_extended(finished):
    for file in (finished / "checkpoints").glob("ckpt-*"):
        file.unlink()
    with pytest.raises(ValueError, match="cannot be extended: it has no checkpoint"):
        Trainer(RECIPE.override(epochs=4), finished, verbose=False)


@pytest.mark.parametrize(
    "history",
    [[{}], [1], [{"first_epoch": 0, "schedule_from": 0, "recipe": {"epochs": 0}}], 3],
    ids=str,
)
def test_a_damaged_history_is_named(finished, history):
    about = json.loads((finished / "recipe.json").read_text()) | {"history": history}
    (finished / "recipe.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"recipe\.json' is damaged"):
        Trainer(RECIPE, finished, verbose=False)


@run_eagerly()
def test_keras_own_loop_is_extended_too(tmp_path):
    """Constant: as the longer run. Then a restart, by the formula. Of two steps an epoch."""
    steps, recipe = 2, FITTED.override(batch_size=40)

    def fit(name, recipe, **options):
        trainer = FitTrainer(recipe, tmp_path / name, verbose=False, **options)
        trainer.train()
        return trainer

    whole = fit("whole", recipe.override(epochs=3))
    fit("run", recipe)
    extended = fit("run", recipe.override(epochs=3))
    assert extended.began_at == 2 * steps
    for a, b in zip(extended.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    again = recipe.override(epochs=5, schedule="cosine", warmup_epochs=0.0)
    restarted = fit("run", again, restart=True)
    expected = [0.1] * 3 + [cosine(steps * epoch, 6, 10, 0.1) for epoch in (4, 5)]
    np.testing.assert_allclose(rates(restarted), expected, rtol=1e-5, atol=1e-8)
    assert [row["epoch"] for row in restarted.workdir.metrics.read()] == [1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="epochs is 5 there, 3 here"):
        fit("run", recipe.override(epochs=3))
