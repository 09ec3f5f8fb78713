"""Folders as people have them: which folders are splits, which are classes, and what is refused."""

import re
from pathlib import Path

import pytest
from data.files import encode, picture

from keras_senet import data
from keras_senet.detection.data.loading import load_data


@pytest.fixture(scope="module")
def image():
    return encode(picture(8, 8), "PNG")


def write(root, image, *files):
    """Images in a folder, or empty folders where the path ends with a slash."""
    root.mkdir(exist_ok=True)
    for file in files:
        path = root / file
        if file.endswith("/"):
            path.mkdir(parents=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image)
    return root


def classes(*names, below=""):
    return [f"{below}{name}/{i}.png" for name in names for i in range(2)]


@pytest.mark.parametrize(
    ("files", "splits", "names"),
    [
        (classes("cat", "dog"), (), ("cat", "dog")),
        # A class that has the name of a split has images directly in it.
        (classes("bus", "train"), (), ("bus", "train")),
        (classes("invalid", "valid"), (), ("invalid", "valid")),
        (classes("control", "Test", "val"), (), ("Test", "control", "val")),
        # Folders within classes are a part of them.
        (classes("cat/2024", "dog/a/b"), (), ("cat", "dog")),
        # Splits with or without folders beside them
        (classes("cat", "dog", below="train/"), ("train",), ("cat", "dog")),
        (
            [*classes("cat", "dog", below="train/"), "raw/", ".git/x.png", "__MACOSX/cat/1.png"],
            ("train",),
            ("cat", "dog"),
        ),
        (
            [*classes("a", "b", below="train/"), *classes("a", below="test/"), "more/1.png"],
            ("train", "test"),
            ("a", "b"),
        ),
        (
            [*classes("a", "b", below="Training/"), *classes("a", below="Testing/")],
            ("train", "test"),
            ("a", "b"),
        ),
        (
            [*classes("a", "b", below="TRAIN/"), *classes("b", below="Valid/"), "c/1.png"],
            ("train", "val"),
            ("a", "b"),
        ),
    ],
)
def test_which_folders_are_splits_and_which_are_classes(tmp_path, image, files, splits, names):
    folder = write(tmp_path / "photos", image, *files)
    assert data.splits(folder) == splits
    for split in splits or ["all"]:
        assert data.load(folder, split).class_names == names


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "photos' is empty: it must have class folders (CLASS/*.jpg), or train/"),
        (["1.png"], "photos' has images, but no class folders"),
        (["train/1.png"], "photos/train' has images, but no class folders"),
        (["train/1.png", "test1/1.png"], "has images, but no class folders"),
        (["train/1.png", "test/1.png"], "has images, but no class folders"),
        ([*classes("a", "b"), "c/"], "photos/c' has no images. It is empty"),
        (
            classes("a", "b", below="val/"),
            "no folder 'train' or 'training' with class folders, only 'val'",
        ),
        (
            [*classes("a", below="val/"), *classes("a", below="Test/")],
            "no folder 'train' or 'training' with class folders, only 'val', 'Test'",
        ),
        (
            [*classes("a", "b", below="training_set/"), *classes("a", "b", below="test_set/")],
            "photos' must have train/ and val/ or test/ with class folders in them. Received: "
            "'test_set', 'training_set'; rename these",
        ),
        (
            [*classes("a", "b", below="train/"), "bus/1.png"],
            "ambiguous: it has 'train' with class folders, and beside it 'bus' with images",
        ),
    ],
)
def test_what_cannot_be_trained_on_is_told_in_one_line(tmp_path, image, files, message):
    folder = write(tmp_path / "photos", image, *files)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        data.load(folder, "train")
    assert "\n" not in str(error.value)


def test_images_to_evaluate_on_need_no_training_images(tmp_path, image):
    folder = write(tmp_path / "photos", image, *classes("a", "b", below="test/"))
    assert data.load(folder, "test").class_names == ("a", "b")


def test_classes_that_are_in_one_split_only(tmp_path, image):
    files = [*classes("a", "b", below="train/"), "test/a/1.png", "test/b/", "val/b/1.png"]
    folder = write(tmp_path / "photos", image, *files)
    assert data.load(folder, "test").labels.tolist() == [0]
    assert data.load(folder, "val").labels.tolist() == [1]
    write(folder, image, "val/unknown/1.png")
    with pytest.raises(ValueError, match="must not have class folders .* has not: unknown"):
        data.load(folder, "val")


def test_a_training_run_in_the_folder_is_no_class(tmp_path, image):
    folder = write(tmp_path / "photos", image, *classes("a", "b"), "run/curves.png")
    (folder / "run" / "recipe.json").write_text("{}")
    with pytest.warns(UserWarning, match="1 .a training run., such as"):
        assert data.load(folder, "all").class_names == ("a", "b")


@pytest.mark.parametrize("name", ["photos", "my photos", "photos-2024"])
def test_a_bare_name_is_a_folder_where_no_dataset_has_it(tmp_path, image, monkeypatch, name):
    write(tmp_path / name, image, *classes("a", "b"))
    monkeypatch.chdir(tmp_path)
    assert len(data.load(name, "all", tmp_path / "tfds")) == 4


def test_a_bare_name_is_the_prepared_dataset_and_a_path_is_the_folder(
    prepared, tmp_path, image, monkeypatch
):
    write(tmp_path / "pictures", image, *classes("a", "b"))
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match=r"both a dataset of .*, and a folder: '\./pictures'"):
        assert len(data.load("pictures", "train", prepared)) == 10
    for path in ("./pictures", Path("pictures"), Path("./pictures")):
        assert len(data.load(path, "all", prepared)) == 4


def test_a_path_is_no_name_of_a_dataset(tmp_path, image, monkeypatch):
    write(tmp_path / "digits", image, *classes("a", "b"))
    monkeypatch.chdir(tmp_path)
    assert len(data.load(Path("digits"), "all")) == 4
    with pytest.raises(ValueError, match=r"no folder './cifar10'"):
        data.load(Path("cifar10"), "train")
    with pytest.raises(ValueError, match=r"no folder or file './scenes'"):
        load_data(Path("scenes"), "train")


@pytest.mark.parametrize("file", ["recipe.json", "se/recipe.json", "se/seed0/recipe.json"])
def test_a_run_with_the_name_of_its_dataset_is_no_folder_of_images(tmp_path, monkeypatch, file):
    """It has pictures, in folders."""
    path = tmp_path / "pictures" / file
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    (path.parent / "exports").mkdir()
    (path.parent / "exports" / "1.png").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="There is no dataset 'pictures'"):
        data.load("pictures", "train", tmp_path / "tfds")


def test_a_folder_of_loose_images_is_no_dataset(tmp_path, image, monkeypatch):
    write(tmp_path / "new", image, "1.png", "2.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"the folder 'new' has no class folders with images"):
        data.load("new", "train", tmp_path / "tfds")


def test_a_train_folder_hides_a_dataset(prepared, tmp_path, image, monkeypatch):
    write(tmp_path / "pictures", image, *classes("a", "b", below="train/"))
    monkeypatch.chdir(tmp_path)
    assert len(data.load("pictures", "train", prepared)) == 4
