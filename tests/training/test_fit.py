"""The same recipes through Keras' own loop."""

import math

import keras
import numpy as np
import pytest

from keras_senet.data import Augmentation
from keras_senet.training import Recipe, Trainer
from keras_senet.training.fit import FitTrainer

RECIPE = Recipe(
    epochs=2,
    batch_size=16,
    augmentation=Augmentation(pad_and_crop=2, flip=True),
    label_smoothing=0.1,
    warmup_epochs=0.5,
)


def fit(workdir, recipe=RECIPE, **options):
    trainer = FitTrainer(recipe, workdir, verbose=False, **options)
    trainer.train()
    return trainer


def test_it_leaves_what_the_engine_leaves_and_nearly_the_same_weights(tmp_path):
    fitted = fit(tmp_path / "fit", RECIPE, tensorboard=True)
    engine = Trainer(RECIPE, tmp_path / "engine", verbose=False)
    engine.train()
    for a, b in zip(fitted.model.get_weights(), engine.model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    ours, theirs = (trainer.workdir.read_metrics() for trainer in (fitted, engine))
    assert [list(row) for row in ours] == [list(row) for row in theirs]
    for a, b in zip(ours, theirs, strict=True):
        for name in ("step", "epoch", "accuracy", "test_accuracy", "test_top5", "test_loss"):
            assert a[name] == pytest.approx(b[name], rel=1e-3) or name == "test_loss"  # which has the decay in it
    assert {"recipe.json", "metrics.csv", "model.keras", "model.weights.h5", "curves.png", "tensorboard"} <= {
        path.name for path in (tmp_path / "fit").iterdir()
    }
    images = np.zeros((1, 8, 8, 3), "float32")
    loaded = keras.models.load_model(tmp_path / "fit" / "model.keras")
    np.testing.assert_allclose(loaded.predict(images, verbose=0), fitted.model.predict(images, verbose=0), rtol=1e-6)


@pytest.mark.parametrize(
    "fields",
    [
        {"accumulation": 2, "clip_norm": 1.0},
        {"optimizer": "adamw", "decoupled": True, "ema": 0.9},
        {"optimizer": "lamb", "decoupled": True},
        {"precision": "mixed_float16"},
        {"mixup": 0.2},
    ],
    ids=str,
)
def test_what_a_recipe_can_have(tmp_path, fields):
    trainer = fit(tmp_path, RECIPE.override(**fields))
    assert all(np.isfinite(w).all() for w in trainer.model.get_weights())
    assert [row["step"] for row in trainer.workdir.read_metrics()] == [5, 10]
    assert all(math.isfinite(value) for row in trainer.workdir.read_metrics() for value in row.values())


def test_it_continues_at_the_last_epoch_that_ended(tmp_path):
    whole = fit(tmp_path / "whole")
    fit(tmp_path / "part", max_steps=5)
    continued = fit(tmp_path / "part")
    for a, b in zip(whole.model.get_weights(), continued.model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    rows, expected = (trainer.workdir.read_metrics() for trainer in (continued, whole))
    assert [row["epoch"] for row in rows] == [row["epoch"] for row in expected] == [1, 2]
    assert rows[-1]["test_accuracy"] == expected[-1]["test_accuracy"]


@pytest.mark.parametrize("fields", [{"sync_bn": True}, {"frozen_bn_epochs": 1}], ids=str)
def test_what_it_cannot_do_is_refused(tmp_path, fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        FitTrainer(RECIPE.override(**fields), tmp_path / "work")
    assert not (tmp_path / "work").exists()
