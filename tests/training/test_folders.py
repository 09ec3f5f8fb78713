"""Training, continuing and evaluating on a folder of JPEGs of different sizes, one corrupt."""

import csv
import json
import shlex
import shutil

import numpy as np
import pytest
from eager import run_eagerly
from PIL import Image

from keras_senet import cli


@pytest.fixture
def photos(tmp_path):
    """Two classes with eight training and four test images each; the corrupt one is a training
    image.
    """
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 4)):
        for name in ("cat", "dog"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 256, (20 + i, 30 - i, 3), "uint8")
                Image.fromarray(pixels).save(folder / f"{i}.jpg")
    spoilt = tmp_path / "photos" / "train" / "dog" / "3.jpg"
    spoilt.write_bytes(spoilt.read_bytes()[:200])
    return tmp_path / "photos"


def command(photos, workdir, *flags):
    recipe = "--recipe imagenet --model SEResNet20 --image-size 16 --batch-size 4 --epochs 2"
    text = f"train {recipe} --milestones 1 --quiet"
    return cli.main(
        [*shlex.split(text), "--dataset", str(photos), "--workdir", str(workdir), *flags]
    )


@run_eagerly()
def test_a_corrupt_file_stops_the_run_with_its_name(photos, tmp_path, capsys):
    assert command(photos, tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(photos / "train" / "dog" / "3.jpg") in error


@pytest.mark.parametrize("damaged", [True, False])
def test_a_folder_of_few_images_is_told_of_their_damage_before_their_number(
    tmp_path, capsys, damaged
):
    for place in ("train/cat", "train/dog", "test/cat"):
        file = tmp_path / "photos" / place / "0.png"
        file.parent.mkdir(parents=True)
        Image.fromarray(np.zeros((20, 20, 3), "uint8")).save(file)
    if damaged:
        file = tmp_path / "photos" / "train" / "cat" / "0.png"
        file.write_bytes(file.read_bytes()[:-20])
    assert command(tmp_path / "photos", tmp_path / "run") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert ("0.png cannot be used" if damaged else "--batch-size 4") in line


@run_eagerly()
def test_it_is_left_out_and_the_run_goes_on(photos, tmp_path, capsys):
    """5 s on a slow machine: two trainings and an evaluation."""
    run = tmp_path / "run"
    assert command(photos, run, "--skip-corrupt", "--max-steps", "5") == 0
    assert command(photos, run, "--skip-corrupt") == 0
    assert "images left out: 1, listed in" in capsys.readouterr().out
    (row,) = csv.DictReader((run / "skipped.csv").read_text().splitlines())
    assert "3.jpg" in row["reason"]
    assert [
        row["step"] for row in csv.DictReader((run / "metrics.csv").read_text().splitlines())
    ] == ["4", "8"]
    last = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))[-1]
    assert cli.main(["evaluate", "--workdir", str(run)]) == 0
    report = json.loads((run / "report.json").read_text())
    assert report["accuracy"] == pytest.approx(float(last["test_accuracy"]))
    assert report["loss"] == pytest.approx(float(last["test_loss"]), rel=1e-5)
    assert (run / "per_class.csv").exists()
    assert (run / "confusion.png").exists()


@pytest.mark.parametrize("engine", ["trainer", "fit"])
@pytest.mark.parametrize("split", ["test", "val"])
def test_a_corrupt_image_that_is_not_trained_on_is_found_before_the_first_step(
    photos, tmp_path, capsys, engine, split
):
    """Where there are validation images, test images are first evaluated at the end of training."""
    (photos / "train" / "dog" / "3.jpg").unlink()
    for name in ("cat", "dog"):
        shutil.copytree(photos / "test" / name, photos / "val" / name)
    spoilt = photos / split / "dog" / "2.jpg"
    spoilt.write_bytes(spoilt.read_bytes()[:-100])
    assert command(photos, tmp_path / "run", "--engine", engine) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(spoilt) in line
    assert not list((tmp_path / "run").rglob("ckpt*"))
    assert not (tmp_path / "run" / "metrics.csv").exists()
