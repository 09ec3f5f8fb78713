"""Small datasets in the layouts of tensorflow_datasets and of folders; the cache is temporary."""

import pytest
from data.files import encode, example, picture, prepare


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path / "keras" / "datasets" / "keras_senet"


@pytest.fixture
def prepared(tmp_path):
    """ "pictures": 10 JPEGs of different sizes in two shards, 4 in "validation"; "test" without
    labels.
    """
    images = [encode(picture(40 + 3 * i, 50 + 7 * i, i), quality=90) for i in range(14)]
    records = [example(image, i % 3) for i, image in enumerate(images)]
    unlabelled = [example(images[0], -1)]
    prepare(
        tmp_path / "tfds",
        {"train": [records[:7], records[7:10]], "validation": [records[10:]], "test": [unlabelled]},
    )
    return tmp_path / "tfds"


@pytest.fixture
def folder(tmp_path):
    """A folder of class folders: cats and dogs, 4 and 3 for training, one each for testing."""
    for split, counts in (("train", (4, 3)), ("val", (1, 1))):
        for name, count in zip(("cat", "dog"), counts, strict=True):
            place = tmp_path / "pets" / split / name
            place.mkdir(parents=True)
            for i in range(count):
                (place / f"{i}.jpg").write_bytes(encode(picture(30 + i, 40, i)))
    return tmp_path / "pets"
