"""Datasets of `.npz` files, on every backend without TensorFlow."""

import io
import tracemalloc
import zipfile

import keras
import numpy as np
import pytest

from keras_senet import data
from keras_senet.data import arrays
from keras_senet.evaluation.batches import ArrayBatches
from keras_senet.extras import MissingExtraError

RANDOM = np.random.default_rng(0)
X = RANDOM.integers(0, 256, (12, 8, 6, 3), "uint8")
Y = np.arange(12) % 3


def write(path, **content):
    np.savez_compressed(path, **{"x_train": X, "y_train": Y} | content)
    return path


def npy(shape, dtype="|u1", content=b""):
    """An array of which the file has other bytes than its header says."""
    file = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + content


def zipped(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize("kind", ["int64", "uint8", "int32", ">i4"])
def test_images_labels_and_names_are_those_of_the_file(tmp_path, kind):
    path = write(
        tmp_path / "a.npz", y_train=Y.astype(kind)[:, None], x_test=X[:5], y_test=Y[:5],
        class_names=np.array(["ant", "bee", "cat", "dog"]),
    )  # fmt: skip
    assert data.splits(path) == ("train", "test")
    for split, count in (("train", 12), ("test", 5)):
        dataset = data.load(path, split)
        np.testing.assert_array_equal(dataset.images, X[:count])
        np.testing.assert_array_equal(dataset.labels, Y[:count])
        assert dataset.class_names == ("ant", "bee", "cat", "dog")
        assert dataset.is_in_memory
    assert data.load(path, "train").listing() != data.load(path, "test").listing()


def test_gray_images_without_names_are_divided(tmp_path):
    path = write(tmp_path / "a.NPZ.npz", x_train=X[..., 0])
    assert data.lacks_evaluation(path)
    train, val = (data.load(path, each, validation_fraction=0.25) for each in ("train", "val"))
    assert (len(train), len(val)) == (9, 3)
    assert train.image_shape == (8, 6, 1)
    assert train.class_names == ("0", "1", "2")
    images, labels = val.fetch(np.arange(3))
    for image, label in zip(images, labels, strict=True):
        (index,) = np.flatnonzero((X[..., :1] == image).all((1, 2, 3)))
        assert Y[index] == label


def test_names_of_labels_are_those_of_all_splits(tmp_path):
    path = write(tmp_path / "a.npz", x_val=X[:1], y_val=[7])
    assert len(data.load(path, "train").class_names) == 8
    np.savez(path, x_test=X, y_test=Y)
    assert data.splits(path) == ("test",)
    with pytest.raises(ValueError, match="must have x_train and y_train. Received: .'x_test'"):
        data.load(path, "train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x_train": X.astype("float32")}, "must have x_train as uint8.*Received: float32"),
        ({"x_train": X.transpose(0, 3, 1, 2).repeat(2, 3)}, "with up to 4 channels.*12, 3, 8, 12"),
        ({"x_train": X[:0], "y_train": Y[:0]}, "must have x_train as uint8"),
        ({"x_train": X[0, 0]}, "must have x_train as uint8"),
        ({"y_train": Y[:5]}, r"must have y_train as integers \(12,\).*\(5,\)"),
        ({"y_train": Y.astype(float)}, "must have y_train as integers.*float64"),
        ({"y_train": Y.astype(object)}, "must have y_train as integers.*Received: object"),
        ({"y_train": np.eye(3, dtype="int64")[Y]}, "must have y_train as integers"),
        ({"y_train": Y - 1}, "must have labels of 0 to 1. Received: -1"),
        ({"y_train": Y + 10**12}, "must have labels below 65536 or class_names. Received: 10{11}2"),
        ({"class_names": np.array(["a", "b"])}, "must have labels of 0 to 1. Received: 2"),
        (
            {"class_names": np.array(["a", "b", "a"])},
            "must have each of class_names once.*: .'a'.$",
        ),
        ({"class_names": np.array(["a", 1, 2], object)}, "must have class_names as texts"),
        ({"x_test": X}, r"must have y_test. Received: \['x_train'"),
        ({"x_test": X[:, :4], "y_test": Y}, "must have images of one shape in all splits"),
    ],
)
def test_other_arrays_are_refused_in_a_line(tmp_path, content, message):
    path = write(tmp_path / "a.npz", **content)
    with pytest.raises(ValueError, match=message) as raised:
        data.load(path, "train")
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)


def test_files_of_another_kind_are_refused_in_a_line(tmp_path):
    path = tmp_path / "a.npz"
    whole = write(path).read_bytes()
    for content in (b"", b"no archive", whole[: len(whole) // 2], whole[:200] + whole[300:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a.npz' is damaged or no .npz file \(") as raised:
            data.load(path, "train")
        assert "\n" not in str(raised.value)
    labels = npy((12,), "<i8", Y.astype("<i8").tobytes())
    for images in (npy((12, 8, 8, 3), content=b"few"), b"\x93NUMPY\x01\x00", b"text"):
        zipped(path, x_train=images, y_train=labels)
        with pytest.raises(ValueError, match="is damaged or no"):
            data.load(path, "train")
    np.savez(path, images=X)
    with pytest.raises(ValueError, match=r"must have x_train and y_train. Received: \['images'\]"):
        data.load(path, "train")
    with pytest.raises(ValueError, match="There is no dataset and no file '.*none.npz'"):
        data.load(tmp_path / "none.npz", "train")


def encrypted(path):
    """An archive that says of each file that a password is needed."""
    content = bytearray(write(path).read_bytes())
    for begin, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.find(begin)
        while place >= 0:
            content[place + at] |= 1
            place = content.find(begin, place + 4)
    path.write_bytes(content)


def with_broken_lzma(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as file:
        file.writestr("x_train.npy", npy((12, 8, 8, 3), content=X.tobytes()))
    content = bytearray(path.read_bytes())
    content[60:160] = bytes(100)
    path.write_bytes(content)


def with_long_header(path):
    """256 MiB of spaces, compressed to a thousandth."""
    magic = b"\x93NUMPY\x02\x00" + (2**28).to_bytes(4, "little")
    zipped(path, x_train=magic + b" " * 2**28)


@pytest.mark.parametrize("make", [encrypted, with_broken_lzma, with_long_header])
def test_archives_that_numpy_does_not_write_are_refused_in_a_line(tmp_path, make):
    make(tmp_path / "a.npz")
    tracemalloc.start()
    with pytest.raises(ValueError, match="is damaged or no") as raised:
        data.load(tmp_path / "a.npz", "train")
    assert "\n" not in str(raised.value)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_every_single_byte_that_changes_is_found_or_changes_nothing(tmp_path):
    """A header, a checksum or the archive's own list: never another error, nor other images."""
    path = tmp_path / "a.npz"
    write(path)
    whole = path.read_bytes()
    for place in RANDOM.integers(0, len(whole), 150):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(RANDOM.integers(8))
        path.write_bytes(damaged)
        try:
            dataset = data.load(path, "train")
        except ValueError as error:
            assert "\n" not in str(error)  # noqa: PT017
        else:
            np.testing.assert_array_equal(dataset.images, X)


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="TensorFlow is there")
def test_a_prepared_dataset_needs_tensorflow_and_says_so(tmp_path):
    with pytest.raises(MissingExtraError, match="This needs the package 'tensorflow'"):
        data.load("cifar10", "train", tmp_path)


def test_images_that_do_not_fit_into_memory_are_a_line(tmp_path, monkeypatch):
    """By the header, before anything is read; and what NumPy cannot have."""
    path = tmp_path / "a.npz"
    zipped(path, x_train=npy((10**7, 4096, 4096, 3)), y_train=npy((10**7,), "<i8"))
    with pytest.raises(ValueError, match=r"does not fit into memory: x_train has 468,750.0 GiB"):
        data.load(path, "train")
    write(path)
    monkeypatch.setattr(arrays, "count_memory", lambda: 1000)
    with pytest.raises(ValueError, match="x_train has 0.0 GiB, this machine 0.0 GiB"):
        data.load(path, "train")


def test_images_whose_label_is_no_class_are_refused_or_left_out_of_an_evaluation():
    wrong = np.arange(12) % 4 == 1
    dataset = data.Dataset(X, np.where(wrong, 7, Y), ("a", "b", "c"))
    with pytest.raises(data.CorruptImageError, match="image 1 cannot .* label 7 is not in 0..2"):
        ArrayBatches(dataset, 4, skip_corrupt=False)
    batches = ArrayBatches(dataset, 4, skip_corrupt=True)
    assert [each.index for each in batches.skipped] == [1, 5, 9]
    shown = list(batches)
    assert len(shown) == len(batches) == 3
    np.testing.assert_array_equal(np.concatenate([each[:, 0] for (each,), _ in shown]), X[~wrong])
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in shown]), Y[~wrong])
    with pytest.raises(ValueError, match="no images with valid labels"):
        ArrayBatches(data.Dataset(X, Y + 3, ("a", "b", "c")), 4, skip_corrupt=True)
