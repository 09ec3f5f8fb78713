"""A run that is continued notices images that came, went or changed since it began."""

import json
import os
import re

import numpy as np
import pytest
from runs import ONE_EPOCH

from keras_senet import cli, data
from keras_senet.analysis import Ablation
from keras_senet.data.folders import load_folder
from keras_senet.recipes import VARIANTS, Recipe
from keras_senet.runs.workdir import WorkDir
from keras_senet.training.inputs import load_images

RECIPE = Recipe(epochs=2, batch_size=16)


@pytest.fixture
def folder(tmp_path):
    """Two classes of three files of four bytes in each of two splits: what is in them is not looked
    at.
    """
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            place = tmp_path / "images" / split / name
            place.mkdir(parents=True)
            for i in range(3):
                (place / f"{i}.jpg").write_bytes(b"four")
    return tmp_path / "images"


def begin(folder):
    """The work directory of a run on a folder of images, up to its first step."""
    images = {split: load_folder(folder, split) for split in ("train", "test")}
    workdir = WorkDir(folder.parent / "run", RECIPE, {}, images=images)
    workdir.begin_at(0)
    return workdir


def add(folder):
    for name in ("3.jpg", "4.jpg", "5.jpg"):
        (folder / "train" / "dog" / name).write_bytes(b"")


def remove(folder):
    (folder / "test" / "cat" / "1.jpg").unlink()


def replace(folder):
    (folder / "train" / "cat" / "2.jpg").write_bytes(b"seven..")


def move(folder):
    os.rename(folder / "train" / "cat" / "0.jpg", folder / "train" / "dog" / "a.jpg")


def everything(folder):
    add(folder), replace(folder), move(folder), remove(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (add, "train has 6 images then, 9 images now (3 added; first 'dog/3.jpg')"),
        (remove, "test has 6 images then, 5 images now (1 removed; first 'cat/1.jpg')"),
        (replace, "train has 6 images then, 6 images now (1 of another size; first 'cat/2.jpg')"),
        (move, "train has 6 images then, 6 images now (1 added, 1 removed; first 'dog/a.jpg')"),
        (
            everything,
            "train has 6 images then, 9 images now "
            "(4 added, 1 removed, 1 of another size; first 'dog/3.jpg'); "
            "test has 6 images then, 5 images now (1 removed; first 'cat/1.jpg')",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_changes_are_named(folder, change, said):
    begin(folder)
    about = (folder.parent / "run" / "recipe.json").read_bytes()
    change(folder)
    with pytest.raises(
        ValueError, match=re.escape(f"began: {said}. Put them back, or begin a run in another")
    ):
        begin(folder)
    (folder.parent / "run" / "checkpoints" / "images.json.gz").write_bytes(b"damaged")
    with pytest.raises(
        ValueError, match=r"began: (train|test) has 6 images then, \d images now[.;]"
    ):  # counts remain
        begin(folder)
    assert (folder.parent / "run" / "recipe.json").read_bytes() == about


def test_images_that_are_back_or_elsewhere_are_the_same(folder):
    begin(folder)
    add(folder)
    for file in (folder / "train" / "dog").glob("[345].jpg"):
        file.unlink()
    for file in folder.rglob("*.jpg"):
        os.utime(file, (1, 1))
    assert begin(folder).notes == []
    moved = folder.rename(folder.with_name("elsewhere"))
    assert begin(moved).notes == []


def test_names_that_are_not_text(folder):
    (folder / "train" / "dog" / 'a\nb, "c".jpg').write_bytes(b"1")
    os.close(os.open(os.fsencode(folder / "train" / "dog") + b"/\xff.jpg", os.O_CREAT))
    begin(folder)
    assert begin(folder).notes == []
    os.unlink(os.fsencode(folder / "train" / "dog") + b"/\xff.jpg")
    with pytest.raises(ValueError, match="1 removed"):
        begin(folder)


def test_a_run_of_an_earlier_version_records_them_from_now_on(folder):
    WorkDir(folder.parent / "run", RECIPE, {})
    file = folder.parent / "run" / "recipe.json"
    about = json.loads(file.read_text())
    del about["images"]
    file.write_text(json.dumps(about))
    assert re.match("the images of the run were not recorded", *begin(folder).notes)
    assert begin(folder).notes == []
    assert {
        split: each["images"] for split, each in json.loads(file.read_text())["images"].items()
    } == {
        "train": 6,
        "test": 6,
    }
    remove(folder)
    with pytest.raises(ValueError, match="images changed"):
        begin(folder)


def test_test_images_are_compared_where_they_choose_the_best_epoch(tmp_path):
    """Earlier versions did not record them: their runs go on."""
    found = load_images(RECIPE).by_split()
    assert found.keys() == {"train", "test"}
    WorkDir(tmp_path, RECIPE, {}, images={"train": found["train"]}).begin_at(0)
    assert WorkDir(tmp_path, RECIPE, {}, images=found).notes == []


def in_memory(**changes):
    images, labels = np.zeros((4, 8, 8, 3), "uint8"), np.array([0, 1, 0, 1])
    return data.Dataset(**{"images": images, "labels": labels, "class_names": ("a", "b")} | changes)


def test_images_in_memory_are_known_by_their_files_or_labels(tmp_path):
    """Pixels are not compared: they are decoded, and rounding differs between machines."""
    WorkDir(tmp_path / "run", RECIPE, {}, images={"train": in_memory()})
    WorkDir(
        tmp_path / "run",
        RECIPE,
        {},
        images={"train": in_memory(images=np.ones((4, 8, 8, 3), "uint8"))},
    )
    for other in (in_memory(labels=np.array([0, 1, 1, 0])), in_memory(files={"a.tfrecord": 8})):
        with pytest.raises(ValueError, match="train has 4 images then, 4 images now"):
            WorkDir(tmp_path / "run", RECIPE, {}, images={"train": other})
    files = {"a.tfrecord-0": 10, "a.tfrecord-1": 20}
    WorkDir(tmp_path / "files", RECIPE, {}, images={"train": in_memory(files=files)}).begin_at(0)
    with pytest.raises(ValueError, match=r"1 of another size; first 'a.tfrecord-1'"):
        WorkDir(
            tmp_path / "files",
            RECIPE,
            {},
            images={"train": in_memory(files=files | {"a.tfrecord-1": 21})},
        )


@pytest.mark.parametrize("engine", ["trainer", "fit"])
def test_the_command_refuses_other_images(tmp_path, monkeypatch, capsys, engine):
    recipe = cli_recipe()
    load = data.load
    images = {split: load("digits", split) for split in ("train", "test")}
    WorkDir(tmp_path, recipe, {}, images=images, engine=engine)

    def other(name, split, data_dir=None, **options):
        good = load(name, split, data_dir, **options)
        return data.Dataset(good.images[1:], good.labels[1:], good.class_names)

    monkeypatch.setattr(data, "load", other)
    assert cli.main(["train", *ONE_EPOCH, "--workdir", str(tmp_path), "--engine", engine]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "train has 80 images then, 79 images now" in error


def cli_recipe(**fields):
    from keras_senet.training import RECIPES

    return RECIPES["digits"].override(epochs=1, batch_size=16, warmup_epochs=0.0, **fields)


def test_an_ablation_compares_runs_on_the_same_images_alone(tmp_path):
    images = {"train": in_memory(), "test": in_memory()}
    WorkDir(tmp_path / "plain" / "seed0", cli_recipe(se=None), {}, images=images)
    ablation = Ablation(cli_recipe(), tmp_path, [VARIANTS["se"], VARIANTS["plain"]], [0])
    with pytest.raises(ValueError, match="train has 4 images then, 80 images now"):
        ablation.train()
    assert not (tmp_path / "se").exists()
