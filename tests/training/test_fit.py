"""The same recipes through Keras' own loop."""

import json
import math

import keras
import little
import numpy as np
import pytest
from eager import run_eagerly

from keras_senet import data
from keras_senet.training import Trainer
from keras_senet.training.fit import FitTrainer

RECIPE = little.FITTED


def fit(workdir, recipe=RECIPE, **options):
    trainer = FitTrainer(recipe, workdir, verbose=False, **options)
    trainer.train()
    return trainer


def test_it_leaves_what_the_engine_leaves_and_nearly_the_same_weights(fitted, tmp_path):
    """5 s: a run of each."""
    engine = Trainer(RECIPE, tmp_path / "engine", verbose=False)
    with run_eagerly():
        engine.train()
    for a, b in zip(fitted.model.get_weights(), engine.model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    ours, theirs = (trainer.workdir.metrics.read() for trainer in (fitted, engine))
    assert [list(row) for row in ours] == [list(row) for row in theirs]
    for a, b in zip(ours, theirs, strict=True):
        for name in ("step", "epoch", "accuracy", "test_accuracy", "test_top5", "test_loss"):
            assert (
                a[name] == pytest.approx(b[name], rel=1e-3) or name == "test_loss"
            )  # which has the decay in it
    assert {
        "recipe.json",
        "metrics.csv",
        "model.keras",
        "model.weights.h5",
        "curves.png",
        "tensorboard",
    } <= {path.name for path in fitted.workdir.path.iterdir()}
    images = np.zeros((1, 8, 8, 3), "float32")
    loaded = keras.models.load_model(fitted.workdir.path / "model.keras")
    np.testing.assert_allclose(
        loaded.predict(images, verbose=0), fitted.model.predict(images, verbose=0), rtol=1e-6
    )
    about = json.loads((fitted.workdir.path / "recipe.json").read_text())
    assert about["class_names"] == list("0123456789")
    assert loaded.class_names == tuple("0123456789")
    assert loaded.preprocessing == fitted.model.preprocessing


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"optimizer": "adamw", "decoupled": True}, marks=pytest.mark.slow),
        {
            "optimizer": "lamb",
            "decoupled": True,
            "ema": 0.9,
            "mixup": 0.2,
            "accumulation": 2,
            "clip_norm": 1.0,
            "precision": "mixed_float16",
        },
    ],
    ids=str,
)
@run_eagerly()
def test_what_a_recipe_can_have(tmp_path, fields):
    """Options that do not concern each other, together; two steps an epoch."""
    trainer = fit(tmp_path, RECIPE.override(batch_size=40, **fields))
    assert all(np.isfinite(w).all() for w in trainer.model.get_weights())
    assert [row["step"] for row in trainer.workdir.metrics.read()] == [2, 4]
    assert all(
        math.isfinite(value) for row in trainer.workdir.metrics.read() for value in row.values()
    )


def test_it_continues_at_the_last_epoch_that_ended(tmp_path, fitted):
    """Keras ends an epoch whose steps are cut short; that is none to continue after.

    Two trainings: over 5 s on a slow machine.
    """
    stopped = fit(tmp_path / "part", max_steps=8)
    assert [row["step"] for row in stopped.workdir.metrics.read()] == [5]
    assert stopped._restore() == (1, [])
    continued = fit(tmp_path / "part")
    for a, b in zip(fitted.model.get_weights(), continued.model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    rows, expected = (trainer.workdir.metrics.read() for trainer in (continued, fitted))
    assert [row["epoch"] for row in rows] == [row["epoch"] for row in expected] == [1, 2]
    assert rows[-1]["test_accuracy"] == expected[-1]["test_accuracy"]


@pytest.fixture
def unequal(monkeypatch):
    """Classes of very different sizes."""

    def load(split, digits=data.DATASETS["digits"]):
        images = digits(split).images
        return data.Dataset(images, np.arange(len(images)) ** 2 // 700, tuple("0123456789"))

    monkeypatch.setitem(data.DATASETS, "digits", load)


@run_eagerly()
def test_class_weights_are_those_of_the_engine(tmp_path, unequal):
    recipe = RECIPE.override(class_weights=True, label_smoothing=0.1, mixup=0.3, epochs=1)
    engine = Trainer(recipe, tmp_path / "engine", verbose=False)
    engine.train()
    fitted = fit(tmp_path / "fit", recipe)
    for a, b in zip(fitted.model.get_weights(), engine.model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    tables = [(each.workdir.path / "per_class.csv").read_text() for each in (fitted, engine)]
    assert tables[0] == tables[1]


def test_images_are_weighted_in_micro_batches_too(tmp_path, unequal):
    recipe = RECIPE.override(class_weights=True, mixup=0.3, accumulation=2)
    trainer = FitTrainer(recipe, tmp_path, verbose=False)
    labels = trainer.train_set.labels.tolist()
    for _, targets, weights in trainer._batches(0, 1).take(4):
        assert len(weights) == 8
        for target, weight in zip(targets.numpy(), weights.numpy(), strict=True):
            shares = [(share, labels.count(label)) for label, share in enumerate(target) if share]
            expected = sum(share * 80 / (9 * count) for share, count in shares)
            assert weight == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("fields", [{"sync_bn": True}, {"frozen_bn_epochs": 1}], ids=str)
def test_what_it_cannot_do_is_refused(tmp_path, fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        FitTrainer(RECIPE.override(**fields), tmp_path / "work")
    assert not (tmp_path / "work").exists()
