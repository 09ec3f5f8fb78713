"""Datasets by name: those of tensorflow_datasets, folders, and what is wrong with them."""

import io
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from data.files import encode, example, picture, prepare
from PIL import Image

from keras_senet import data
from keras_senet.data import cache as cache_module


def test_digits_are_complete_and_split_evenly():
    train, test = data.load("digits", "train"), data.load("digits", "test")
    assert (len(train), len(test)) == (1437, 360)
    assert train.images.shape == (1437, 32, 32, 3)
    assert train.images.dtype == np.uint8
    assert (train.images.min(), train.images.max()) == (0, 255)
    assert set(np.bincount(test.labels)) <= {35, 36, 37}
    both = {image.tobytes() for image in train.images} & {image.tobytes() for image in test.images}
    assert not both
    np.testing.assert_array_equal(data.load("digits", "test").labels, test.labels)


def test_records_are_those_that_tensorflow_datasets_reads(prepared):
    import tensorflow_datasets as tfds

    dataset = data.load("pictures", "train", prepared)
    builder = tfds.builder_from_directory(prepared / "pictures" / "1.0.0")
    expected = list(tfds.as_numpy(builder.as_dataset("train", shuffle_files=False)))
    assert len(dataset) == len(expected) == 10
    assert dataset.image_shape == (None, None, 3)
    assert dataset.class_names == ("class 0", "class 1", "class 2")
    raw, labels = dataset.fetch(np.arange(10))
    for one, wanted in zip(raw, expected, strict=True):
        decoded = dataset.decode(tf.constant(one)).numpy()
        np.testing.assert_array_equal(decoded, np.asarray(Image.open(io.BytesIO(one))))
        np.testing.assert_allclose(
            decoded.astype(int), wanted["image"], atol=6
        )  # by the fast, inexact DCT
    np.testing.assert_array_equal(labels, [wanted["label"] for wanted in expected])
    np.testing.assert_array_equal(dataset.labels, labels)
    again, _ = dataset.fetch(np.array([9, 0, 9, 6]))
    assert [bytes(one) for one in again] == [raw[9], raw[0], raw[9], raw[6]]
    assert dataset.name_of(8).endswith("train.tfrecord-00001-of-00002, record 1")


def test_test_is_validation_where_the_labels_of_test_are_missing(prepared):
    assert len(data.load("pictures", "test", prepared)) == 4


def test_a_test_split_with_labels_is_taken(tmp_path):
    record = example(encode(picture(9, 9)), 0)
    prepare(tmp_path, {"train": [[record]], "test": [[record] * 2], "validation": [[record] * 3]})
    assert len(data.load("pictures", "test", tmp_path)) == 2


@pytest.mark.parametrize("name", ["validation", "val", "valid"])
def test_validation_images_are_found_by_each_usual_name(tmp_path, name):
    record = example(encode(picture(9, 9)), 0)
    prepare(tmp_path, {"train": [[record]], "test": [[record] * 2], name: [[record] * 3]})
    assert data.splits("pictures", tmp_path) == ("train", "val", "test")
    assert len(data.load("pictures", "val", tmp_path)) == 3


def test_small_images_of_one_size_are_decoded_once(tmp_path):
    pictures = [picture(8, 8, i) for i in range(6)]
    records = [example(encode(image, "PNG"), i % 3) for i, image in enumerate(pictures)]
    prepare(tmp_path, {"train": [records[:4], records[4:]]}, shape=(8, 8, 3))
    dataset = data.load("pictures", "train", tmp_path)
    np.testing.assert_array_equal(dataset.images, pictures)
    np.testing.assert_array_equal(dataset.labels, [0, 1, 2, 0, 1, 2])


def test_labels_are_read_without_images_and_kept(prepared, cache):
    dataset = data.load("pictures", "train", prepared)
    assert len(list(cache.iterdir())) == 1  # only the index
    np.testing.assert_array_equal(dataset.labels, np.arange(10) % 3)
    assert len(list(cache.iterdir())) == 2
    assert isinstance(data.load("pictures", "train", prepared).labels, np.memmap)


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "longer"])
def test_a_damaged_index_is_made_again(prepared, cache, damage):
    before, _ = data.load("pictures", "train", prepared).fetch(np.arange(10))
    (index,) = cache.iterdir()
    content = bytearray(index.read_bytes())
    content[9] ^= 1
    index.write_bytes(
        {"empty": b"", "cut": content[:-8], "flipped": content, "longer": content + bytes(8)}[
            damage
        ]
    )
    after, _ = data.load("pictures", "train", prepared).fetch(np.arange(10))
    assert list(after) == list(before)


def test_an_outdated_index_is_replaced(prepared, cache):
    data.load("pictures", "train", prepared)
    (index,) = cache.iterdir()
    path = next((prepared / "pictures").rglob("*train*00001-of*"))
    records = [example(encode(picture(20, 20, i)), 2) for i in range(3)]
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    os.utime(path, ns=(1, 1))
    np.testing.assert_array_equal(
        data.load("pictures", "train", prepared).fetch(np.array([7, 8, 9]))[1], [2, 2, 2]
    )
    assert not index.exists()
    assert len(list(cache.iterdir())) == 1


def test_it_works_without_a_writable_cache(prepared, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file"))  # no directory can be made below
    dataset = data.load("pictures", "train", prepared)
    np.testing.assert_array_equal(dataset.fetch(np.arange(10))[1], np.arange(10) % 3)


def test_an_interrupted_write_leaves_nothing(cache):
    def interrupted():
        yield np.arange(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache_module.load_or_make("some", "state", interrupted, lambda array: True)
    assert not list(cache.iterdir())


def test_damaged_records_are_named(prepared):
    path = next((prepared / "pictures").rglob("*train*00000-of*"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    with pytest.raises(ValueError, match="00000-of-00002' is damaged"):
        data.load("pictures", "train", prepared)
    path.write_bytes(whole[: 12 + int.from_bytes(whole[:8], "little") + 4])  # one whole record
    with pytest.raises(ValueError, match="has 1 records; its dataset says 7"):
        data.load("pictures", "train", prepared)


def test_files_that_change_later_are_noticed(prepared):
    dataset = data.load("pictures", "train", prepared)
    path = next((prepared / "pictures").rglob("*train*00000-of*"))
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(ValueError, match="changed while it was read"):
        dataset.fetch(np.array([3]))


def test_a_record_that_is_not_an_example_is_named(tmp_path):
    good = example(encode(picture(9, 9)), 0)
    prepare(tmp_path, {"train": [[good, b"\xff\xff"]]})
    dataset = data.load("pictures", "train", tmp_path)
    with pytest.raises(ValueError, match="00000-of-00001, record 1: it is not a tf.train.Example"):
        _ = dataset.labels
    made = data.TrainingData(dataset, batch_size=2, image_size=8, seed=0)
    assert [(corrupt.index, corrupt.reason) for corrupt in made.corrupt_at(0)] == [
        (1, "it is not a tf.train.Example")
    ]


def test_what_is_missing_is_named_with_its_place(tmp_path):
    with pytest.raises(ValueError, match=f"no dataset 'mnist' in {str(tmp_path)!r}"):
        data.load("mnist", "train", tmp_path)
    with pytest.raises(ValueError, match="no dataset and no folder './nowhere'"):
        data.load("./nowhere", "train")
    with pytest.raises(ValueError, match="split='validation'"):
        data.load("digits", "validation")
    record = example(encode(picture(9, 9)), -1)
    prepare(tmp_path, {"train": [[record]], "test": [[record]]})
    with pytest.raises(ValueError, match="no labelled split 'test' or 'validation'"):
        data.load("pictures", "test", tmp_path)


def test_a_folder_of_class_folders(folder):
    train, test = data.load(folder, "train"), data.load(str(folder), "test")
    assert train.class_names == test.class_names == ("cat", "dog")
    np.testing.assert_array_equal(train.labels, [0, 0, 0, 0, 1, 1, 1])
    assert len(test) == 2
    assert train.name_of(5) == str(folder / "train" / "dog" / "1.jpg")
    assert train.fetch(np.array([5]))[0][0] == (folder / "train" / "dog" / "1.jpg").read_bytes()


def test_folders_that_cannot_be_used(folder):
    (folder / "val" / "bird").mkdir()
    with pytest.raises(ValueError, match="must not have class folders that .*train' has not: bird"):
        data.load(folder, "test")
    (folder / "train" / "bird").mkdir()
    with pytest.raises(ValueError, match="class folder '.*bird' has no images"):
        data.load(folder, "train")
    (folder / "train" / "bird" / "a.tiff").write_bytes(b"")
    with pytest.raises(ValueError, match="a.tiff' is not decoded"):
        data.load(folder, "train")
    empty = folder.parent / "empty"
    (empty / "train").mkdir(parents=True)
    with pytest.raises(ValueError, match="train' has no class folders"):
        data.load(empty, "train")
    with pytest.raises(ValueError, match="no folder 'test' or 'testing' or 'val' or 'validation'"):
        data.load(empty, "test")


def test_a_directory_without_splits_does_not_hide_a_dataset(prepared, tmp_path, monkeypatch):
    (tmp_path / "pictures" / "checkpoints").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert len(data.load("pictures", "train", prepared)) == 10


def test_a_dataset_in_memory_checks_its_arrays():
    with pytest.raises(ValueError, match="float64"):
        data.Dataset(np.zeros((2, 4, 4, 3)), np.zeros(2), ("a",))
    with pytest.raises(ValueError, match="labels (3,)".replace("(", r"\(").replace(")", r"\)")):
        data.Dataset(np.zeros((2, 4, 4, 3), "uint8"), np.zeros(3), ("a",))
    copy = pickle.loads(
        pickle.dumps(data.Dataset(np.zeros((2, 4, 4, 3), "uint8"), [0, 1], ("a", "b")))
    )
    np.testing.assert_array_equal(copy.labels, [0, 1])


FIRST_BATCH = """
import resource, sys, time
from keras_senet import data
data.load("digits", "train")  # TensorFlow itself
start = time.perf_counter()
dataset = data.load("pictures", "train", sys.argv[1])
made = data.TrainingData(dataset, batch_size=64, image_size=16, seed=0)
images, targets = next(iter(made.batches(5, 6)))
seconds = time.perf_counter() - start
print(len(dataset), seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
def test_a_million_records_take_seconds_and_no_memory(tmp_path):
    """Measured on two shared cores: 3.2 s to the first batch without an index, 13 MB more than with
    1,000 records.
    """
    results = []
    for name, count in (("few", 1_000), ("many", 1_000_000)):
        folder = prepare(tmp_path / name, {"train": [[example(encode(picture(16, 16), "PNG"), 1)]]})
        repeat_record(folder, count)
        command = [sys.executable, "-c", FIRST_BATCH, str(tmp_path / name)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        results.append([float(value) for value in output.split()])
    (_, _, few), (count, seconds, many) = results
    assert count == 1_000_000
    assert seconds < 10
    assert many - few < 64


def repeat_record(folder, count):
    """Makes a dataset of many equal records from one of a single record."""
    (path,) = folder.glob("*.tfrecord*")
    record = path.read_bytes()
    with open(path, "wb") as file:
        for _ in range(count // 1000):
            file.write(record * 1000)
    info = folder / "dataset_info.json"
    info.write_text(
        info.read_text().replace('"shardLengths": ["1"]', f'"shardLengths": ["{count}"]')
    )
