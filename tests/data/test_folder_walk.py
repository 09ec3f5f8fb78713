"""One walk over folders for training, evaluation and calibration: links, hidden files, what is no
image.
"""

import os
import shutil

import numpy as np
import pytest
from data.files import encode, picture

from keras_senet import data
from keras_senet.export.images import images_for
from keras_senet.files import printable, read_bytes
from keras_senet.images.walk import find_images


@pytest.fixture
def cats(tmp_path):
    """train/cat with three images."""
    folder = tmp_path / "train" / "cat"
    folder.mkdir(parents=True)
    for i in range(3):
        (folder / f"{i}.png").write_bytes(encode(picture(8, 8, i), "PNG"))
    return folder


def names(folder):
    return [os.path.relpath(path, folder) for path in find_images(folder).images]


def test_hidden_files_and_folders_are_left_out(cats):
    (cats / "._0.png").write_bytes(b"Mac OS X")
    (cats / ".thumbnails").mkdir()
    (cats / ".thumbnails" / "0.png").write_bytes(b"broken")
    assert names(cats) == ["0.png", "1.png", "2.png"]
    assert not find_images(cats).left_out


def test_two_folders_of_validation_images_are_refused_and_two_names_of_one_are_not(cats):
    root = cats.parent.parent
    shutil.copytree(root / "train", root / "val")
    (root / "valid").symlink_to("val")
    assert len(data.load(root, "val")) == 3
    shutil.copytree(root / "train", root / "validation")
    with pytest.raises(
        ValueError, match="one folder of validation images. Received: 'val' and 'validation'"
    ):
        data.load(root, "val")


@pytest.mark.parametrize("name", ["Val", "VALIDATION", "Validation", "vAlid"])
@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("TRAIN", "Test")])
def test_splits_are_found_in_any_capitals(cats, train, name, test):
    root = cats.parent.parent
    images = {split: names(root / "train") for split in ("train", "val", "test")}
    for other in (name, test):
        shutil.copytree(root / "train", root / other)
    (root / name / "cat" / "0.png").unlink()
    images["val"] = images["val"][1:]
    (root / "train").rename(root / train)
    assert data.splits(root) == ("train", "val", "test")
    for split, expected in images.items():
        assert list(data.load(root, split).listing()) == expected
    (root / "Train" / "cat").mkdir(parents=True)
    both = " and ".join(map(repr, sorted(["Train", train])))
    with pytest.raises(ValueError, match=f"one folder of training images. Received: {both}"):
        data.load(root, "train")


def link_to_itself(cats):
    (cats / "latest").symlink_to(".")


def links_to_each_other(cats):
    (cats / "a").symlink_to("b")
    (cats / "b").symlink_to("a")


def folders_that_link_to_each_other(cats):
    for one, other in (("x", "y"), ("y", "x")):
        (cats / one).mkdir(exist_ok=True)
        (cats / one / "link").symlink_to(f"../{other}")


def link_to_a_parent(cats):
    (cats.parent / "dog").mkdir()
    (cats.parent / "dog" / "1.png").write_bytes(encode(picture(8, 8), "PNG"))
    (cats / "up").symlink_to("..")
    (cats / "sub").mkdir()
    (cats / "sub" / "up").symlink_to("../..")


def link_to_nothing(cats):
    (cats / "9.png").symlink_to("nowhere.png")


def pipe_with_the_name_of_an_image(cats):
    os.mkfifo(cats / "9.png")
    (cats / "linked.png").symlink_to("9.png")


def link_to_a_device(cats):
    (cats / "9.png").symlink_to("/dev/zero")


def texts_and_others(cats):
    (cats / "LICENSE").write_text("text")
    (cats / "Thumbs.db").write_bytes(bytes(100))
    (cats / "empty").write_bytes(b"")


@pytest.mark.parametrize(
    "add",
    [
        link_to_itself,
        links_to_each_other,
        folders_that_link_to_each_other,
        link_to_a_parent,
        link_to_nothing,
        pipe_with_the_name_of_an_image,
        link_to_a_device,
        texts_and_others,
    ],
)
def test_each_image_is_found_once(cats, add):
    add(cats)
    assert names(cats) == ["0.png", "1.png", "2.png"]


def test_links_to_folders_are_followed_once(cats):
    store = cats.parent.parent / "store"
    shutil.copytree(cats, store)
    (cats / "a").symlink_to(store)
    (cats / "b").symlink_to(store)
    (cats / "c").mkdir()
    (cats / "c" / "3.png").write_bytes((cats / "0.png").read_bytes())
    (cats / "aa").symlink_to("c")  # real folders come first
    assert names(cats) == ["0.png", "1.png", "2.png", "c/3.png", "a/0.png", "a/1.png", "a/2.png"]
    linked = cats.parent / "linked"
    linked.symlink_to(store)
    assert names(linked) == ["0.png", "1.png", "2.png"]


def test_files_with_unknown_endings_are_images_by_content(cats):
    jpeg = encode(picture(8, 8))
    for name in ("a.jfif", "b.jpe", "c", "d.JPG", "e.tif"):
        (cats / name).write_bytes(jpeg)
    (cats / "f.dib").write_bytes(encode(picture(8, 8), "BMP"))
    assert names(cats) == [
        "0.png",
        "1.png",
        "2.png",
        "a.jfif",
        "b.jpe",
        "c",
        "d.JPG",
        "e.tif",
        "f.dib",
    ]
    (cats / "g.tif").write_bytes(b"II*\0")
    with pytest.raises(ValueError, match=r"g.tif' is not decoded; convert it"):
        find_images(cats)


def test_what_is_left_out_is_reported_with_the_reason(cats):
    (cats / "notes.txt").write_text("text")
    (cats / "9.png").symlink_to("nowhere.png")
    (cats / "locked").symlink_to("/proc/self/mem")
    (cats.parent / "loose.png").write_bytes((cats / "0.png").read_bytes())
    with pytest.warns(UserWarning, match="left out") as warned:
        dataset = data.load(cats.parent.parent, "train")
    assert len(dataset) == 3
    said = str(warned[0].message)
    assert "1 (not an image), such as '" + str(cats / "notes.txt") in said
    assert "1 (cannot be read), such as '" + str(cats / "locked") in said
    assert "1 (a broken link), such as '" + str(cats / "9.png") in said
    assert "1 (outside the class folders), such as '" + str(cats.parent / "loose.png") in said


def test_calibration_reads_what_training_reads(cats):
    (cats / "._0.png").write_bytes(b"Mac OS X")
    (cats / "latest").symlink_to(".")
    model = type("Model", (), {"preprocessing": __import__("keras_senet").Preprocessing.scaled(8)})
    images = images_for(model, str(cats.parent))
    np.testing.assert_array_equal(images, [picture(8, 8, i) for i in range(3)])


def test_names_that_are_not_utf_8(cats):
    image = os.fsencode(cats) + b"/caf\xe9.png"
    with open(image, "wb") as file:
        file.write((cats / "0.png").read_bytes())
    dataset = data.load(cats.parent.parent, "train")
    assert dataset.name_of(3) == str(cats / "caf\\xe9.png")
    dataset.name_of(3).encode()
    assert dataset.fetch(np.array([3]))[0][0] == (cats / "0.png").read_bytes()
    os.rename(os.fsencode(cats), os.fsencode(cats.parent) + b"/caf\xe9")
    with pytest.raises(ValueError, match=r"must be UTF-8. Received: '.*caf\\\\xe9'") as error:
        data.load(cats.parent.parent, "train")
    str(error.value).encode()


def test_pipes_and_folders_are_not_read(tmp_path):
    with pytest.raises(OSError, match="error: '/proc/self/mem'"):
        read_bytes("/proc/self/mem")  # which opens, but cannot be read
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="pipe' is not a regular file"):
        read_bytes(tmp_path / "pipe")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        read_bytes(tmp_path)
    assert printable("é") == "é"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_named(cats):
    (cats / "locked").mkdir(mode=0)
    with pytest.raises(PermissionError, match="locked"):
        find_images(cats)


@pytest.mark.parametrize("how", ["empty", "missing"])
def test_classes_come_from_train(cats, how):
    train = cats.parent
    for name in ("dog", "emu"):
        shutil.copytree(cats, train / name)
    for name in ("cat", "emu"):
        shutil.copytree(cats, train.parent / "test" / name)
    if how == "empty":
        (train.parent / "test" / "dog").mkdir()
    test = data.load(train.parent, "test")
    assert test.class_names == ("cat", "dog", "emu")
    assert test.labels.tolist() == [0, 0, 0, 2, 2, 2]


@pytest.mark.parametrize("name", ["val", "validation", "valid"])
def test_validation_images_by_any_name(cats, name):
    root = cats.parent.parent
    shutil.copytree(cats, root / name / "cat")
    assert data.splits(root) == ("train", "val")
    for split in ("val", "validation", "valid", "test"):
        assert len(data.load(root, split)) == 3
        assert data.resolve_split(root, split) == "val"
    (root / "test" / "cat").mkdir(parents=True)
    (root / "test" / "cat" / "1.png").write_bytes((cats / "0.png").read_bytes())
    assert data.splits(root) == ("train", "val", "test")
    assert (len(data.load(root, "val")), len(data.load(root, "test"))) == (3, 1)
