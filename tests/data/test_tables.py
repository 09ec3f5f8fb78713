"""CSV files of paths and labels as datasets."""

import os
import re

import numpy as np
import pytest
from data.files import encode

from keras_senet import data
from keras_senet.images.tables import sort_labels


@pytest.fixture
def photos(tmp_path):
    """Eight images in two folders, which say nothing of their classes; image i has the value i."""
    for i in range(8):
        path = tmp_path / "images" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(np.full((4, 4, 3), i, "uint8"), "PNG"))
    return tmp_path


PATHS = [f"images/{'ab'[i % 2]}/{i}.png" for i in range(8)]


def write(photos, text, encoding="utf-8"):
    file = photos / "labels.csv"
    file.write_bytes(text.encode(encoding))
    return file


def table(header, rows, delimiter=",", newline="\n"):
    return newline.join([header, *(delimiter.join(row) for row in rows), ""])


def values(dataset):
    """The value of each image, and its class."""
    raw, labels = dataset.fetch(np.arange(len(dataset)))
    pixels = [int(dataset.decode(each).numpy()[0, 0, 0]) for each in raw]
    return dict(zip(pixels, (dataset.class_names[label] for label in labels), strict=True))


KINDS = ["cat" if i < 4 else "dog" for i in range(8)]


@pytest.mark.parametrize(
    ("header", "delimiter", "encoding", "newline"),
    [
        ("path,label", ",", "utf-8", "\n"),
        ("File;Class", ";", "utf-8-sig", "\r\n"),
        ("filename\tlabel", "\t", "utf-8", "\r\n"),
        (" image , CLASS ", ",", "utf-8-sig", "\n"),
        ('"path";"label"', ";", "utf-8", "\n"),
    ],
)
def test_the_usual_headers_and_delimiters(photos, header, delimiter, encoding, newline):
    rows = list(zip(PATHS, KINDS, strict=True))
    file = write(photos, table(header, rows, delimiter, newline), encoding)
    whole = data.load(file, "all")
    assert whole.class_names == ("cat", "dog")
    assert values(whole) == dict(enumerate(KINDS))
    assert data.splits(str(file)) == ()
    parts = [values(data.load(file, split, validation_fraction=0.2)) for split in ("train", "val")]
    assert [len(part) for part in parts] == [6, 2]
    assert parts[0] | parts[1] == values(whole)
    assert sorted(parts[1].values()) == ["cat", "dog"]


def test_its_splits_are_taken_and_other_columns_left(photos):
    splits = ["train"] * 4 + ["VAL", "validation", "Test", "test"]
    kinds = ["dog", "cat"] * 4
    rows = zip(PATHS, splits, "abcdefgh", kinds, strict=True)
    file = write(photos, table("path,subset,note,label", rows))
    assert data.splits(file) == ("train", "val", "test")
    found = [values(data.load(file, split)) for split in ("train", "val", "test")]
    expected = dict(enumerate(kinds))
    assert [list(each) for each in found] == [[0, 1, 2, 3], [4, 5], [6, 7]]
    assert found[0] | found[1] | found[2] == expected


def test_quotes_absolute_paths_and_empty_lines(photos):
    odd = photos / 'a, "b"; c.png'
    odd.write_bytes((photos / PATHS[3]).read_bytes())
    quoted = f'"{str(odd).replace(chr(34), chr(34) * 2)}"'
    text = f"path,label\n{quoted},one\n\n./{PATHS[1]}, two \n,\n"
    assert values(data.load(write(photos, text), "all")) == {3: "one", 1: "two"}


def test_numbers_are_sorted_as_numbers():
    assert sort_labels({"10", "9", "1", "-2"}) == ("-2", "1", "9", "10")
    assert sort_labels({"10", "9", "1.5"}) == ("1.5", "9", "10")
    assert sort_labels({"10", "9", "nan"}) == ("10", "9", "nan")
    assert sort_labels({"10", "9", "x"}) == ("10", "9", "x")
    assert sort_labels({"01", "1", "0"}) == ("0", "01", "1")


GOOD = list(zip(PATHS, KINDS, strict=True))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have a header with a column of paths .*Received: nothing"),
        ("path,label\n", "has no rows, only a header"),
        ("\n\npath,kind\n", "Received: path, kind$"),  # the first line with something in it
        ('[{"id":1}]', r'Received: \[{"id":1}\]$'),
        (",".join(["\0" * 1000] * 1000), r"Received: (\\x00){40}, .* and 992 more$"),
        (table("name,label", GOOD), "must have a header .*path, file, .*Received: name, label"),
        (table("path,kind", GOOD), "one of labels .*label, class.*Received: path, kind"),
        ("path,file,label\na,b,c\n", "one column of paths. Received: 'path', 'file'"),
        ("path,class,label\na,b,c\n", "one column of labels. Received: 'class', 'label'"),
        (table("path,label", [*GOOD, ("x.png", "cat"), ("y.png", "dog")]), "must name files that "
         "are there. Missing: 2 of 10, first '.*x.png'"),
        (table("path,label", [("images", "cat")]), "Missing: 1 of 1, first"),
        (table("path,label", [*GOOD, GOOD[2]]), "each path once. Received: 'images/a/2.png' again"),
        (table("path,label", [*GOOD, ("images/../" + PATHS[0], "dog")]), "each path once"),
        (table("path,label", [("images/a/0.png", " ")]), "has no label in line 2"),
        (table("path,label", [GOOD[0], ("", "cat")]), "has no path in line 3"),
        ("path,label\nimages/a/0.png\n", "must have 2 values in line 2. Received: 1"),
        ("path,label\na,b,c\n", "must have 2 values in line 2. Received: 3"),
        ('path,label\n"a,b\n', "must be a CSV file"),
        (table("path,label,split", [(*row, "holdout") for row in GOOD]), "must have a split in "
         "line 2, one of train, training, val, .*Received: 'holdout'"),
        (table("path,label,set", [(*GOOD[0], "train"), (*GOOD[4], "test")]), "must not have classes"
         " outside of 'train' that 'train' has not: dog"),
        (table("path,label,set", [(*row, "test") for row in GOOD]), "no rows of 'train', only of "
         "'test'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_in_one_line(photos, text, message):
    with pytest.raises(ValueError, match=message) as error:
        data.load(write(photos, text), "train")
    assert "labels.csv' " in str(error.value)
    assert "\n" not in str(error.value)


def test_other_bytes_and_missing_files(photos):
    with pytest.raises(ValueError, match="must be a CSV file in UTF-8 .invalid start byte"):
        data.load(write(photos, table("path,label", GOOD), "utf-16"), "train")
    (photos / "photos.zip").write_bytes(b"PK\3\4\xff")
    os.truncate(photos / "photos.zip", 2**40)  # which does not fit into memory
    with pytest.raises(ValueError, match="zip' must be a CSV file in UTF-8"):
        data.load(photos / "photos.zip", "train")
    with pytest.raises(ValueError, match="`name` must be a dataset's name or a path. Received"):
        data.load("", "all")
    for name in ("nowhere.csv", "data/nowhere.csv", str(photos / "nowhere.tsv")):
        with pytest.raises(ValueError, match=f"no dataset and no file {re.escape(repr(name))}"):
            data.load(name, "train")


def test_changed_labels_change_the_listing(photos):
    before = data.load(write(photos, table("path,label", GOOD)), "all").listing()
    assert before["images/a/0.png (cat)"] == (photos / PATHS[0]).stat().st_size
    after = data.load(write(photos, table("path,label", [(PATHS[0], "dog"), *GOOD[1:]])), "all")
    assert set(after.listing()) ^ set(before) == {"images/a/0.png (cat)", "images/a/0.png (dog)"}
