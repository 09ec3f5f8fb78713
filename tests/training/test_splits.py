"""Training with validation and test images: the best epoch is chosen on the former, the latter are
used once.
"""

import json
import math

import little
import numpy as np
import pytest
from eager import run_eagerly
from PIL import Image

from keras_senet import cli, data
from keras_senet.evaluation import evaluate
from keras_senet.runs import splits
from keras_senet.training import RECIPES, Trainer
from keras_senet.training.fit import FitTrainer

COLOURS = {"blue": (30, 30, 220), "red": (220, 30, 30)}
COUNTS = {"train": 4, "val": 2, "test": 3}


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Two colours; in val/ their labels are exchanged, so that the figures show which images are
    used.
    """
    little.decode_folders(monkeypatch)
    for split, count in COUNTS.items():
        for name, other in (("blue", "red"), ("red", "blue")):
            place = tmp_path / "photos" / split / name
            place.mkdir(parents=True)
            for i in range(count):
                colour = np.uint8(COLOURS[other if split == "val" else name])
                Image.fromarray(np.full((8, 8, 3), colour) ^ np.uint8(i)).save(place / f"{i}.png")
    return tmp_path / "photos"


def recipe(photos, monkeypatch):
    little.put_in_place(monkeypatch.setitem, monkeypatch.setattr)
    return RECIPES["digits"].override(
        dataset=str(photos), epochs=2, warmup_epochs=0.0, batch_size=4, image_size=8, pad_and_crop=0
    )


@run_eagerly()
def test_the_best_epoch_is_chosen_on_validation_and_tested_once(
    photos, tmp_path, monkeypatch, capsys
):
    tested = []
    monkeypatch.setattr(
        "keras_senet.training.classification.evaluate",
        lambda model, dataset, **options: (
            tested.append(len(dataset)) or evaluate(model, dataset, **options)
        ),
    )
    trainer = Trainer(recipe(photos, monkeypatch), tmp_path / "run")
    assert (trainer.split, len(trainer.test_set), len(trainer.final_set)) == ("val", 4, 6)
    trainer.train()
    assert tested == [4, 4, 6]
    assert "chosen on the 4 validation images; the 6 test images are evaluated once" in " ".join(
        capsys.readouterr().out.split()
    )
    rows = trainer.workdir.metrics.read()
    assert len(rows) == 2
    best = splits.best_row(rows)
    assert best["val_accuracy"] == max(row["val_accuracy"] for row in rows)
    assert [math.isfinite(row["test_accuracy"]) for row in rows] == [row is best for row in rows]
    trained = trainer.model.get_weights()
    trainer.model.load_weights(tmp_path / "run" / "best.weights.h5")
    on_val, on_test = (
        evaluate(trainer.model, data.load(photos, split)) for split in ("val", "test")
    )
    assert (best["val_accuracy"], best["test_accuracy"]) == pytest.approx(
        (on_val.top1, on_test.top1)
    )
    assert best["test_loss"] == pytest.approx(on_test.loss, rel=1e-4)
    # The trained network is the last epoch's, and a finished run that is started again tests
    # nothing.
    trainer.model.load_weights(tmp_path / "run" / "model.weights.h5")
    for before, after in zip(trained, trainer.model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    Trainer(trainer.recipe, tmp_path / "run", verbose=False).train()
    assert tested == [4, 4, 6]

    # What is said of the run says which images its figures are of.
    for split in ("val", "test"):
        assert cli.main(["evaluate", "--workdir", str(tmp_path / "run"), "--split", split]) == 0
        report = json.loads((tmp_path / "run" / "report.json").read_text())
        assert (report["split"], report["images"] if "images" in report else COUNTS[split] * 2) == (
            split,
            COUNTS[split] * 2,
        )
    assert cli.main(["report", str(tmp_path / "run"), "--no-gates"]) == 0
    page = " ".join((tmp_path / "run" / "report.html").read_text().split())
    assert "Lowest error on the validation images" in page
    assert "whose error on the test images is" in page


@run_eagerly()
def test_with_test_images_only_it_is_said_that_these_choose(photos, tmp_path, monkeypatch, capsys):
    (photos / "val").rename(tmp_path / "elsewhere")
    trainer = Trainer(recipe(photos, monkeypatch).override(epochs=1), tmp_path / "run")
    last = trainer.train()
    assert "no validation images: the best epoch is chosen on the 6 test images" in " ".join(
        capsys.readouterr().out.split()
    )
    assert "val_accuracy" not in last
    assert math.isfinite(last["test_accuracy"])


@run_eagerly()
def test_with_validation_images_only_the_figures_are_theirs(photos, tmp_path, monkeypatch):
    (photos / "test").rename(tmp_path / "elsewhere")
    short = recipe(photos, monkeypatch).override(epochs=1)
    last = Trainer(short, tmp_path / "run", verbose=False).train()
    assert math.isfinite(last["val_accuracy"])
    assert "test_accuracy" not in last


def test_a_run_that_was_stopped_in_its_test_has_no_accuracy_yet():
    """`ablate` would take the validation images' accuracy for that of the test images."""
    rows = [
        {"val_accuracy": 0.5, "test_accuracy": math.nan},
        {"val_accuracy": 0.75, "test_accuracy": math.nan},
    ]
    assert math.isnan(splits.last_accuracy(rows))
    rows[0]["test_accuracy"] = 0.25
    assert splits.last_accuracy(rows) == 0.25
    assert splits.last_accuracy([{"val_accuracy": 0.5}, {"val_accuracy": 0.75}]) == 0.75


@run_eagerly()
def test_keras_own_loop_tests_the_last_network(photos, tmp_path, monkeypatch):
    trainer = FitTrainer(recipe(photos, monkeypatch), tmp_path / "run", verbose=False)
    last = trainer.train()
    first, _ = trainer.workdir.metrics.read()
    assert math.isnan(first["test_accuracy"])
    assert last["test_accuracy"] == pytest.approx(trainer.evaluate(trainer.final_set)["accuracy"])
    assert last["val_accuracy"] == pytest.approx(trainer.evaluate()["accuracy"])


def test_a_run_of_an_earlier_version_gets_the_new_columns(tmp_path):
    from keras_senet.runs.workdir import WorkDir

    workdir = WorkDir(tmp_path, RECIPES["digits"], {})
    workdir.metrics.append({"step": 1, "epoch": 1, "test_accuracy": 0.5})
    workdir.metrics.append({"step": 2, "epoch": 2, "val_accuracy": 0.75})
    first, second = workdir.metrics.read()
    assert (first["test_accuracy"], second["val_accuracy"]) == (0.5, 0.75)
    assert math.isnan(first["val_accuracy"])
    assert math.isnan(second["test_accuracy"])
