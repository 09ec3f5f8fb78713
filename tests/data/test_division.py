"""The part of a dataset without validation and test images that is kept for validation."""

import itertools
import os
import shutil
from collections import Counter

import numpy as np
import pytest
from data.files import encode, example, picture, prepare
from sklearn.model_selection import StratifiedShuffleSplit

from keras_senet import data
from keras_senet.data.division import Division, format_splits

COUNTS = {"a": 1, "b": 2, "c": 3, "d": 10, "e": 25}


@pytest.fixture(scope="module")
def image():
    return encode(picture(8, 8), "PNG")


def write_folder(folder, image, counts, order=1):
    """Class folders with so many equal images, written in their order or in the opposite one."""
    for name in list(counts)[::order]:
        (folder / name).mkdir(parents=True)
        for i in range(counts[name])[::order]:
            (folder / name / f"{i}.png").write_bytes(image)
    return folder


def names(dataset):
    return set(dataset.listing())


def load(folder, split, data_dir=None, *, validation_fraction=0.2, **options):
    """As a run does."""
    return data.load(folder, split, data_dir, validation_fraction=validation_fraction, **options)


@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.5, 0.99])
def test_of_each_class_the_fraction_is_kept_but_one_image_at_least_and_not_all(fraction):
    labels = np.repeat(np.arange(40), np.arange(1, 41))
    division = Division(fraction, seed=3)
    parts = division.divide([str(i) for i in range(len(labels))], labels)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(labels)))
    kept = Counter(labels[parts["val"]].tolist())
    for label in range(40):
        count = label + 1
        expected = min(max(1, int(fraction * count + 0.5)), count - 1)  # by hand: half goes up
        assert kept[label] == expected
        assert abs(kept[label] - fraction * count) <= 1


def test_the_counts_are_those_of_scikit_learn_to_one_image_per_class():
    labels = np.random.default_rng(0).choice(7, 1000, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05])
    (train, val) = next(StratifiedShuffleSplit(1, test_size=0.2).split(labels, labels))
    parts = Division(0.2).divide([str(i) for i in range(1000)], labels)
    for theirs, ours in ((train, parts["train"]), (val, parts["val"])):
        assert np.abs(np.bincount(labels[theirs]) - np.bincount(labels[ours])).max() <= 1


def test_it_depends_on_names_and_seed_and_not_on_place_or_order(tmp_path, image):
    one = write_folder(tmp_path / "one", image, COUNTS)
    other = write_folder(tmp_path / "some" / "other", image, COUNTS, order=-1)
    for split in ("train", "val"):
        assert names(load(one, split)) == names(load(other, split))
    assert names(load(one, "val")) != names(load(one, "val", seed=1))
    assert len(load(one, "val", validation_fraction=0.4)) == 1 + 1 + 4 + 10
    assert len(load(one, "val")) == 1 + 1 + 2 + 5
    assert names(load(one, "train")) | names(load(one, "val")) == names(load(one, "all"))
    assert not names(load(one, "train")) & names(load(one, "val"))


def test_labels_and_files_of_a_part_belong_together(tmp_path):
    for name, value in (("dark", 0), ("light", 255)):
        (tmp_path / name).mkdir()
        for i in range(6):
            pixels = np.full((4, 4, 3), value, "uint8")
            (tmp_path / name / f"{i}.png").write_bytes(encode(pixels, "PNG"))
    for split in ("train", "val", "all"):
        dataset = load(tmp_path, split)
        raw, labels = dataset.fetch(np.arange(len(dataset)))
        means = [int(dataset.decode(each).numpy().mean()) for each in raw]
        assert means == [255 * label for label in labels] == (255 * dataset.labels).tolist()
        assert dataset.class_names == ("dark", "light")


def test_what_can_be_loaded(tmp_path, image):
    folder = write_folder(tmp_path / "photos", image, COUNTS)
    assert data.splits(folder) == ()
    assert data.lacks_evaluation(folder)
    for divides, expected in ((True, ["train", "val", "all"]), (False, ["all"] * 3)):
        found = [data.resolve_split(folder, x, divides=divides) for x in ("train", "test", "all")]
        assert found == expected
    assert data.resolve_split(folder, "valid", divides=True) == "val"
    assert len(data.load(folder, "test")) == len(data.load(folder, "train")) == 41
    with pytest.raises(ValueError, match="must be 'all' for .*photos'. Received: split='val'"):
        data.load(folder, "val")
    (tmp_path / "split" / "val").mkdir(parents=True)
    shutil.copytree(folder, tmp_path / "split" / "train")
    shutil.copytree(folder / "b", tmp_path / "split" / "val" / "b")
    assert not data.lacks_evaluation(tmp_path / "split")
    with pytest.raises(ValueError, match="`split` must be 'train' or 'val' for .*split='all'"):
        load(tmp_path / "split", "all")


def test_a_folder_with_training_images_only(tmp_path, image):
    write_folder(tmp_path / "Train", image, COUNTS)
    assert data.splits(tmp_path) == ("train",)
    assert len(data.load(tmp_path, "all")) == len(data.load(tmp_path, "train")) == 41
    assert (len(load(tmp_path, "train")), len(load(tmp_path, "val"))) == (32, 9)


def test_classes_of_one_image_each_cannot_be_divided(tmp_path, image):
    folder = write_folder(tmp_path, image, {"a": 1, "b": 1})
    with pytest.raises(ValueError, match="a class with two images or more"):
        load(folder, "val")


@pytest.mark.parametrize("shape", [(8, 8, 3), (None, None, 3)], ids=["in memory", "encoded"])
def test_a_prepared_dataset_with_training_images_only(tmp_path, shape):
    pictures = [picture(8, 8, i) for i in range(20)]
    kind = "PNG" if shape[0] else "JPEG"
    records = [example(encode(each, kind), i % 3) for i, each in enumerate(pictures)]
    prepare(tmp_path, {"train": [records[:9], records[9:]]}, shape=shape)
    assert data.splits("pictures", tmp_path) == ("train",)
    whole, train, val = (load("pictures", split, tmp_path) for split in ("all", "train", "val"))
    assert (len(whole), len(train), len(val)) == (20, 17, 3)
    assert np.bincount(val.labels).tolist() == [1, 1, 1]
    everything, _ = whole.fetch(np.arange(20))
    found = []
    for part in (train, val):
        raw, labels = part.fetch(np.arange(len(part)))
        np.testing.assert_array_equal(labels, part.labels)
        for i, one in enumerate(raw):
            (at,) = [j for j in range(20) if np.array_equal(everything[j], one)]
            assert (whole.labels[at], whole.name_of(at)) == (labels[i], part.name_of(i))
            found.append(at)
    assert sorted(found) == list(range(20))
    other = load("pictures", "train", tmp_path, seed=1)
    listings = [each.listing() for each in (whole, train, val, other)]
    assert all(a != b for a, b in itertools.combinations(listings, 2))


def test_a_list_says_what_each_image_is(tmp_path, image):
    folder = write_folder(tmp_path / "photos", image, COUNTS)
    os.close(os.open(os.fsencode(folder / "e") + b"/\xff.png", os.O_CREAT))
    parts = {split: load(folder, split) for split in ("train", "val")}
    file = tmp_path / "split.csv"
    file.write_bytes(format_splits(parts))
    rows = file.read_bytes().decode(errors="surrogateescape").splitlines()
    assert rows[0] == "path,class,split"
    assert len(rows) == 43
    before = {split: names(part) for split, part in parts.items()}
    for i in range(100, 140):
        (folder / "d" / f"{i}.png").write_bytes(image)
    (folder / "e" / "7.png").unlink()
    for split in ("train", "val"):
        listed = names(load(folder, split, split_file=file))
        assert listed == before[split] - {"e/7.png"}
    file.write_text("a,b\r\n1,2\r\n")
    with pytest.raises(ValueError, match=r"split.csv' is damaged"):
        load(folder, "val", split_file=file)
