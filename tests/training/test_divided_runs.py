"""Runs on images that have no validation and test images of their own, and small ones."""

import csv
import json
import math
import shlex
import shutil
from types import SimpleNamespace

import little
import numpy as np
import pytest
from eager import run_eagerly
from PIL import Image

from keras_senet import cli, data
from keras_senet.cli import export
from keras_senet.cli.flags import read_options
from keras_senet.cli.network import Loaded, load_networks, open_images
from keras_senet.cli.options import TrainOptions
from keras_senet.cli.options.shared import NetworkOptions
from keras_senet.runs.record import read_division
from keras_senet.training import RECIPES, Trainer
from keras_senet.training.fit import FitTrainer
from keras_senet.training.inputs import lower_batch_size

COUNTS = {"blue": 12, "green": 8, "red": 5}
KEPT = {"blue": 2, "green": 2, "red": 1}


def write(folder, counts=COUNTS):
    """Class folders with so many random images of 8x8 pixels."""
    for number, (name, count) in enumerate(counts.items()):
        random = np.random.default_rng(number)
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = random.integers(0, 256, (8, 8, 3), "uint8")
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture
def photos(tmp_path, monkeypatch):
    little.decode_folders(monkeypatch)
    return write(tmp_path / "photos")


def recipe(photos, **fields):
    return RECIPES["digits"].override(
        **{"dataset": str(photos), "epochs": 2, "warmup_epochs": 0.0, "batch_size": 10} | fields
    )


def train(*flags):
    return cli.main(["train", *shlex.split("--recipe digits --epochs 1 --warmup-epochs 0"), *flags])


def read_csv(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def parts(folder, **options):
    """The images of both parts, by their names."""
    options = {"validation_fraction": 0.2, **options}
    return {split: set(data.load(folder, split, **options).listing()) for split in ("train", "val")}


# That Keras' loop continues is in test_fit.py, and its division below.
@pytest.mark.parametrize("engine", [Trainer, pytest.param(FitTrainer, marks=pytest.mark.slow)])
@run_eagerly()
def test_a_part_is_kept_and_listed_and_a_continued_run_has_the_same(
    photos, tmp_path, capsys, engine
):
    fields = recipe(photos, seed=3)
    first = engine(fields, tmp_path / "run", verbose=False, max_steps=2)
    first.train()
    assert (len(first.train_set), len(first.test_set), first.split) == (20, 5, "val")
    assert first.final_set is None
    listed = read_csv(tmp_path / "run" / "split.csv")
    found = {"train": set(), "val": set()}
    for row in listed:
        found[row["split"]].add(row["path"])
        assert row["path"].startswith(f"{row['class']}/")
    assert found == parts(photos, seed=3) != parts(photos, seed=4)
    capsys.readouterr()
    again = engine(fields, tmp_path / "run", verbose=False)
    again.train()
    assert "5 of the 25 images are kept for validation: split.csv" in capsys.readouterr().err
    assert read_csv(tmp_path / "run" / "split.csv") == listed
    rows = again.workdir.metrics.read()
    assert [row["epoch"] for row in rows] == [1, 2]
    assert all(math.isfinite(row["val_accuracy"]) for row in rows)
    assert sum(int(row["images"]) for row in read_csv(tmp_path / "run" / "per_class.csv")) == 5


@pytest.mark.parametrize("engine", ["trainer", "fit"])
def test_images_that_are_added_or_removed_are_noticed(photos, tmp_path, capsys, engine):
    """Also where the batch size was lowered to their number, and where the run is extended."""
    make = {"trainer": Trainer, "fit": FitTrainer}[engine]
    fields = RECIPES["digits"].override(dataset=str(photos), epochs=1, warmup_epochs=0.0)
    make(fields, tmp_path / "run", lower_batch=True)._begin_at(0)
    (tmp_path / "run" / "checkpoints").mkdir(exist_ok=True)
    (tmp_path / "run" / "checkpoints" / "ckpt-1.safetensors").touch()
    about = json.loads((tmp_path / "run" / "recipe.json").read_text())
    del about["class_names"]  # as in a run of an earlier version
    (tmp_path / "run" / "recipe.json").write_text(json.dumps(about))
    run = ["--dataset", str(photos), "--workdir", str(tmp_path / "run"), "--engine", engine]
    alone = ["train", "--workdir", str(tmp_path / "run")]
    more = 80  # than the recipe's batch size of 64, which is then not lowered
    for i in range(more):
        shutil.copy(photos / "red" / "0.png", photos / "red" / f"new{i}.png")
    for said in ("added", "removed"):
        for status in (train(*run), cli.main(alone), cli.main([*alone, "--epochs", "3"])):
            assert status == 2
        for line in capsys.readouterr().err.splitlines():
            assert "images changed since the run" in line
            assert said in line
        if said == "added":
            for i in range(more):
                (photos / "red" / f"new{i}.png").unlink()
            for i in range(3, 12):  # too few for the run's batch size
                (photos / "blue" / f"{i}.png").unlink()
    assert json.loads((tmp_path / "run" / "recipe.json").read_text()) == about


def test_a_lowered_batch_size_of_a_run_is_for_its_number_of_replicas(photos, tmp_path):
    """One that was lowered to the odd number of images, for one replica."""
    (photos / "blue" / "0.png").unlink()
    given = recipe(photos, batch_size=64)
    begun = Trainer(given, tmp_path / "run", lower_batch=True)
    assert begun.recipe.batch_size == 19
    with pytest.raises(ValueError, match=r"must be a multiple of 2.*Received: batch_size=19"):
        Trainer(given, tmp_path / "run", strategy="mirrored", lower_batch=True)


@run_eagerly()
def test_commands_find_the_split_of_a_run(photos, tmp_path, capsys):
    run = tmp_path / "run"
    last = Trainer(recipe(photos, seed=5, epochs=1), run, verbose=False).train()
    before = parts(photos, seed=5)
    for i in range(100, 120):  # new images, which the run has not seen
        shutil.copy(photos / "red" / "0.png", photos / "red" / f"{i}.png")
    assert parts(photos, seed=5) != before
    (loaded,) = load_networks(NetworkOptions(workdir=str(run)))
    for split, images in (("val", 5), ("test", 5), ("train", 20), ("all", 45)):
        options = NetworkOptions(workdir=str(run), split=split)
        opened = open_images(options, loaded, upright=True)
        assert opened.split == ("val" if split == "test" else split)
        assert len(opened.images) == images
        if split != "all":
            assert set(opened.images.listing()) == before[opened.split]
    capsys.readouterr()
    assert cli.main(["evaluate", "--workdir", str(run)]) == 0
    report = json.loads((run / "report.json").read_text())
    assert (report["split"], report["images"]) == ("val", 5)
    assert report["accuracy"] == pytest.approx(last["val_accuracy"])
    rows = read_csv(run / "per_class.csv")
    assert [int(row["images"]) for row in rows] == list(KEPT.values())
    accuracies = [float(row["top1"]) for row in rows]
    assert report["balanced_accuracy"] == pytest.approx(sum(accuracies) / 3)
    assert cli.main(["excitations", "--workdir", str(run), "--split", "train"]) == 0
    assert "on 20 images of" in " ".join(capsys.readouterr().out.split())
    pruned = tmp_path / "pruned"
    flags = ["--workdir", str(run), "--remove-se", "--constant", "--output", str(pruned)]
    assert cli.main(["prune", *flags]) == 0
    assert "on 5 images of" in " ".join(capsys.readouterr().out.split())
    (loaded,) = load_networks(NetworkOptions(workdir=str(pruned / "no-se.keras")))
    opened = open_images(NetworkOptions(workdir="w"), loaded, upright=True)
    assert set(opened.images.listing()) == before["val"]
    assert cli.main(["report", str(run), "--split", "val", "--no-gates"]) == 0
    assert "on 5 validation images." in " ".join((run / "report.html").read_text().split())
    other = tmp_path / "other"
    write(other, dict.fromkeys(COUNTS, 3))
    assert cli.main(["evaluate", "--workdir", str(run), "--dataset", str(other)]) == 0
    assert "other, all" in " ".join(capsys.readouterr().out.split())
    report = json.loads((run / "report.json").read_text())
    assert (report["split"], report["images"]) == ("all", 9)
    assert cli.main(["report", str(run), "--dataset", str(other), "--no-gates"]) == 0
    assert f"on all 9 images of {other}." in " ".join((run / "report.html").read_text().split())


def test_all_of_another_dataset_is_evaluated(photos, tmp_path):
    """Its images may be named as the run's; the run's own are known where they are now."""
    fields, run = recipe(photos, seed=5), tmp_path / "run"
    Trainer(fields, run, verbose=False)._begin_at(0)
    before = parts(photos, seed=5)
    model = SimpleNamespace(preprocessing=SimpleNamespace(upright=True))
    loaded = Loaded("SEResNet20", None, model, str(photos), read_division(run, fields))

    def opened(dataset, split="test"):
        options = NetworkOptions(workdir=str(run), dataset=str(dataset), split=split)
        found = open_images(options, loaded, upright=True)
        return found.split, len(found.images), set(found.images.listing())

    other = write(tmp_path / "other")
    for file in other.rglob("*.png"):
        Image.new("RGB", (9, 9)).save(file)
    assert opened(other)[:2] == opened(other, "train")[:2] == ("all", 25)
    shutil.copytree(other, tmp_path / "whole" / "train")
    assert opened(tmp_path / "whole")[:2] == ("all", 25)
    assert opened(tmp_path / "whole", "train")[:2] == ("train", 25)
    for i in range(3):
        shutil.copytree(other, tmp_path / "elsewhere" / f"class{i}" / "below")
    assert opened(tmp_path / "elsewhere")[:2] == ("all", 75)
    for split, dataset, count in (("all", other, 25), ("val", photos, 5)):
        found = export._open(loaded, SimpleNamespace(data_dir=None), str(dataset))
        assert (found.split, len(found.images)) == (split, count)
    moved = photos.rename(tmp_path / "moved")
    shutil.copy(moved / "red" / "0.png", moved / "red" / "new.png")
    for split in ("val", "train"):
        assert opened(moved, split) == (split, len(before[split]), before[split])
    assert opened(moved, "all")[:2] == ("all", 26)


def test_a_runs_own_folder_is_calibrated_on_without_its_validation_images(
    photos, tmp_path, monkeypatch
):
    fields, run = recipe(photos, seed=5), tmp_path / "run"
    Trainer(fields, run, verbose=False)._begin_at(0)
    model = SimpleNamespace(preprocessing=SimpleNamespace(upright=True))
    loaded = Loaded("SEResNet20", None, model, str(photos), read_division(run, fields))
    taken = []

    def keep(_, images):
        taken.append(set(images.listing()))
        return np.zeros(0), None

    monkeypatch.setattr(export, "images_of", keep)
    options = SimpleNamespace(
        calibration=f"{photos}/", dataset=None, data_dir=None, evaluate_images=0
    )
    export._read_images(loaded, options, calibrates=False)
    assert taken == [parts(photos, seed=5)["train"]]


def test_without_a_run_all_images_are_evaluated(photos):
    options = NetworkOptions(model="SEResNet20", dataset=str(photos))
    opened = open_images(options, Loaded("SEResNet20", None, None, None), upright=True)
    assert (opened.split, len(opened.images)) == ("all", 25)


@pytest.mark.parametrize("engine", ["trainer", "fit"])
@run_eagerly()
def test_figures_of_each_class_are_written_and_shown(tmp_path, capsys, monkeypatch, engine):
    """Of test images, where there are some; a class may have none."""
    little.decode_folders(monkeypatch)
    for split, counts in (("train", COUNTS), ("val", COUNTS), ("test", {"blue": 3, "red": 2})):
        write(tmp_path / "photos" / split, counts)
    run = ["--dataset", str(tmp_path / "photos"), "--workdir", str(tmp_path / "run")]
    assert train(*run, "--quiet", "--engine", engine) == 0
    printed = capsys.readouterr()
    assert "classes without test images: green\n" in printed.err
    text = " ".join(printed.out.replace("│", " ").split())
    assert "Classes, test images" in text
    assert "green 0 no images" in text
    rows = read_csv(tmp_path / "run" / "per_class.csv")
    assert [(row["class"], row["images"]) for row in rows] == [
        ("blue", "3"),
        ("green", "0"),
        ("red", "2"),
    ]
    assert rows[1]["top1"] == ""
    known = [float(row["top1"]) for row in rows if row["top1"]]
    assert f"balanced accuracy, the mean over classes: {100 * sum(known) / 2:.2f}%" in text
    last = read_csv(tmp_path / "run" / "metrics.csv")[-1]
    correct = sum(int(row["correct"]) for row in rows)
    assert float(last["test_accuracy"]) == pytest.approx(correct / 5)


@pytest.mark.parametrize(
    ("fields", "images", "replicas", "batch_size"),
    [
        ({}, 20, 1, 20),
        ({}, 19, 2, 18),
        ({"accumulation": 8}, 20, 1, 16),
        ({"mixup": 0.2, "accumulation": 2}, 21, 1, 20),
        ({"mixup": 0.2, "accumulation": 2}, 23, 2, 16),
    ],
    ids=str,
)
def test_the_largest_batch_size_that_images_fill(fields, images, replicas, batch_size):
    """A multiple of the replicas, micro-batches and images that are mixed with each other."""
    lowered = lower_batch_size(recipe("photos", batch_size=64, **fields), images, replicas)
    assert lowered == recipe("photos", batch_size=batch_size, **fields)


@pytest.mark.parametrize(
    ("engine", "fields", "batch_size"),
    [
        (Trainer, {"mixup": 0.2, "validation_fraction": 0.3}, 16),
        (FitTrainer, {"mixup": 0.2, "accumulation": 2}, 20),
    ],
    ids=str,
)
def test_the_batch_size_is_lowered_to_the_images(photos, tmp_path, engine, fields, batch_size):
    for _ in range(2):
        given = recipe(photos, batch_size=64, **fields)
        trainer = engine(given, tmp_path / "run", verbose=False, lower_batch=True)
        assert trainer.recipe == given.override(batch_size=batch_size, pipeline="tf.data")
        about = json.loads((tmp_path / "run" / "recipe.json").read_text())["recipe"]
        assert about["batch_size"] == batch_size
        (images, _) = next(iter(trainer.data.batches(0, 1)))
        assert len(images) == batch_size
        assert any(f"the batch size is {batch_size} in" in note for note in trainer.workdir.notes)


@run_eagerly()
def test_the_command_lowers_that_of_a_recipe_and_continues_with_it(photos, tmp_path, capsys):
    run = ["--dataset", str(photos), "--workdir", str(tmp_path / "run")]
    assert train(*run, "--quiet", "--max-steps", "1") == 0
    assert "the batch size is 20 in place of 64: there are 20" in capsys.readouterr().err
    for command in ([*run, "--recipe", "digits"], ["--workdir", str(tmp_path / "run")]):
        assert read_options("train", TrainOptions, command).changed == {
            field for field in ["dataset"] if field in " ".join(command)
        }
    assert train(*run, "--quiet") == 0
    assert cli.main(["train", "--workdir", str(tmp_path / "run"), "--quiet"]) == 0
    about = json.loads((tmp_path / "run" / "recipe.json").read_text())["recipe"]
    assert about["batch_size"] == 20


def test_a_batch_size_that_is_asked_for_is_not_lowered(photos, tmp_path, capsys):
    run = ["--dataset", str(photos), "--workdir", str(tmp_path / "run")]
    assert train(*run, "--batch-size", "21") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "from 1 to the number of images, 20. Received: --batch-size 21" in line
    with pytest.raises(ValueError, match="batch_size=21"):
        Trainer(recipe(photos, batch_size=21), tmp_path / "run")
    lowered = Trainer(recipe(photos, batch_size=21), tmp_path / "run", lower_batch=True)
    assert lowered.recipe.batch_size == 20


@pytest.mark.parametrize("engine", ["trainer", pytest.param("fit", marks=pytest.mark.slow)])
@run_eagerly()
def test_a_table_of_paths_and_labels(photos, tmp_path, capsys, engine):
    files = sorted(photos.rglob("*.png"))
    lines = [f"{file.relative_to(tmp_path)};{i % 3}" for i, file in enumerate(files)]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["file;label", *lines]) + "\n")
    run = ["--dataset", str(table), "--workdir", str(tmp_path / "run"), "--engine", engine]
    assert train(*run, "--quiet") == 0
    listed = read_csv(tmp_path / "run" / "split.csv")
    assert sorted(row["path"] for row in listed) == [line.split(";")[0] for line in lines]
    assert {row["class"] for row in listed} == {"0", "1", "2"}
    assert sum(row["split"] == "val" for row in listed) == 6  # of 9, 8 and 8
    table.write_text("\n".join(["file;label", f"{lines[0][:-1]}2", *lines[1:]]) + "\n")
    capsys.readouterr()
    assert train(*run, "--quiet") == 2
    assert "images changed since the run" in capsys.readouterr().err


def nothing(folder):
    folder.mkdir()


def one_class(folder):
    write(folder, {"cat": 4})


def one_class_and_an_empty_one(folder):
    write(folder, {"cat": 4})
    (folder / "dog").mkdir()


def images_without_classes(folder):
    write(folder, {"cat": 4})
    for file in (folder / "cat").iterdir():
        file.rename(folder / file.name)
    (folder / "cat").rmdir()


def class_in_test_only(folder):
    write(folder / "train")
    write(folder / "test", COUNTS | {"violet": 1})


def images_to_test_only(folder):
    write(folder / "test")


def single_images(folder):
    write(folder, {"cat": 1, "dog": 1})


@pytest.mark.parametrize("engine", ["trainer", "fit"])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (nothing, "photos' is empty: it must have class folders"),
        (one_class, "two classes or more. Received: "),
        (one_class_and_an_empty_one, "dog' has no images. It is empty"),
        (images_without_classes, "photos' has images, but no class folders"),
        (class_in_test_only, "must not have class folders that"),
        (images_to_test_only, "no folder 'train' or 'training' with class folders, only 'test'"),
        (single_images, "a class with two images or more"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_folders_that_cannot_be_trained_on_end_with_one_line(tmp_path, capsys, make, said, engine):
    make(tmp_path / "photos")
    run = ["--dataset", str(tmp_path / "photos"), "--workdir", str(tmp_path / "run")]
    assert train(*run, "--engine", engine) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "run").exists()
    if make is class_in_test_only:
        assert line.endswith("violet")
