"""Datasets without images for evaluation: a part is kept, and is called what it is."""

import csv
import json

import little
import little_scenes
import numpy as np
import pytest
from detection_runs import leave, write_images
from html_page import parsed
from PIL import Image

import keras_senet_cli
from keras_senet import detection, models
from keras_senet.detection.data import resolve_split
from keras_senet.report import write_page

FRACTION = {"validation_fraction": 0.25}


@pytest.fixture(autouse=True)
def nothing_is_drawn(monkeypatch):
    """What figures show is in test_pictures.py and test_command.py."""
    little.skip_drawing(monkeypatch)


@pytest.fixture
def folder(tmp_path):
    """A folder with train.json only, of 12 images: of each two have the second and third class, one
    has none, and all others have the first; and the first of all others, too.
    """
    (tmp_path / "photos").mkdir()
    write(tmp_path / "photos" / "train.json", range(12))
    return tmp_path / "photos"


def write(file, numbers):
    labels = {0: (0, 1), 1: (0, 1), 2: (2,), 3: (2,), 4: ()}
    images, annotations = [], []
    for number in numbers:
        name = f"{number}.png"
        Image.new("RGB", (40, 36), (9 * number, 90, 30)).save(file.parent / name)
        images.append({"id": 100 - number, "file_name": name})
        for label in labels.get(number, (0,)):
            box = {"image_id": 100 - number, "category_id": label + 1, "bbox": [4, 6, 10, 20]}
            annotations.append({"id": len(annotations) + 1, **box})
    categories = [{"id": i + 1, "name": name} for i, name in enumerate("abc")]
    content = {"images": images, "annotations": annotations, "categories": categories}
    file.write_text(json.dumps(content))


def load(folder, split, **division):
    return detection.load_data(folder, split, **(division or FRACTION))


def files(images):
    return {path.name for path in images.images}


def classes(images):
    return set(np.concatenate([truth.classes for truth in images.truths]).tolist())


def test_a_part_is_kept_for_validation(folder):
    train, val = load(folder, "train"), load(folder, "val")
    assert files(train) | files(val) == {f"{i}.png" for i in range(12)}
    assert not files(train) & files(val)
    assert len(val) == 4  # a quarter of 7, and one of each two
    assert classes(train) == classes(val) == {0, 1, 2}
    assert train.ids == [100 - int(path.stem) for path in train.images]
    for split in ("test", "valid"):
        assert files(load(folder, split)) == files(val)
    with pytest.raises(ValueError, match="`split` must be 'train' for "):
        detection.load_data(folder, "val")


def test_the_part_follows_from_the_names_and_the_seed(folder):
    before = files(load(folder, "val"))
    content = json.loads((folder / "train.json").read_text())
    content["images"].reverse()
    (folder / "train.json").write_text(json.dumps(content))
    assert files(load(folder.rename(folder.with_name("moved")), "val")) == before
    others = [files(load(folder.with_name("moved"), "val", seed=i, **FRACTION)) for i in range(9)]
    assert any(each != before for each in others)


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 1.5, float("nan")])
def test_a_part_is_above_0_and_below_1(folder, fraction):
    with pytest.raises(ValueError, match="`validation_fraction` must be above 0 and below 1. Rec"):
        load(folder, "val", validation_fraction=fraction)


def test_a_file_that_is_listed_twice_is_in_one_part(folder):
    content = json.loads((folder / "train.json").read_text())
    again = [each | {"id": each["id"] + 1000} for each in content["images"]]
    content["images"] += again  # without boxes
    (folder / "train.json").write_text(json.dumps(content))
    train, val = load(folder, "train"), load(folder, "val")
    assert len(train) + len(val) == 24
    assert not files(train) & files(val)


def test_images_without_a_common_rarest_class_are_divided(folder):
    """Each has a class of its own, and two have none: none of these is kept alone."""
    content = json.loads((folder / "train.json").read_text())
    content["categories"] = [{"id": i, "name": f"class {i}"} for i in range(1, 12)]
    numbers = [each["id"] for each in content["images"][:10]]
    content["annotations"] = [
        {"id": 2 * i + k, "image_id": number, "category_id": label, "bbox": [4, 6, 10, 20]}
        for i, number in enumerate(numbers, 1)
        for k, label in enumerate((i, 11))
    ]
    (folder / "train.json").write_text(json.dumps(content))
    boxes = [sum(len(each.boxes) > 0 for each in load(folder, s).truths) for s in ("train", "val")]
    assert boxes == [7, 3]  # a quarter of 10, rounded upwards


def test_other_images_are_not_divided(folder):
    write(folder / "test.json", range(3))
    assert len(load(folder, "train")) == 12
    assert len(load(folder, "test")) == 3
    assert len(load(folder / "train.json", "val")) == 12


@pytest.mark.parametrize(
    ("there", "split", "options", "expected"),
    [
        (("train",), "test", {"divides": True}, "val"),
        (("train",), "train", {"divides": True}, "train"),
        (("train",), "test", {}, "all"),
        (("train",), "test", {"trained_on": "FILE"}, "train"),
        (("train",), "train", {}, "train"),
        (("train", "val"), "test", {}, "val"),
        (("train", "val", "test"), "test", {"divides": True}, "test"),
        (("FILE",), "test", {}, "all"),
        (("FILE",), "test", {"trained_on": "FILE"}, "train"),
    ],
)
def test_which_images_a_split_is(folder, there, split, options, expected):
    for name in set(there) - {"FILE"}:
        write(folder / f"{name}.json", range(3))
    file = str(folder / "train.json")
    options = {name: file if value == "FILE" else value for name, value in options.items()}
    assert resolve_split(file if there == ("FILE",) else folder, split, **options) == expected


def test_a_run_keeps_a_part_and_says_so(folder, monkeypatch):
    little_scenes.put_in_place(monkeypatch.setattr)
    monkeypatch.setattr(little_scenes.trainer_module, "load_data", detection.load_data)
    assert models.get("SEResNet18") is little_scenes.NETWORK
    recipe = little_scenes.RECIPE.override(dataset=str(folder), validation_fraction=0.25)
    trainer = detection.Trainer(recipe, folder.with_name("run"), verbose=False)
    assert "4 of the 12 images are kept for validation: split.csv" in trainer.workdir.notes
    assert trainer.validation.describe().endswith("chosen on the 4 validation images")
    trainer._begin_at(0)
    with (folder.with_name("run") / "split.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["path"] for row in rows if row["split"] == "val"} == files(load(folder, "val"))
    assert {row["class"] for row in rows} == {"a", "a, b", "c", ""}


def evaluate(capsys, *arguments):
    assert keras_senet_cli.main(["detect", "evaluate", *map(str, arguments)]) == 0
    printed = capsys.readouterr().out
    return " ".join(printed.split())


def test_evaluation_is_of_the_runs_part_and_says_which(
    tmp_path, oracle, detector, capsys, monkeypatch
):
    """The run's `split.csv` decides, also when there are more images now."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(detection, "load", lambda path: detector)
    coco = write_images(tmp_path / "coco", oracle)
    (coco / "test.json").unlink()
    workdir = leave(tmp_path / "run", "coco", detector)
    (workdir / "split.csv").write_text("path,class,split\r\n1.png,a,val\r\n0.png,a,train\r\n")
    printed = evaluate(capsys, "--workdir", workdir)
    report = json.loads((workdir / "report.json").read_text())
    assert (report["split"], report["images"]) == ("val", 1)
    assert {each["image_id"] for each in json.loads((workdir / "results.json").read_text())} == {11}
    assert "coco, val: 1 images" in printed
    page = write_page(workdir).path.read_text()
    assert "on 1 validation images" in " ".join(parsed(page).one("header").text.split())


def test_all_of_another_dataset_is_evaluated(tmp_path, oracle, detector, capsys, monkeypatch):
    """Nothing of it was trained on: where it has training images only, none are left out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(detection, "load", lambda path: detector)
    for name in ("coco", "other"):
        (write_images(tmp_path / name, oracle) / "test.json").unlink()
    other = (tmp_path / "other" / "train.json").read_text()
    (tmp_path / "other" / "train.json").write_text(other.replace('"1.png"', '"new.png"'))
    (tmp_path / "other" / "images" / "1.png").rename(tmp_path / "other" / "images" / "new.png")
    workdir = leave(tmp_path / "run", "coco", detector)
    (workdir / "split.csv").write_text("path,class,split\r\n1.png,a,val\r\n0.png,a,train\r\n")
    weights = ("--model", workdir / "model.safetensors")
    for given in (("--workdir", workdir), weights):
        printed = evaluate(capsys, *given, "--dataset", "other")
        assert "other, all: 2 images" in printed
        assert "trained on" not in printed
    assert "other, train: 2 images" in evaluate(
        capsys, "--workdir", workdir, "--dataset", "other", "--split", "train"
    )
    # The run's own by another name, by its file, and in another place
    printed = evaluate(capsys, "--workdir", workdir, "--dataset", "./coco/")
    assert "./coco/, val: 1 images" in printed
    printed = evaluate(capsys, "--workdir", workdir, "--dataset", "coco/train.json")
    assert "train: 2 images" in printed
    assert "these images were trained on" in printed
    (tmp_path / "coco").rename("moved")
    assert "moved, val: 1 images" in evaluate(capsys, "--workdir", workdir, "--dataset", "moved")
    page = write_page(workdir, dataset="other").path.read_text()
    assert "on 2 images" in " ".join(parsed(page).one("header").text.split())


def test_one_file_is_called_what_it_is(tmp_path, oracle, detector, capsys, monkeypatch):
    """Training images where the run trained on it, and else all."""
    monkeypatch.setattr(detection, "load", lambda path: detector)
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "coco", oracle)
    workdir = leave(tmp_path / "run", "coco/train.json", detector)
    printed = evaluate(capsys, "--workdir", workdir)
    assert "train.json, train: 2 images" in printed
    assert "these images were trained on: the figures say nothing of others" in printed
    page = write_page(workdir).path.read_text()
    assert "on 2 training images" in " ".join(parsed(page).one("header").text.split())
    printed = evaluate(capsys, "--workdir", workdir, "--dataset", "coco/train.json")
    assert "these images were trained on" in printed
    printed = evaluate(capsys, "--workdir", workdir, "--dataset", "coco/test.json")
    assert "test.json, all: 2 images" in printed
    assert "trained on" not in printed


def test_the_recipe_for_own_images_starts_on_them(folder, monkeypatch, capsys):
    """A folder with train.json only: one step."""
    workdir = folder.with_name("run")
    recipe = little_scenes.start_recipe(
        lambda *arguments: keras_senet_cli.main([*map(str, arguments)]),
        monkeypatch,
        "finetune",
        workdir,
        *("--dataset", folder, "--batch-size", 2),
    )
    assert recipe["validation_fraction"] == 0.2
    assert (recipe["frozen_stages"], recipe["frozen_bn"]) == (2, True)
    assert detection.RECIPES["finetune"].result == "not run"
    printed = capsys.readouterr()
    assert "3 of the 12 images are kept for validation: split.csv" in printed.out + printed.err
    assert (workdir / "model.safetensors").is_file()
    assert len((workdir / "split.csv").read_text().splitlines()) == 13
