"""How many images a dataset has for training, and how large they are, from its files' names and
headers: what a recipe is chosen by, before TensorFlow is loaded.
"""

import contextlib
import json
import os
import re
import statistics
from pathlib import Path
from typing import NamedTuple

from keras_senet.files import read_bytes
from keras_senet.images.headers import read_header
from keras_senet.images.layout import find_splits, list_classes
from keras_senet.images.tables import Table
from keras_senet.images.walk import find_images

SAMPLE = 64  # images whose headers are read
HEADER = 1 << 16  # bytes that are read of each
ENOUGH = 200_000  # images: more of them are not counted


class Survey(NamedTuple):
    """Figures of a dataset; None where they are not known.

    images  how many are for training
    size    the median of their shorter sides, in pixels
    """

    images: int | None = None
    size: int | None = None


def survey(dataset: str, data_dir: str | None = None) -> Survey:
    """The `Survey` of a folder of class folders, of a CSV file of paths, or of a dataset that
    tensorflow_datasets has prepared; one without figures of anything else.

    Raises:
        ValueError: for an image of a format that is not decoded.
        OSError: for a folder or a CSV file that cannot be read.
    """
    if (prepared := _find_prepared(dataset, data_dir)) is not None:
        return _survey_prepared(prepared)
    path = Path(dataset)
    if path.is_dir():
        return _survey_files(_find_files(path))
    if path.is_file() and not dataset.isidentifier():  # which names a dataset
        return _survey_files(_list_files(path))
    return Survey()


def _find_files(folder: Path) -> list[str]:
    """The training images of class folders; none of folders that `data.load` refuses."""
    try:
        splits = find_splits(folder)
        classes = splits["train"] if splits else folder
        names, _ = list_classes(classes)
    except (ValueError, KeyError):
        return []
    files: list[str] = []
    for name in names:
        if len(files) < ENOUGH:
            files += find_images(classes / name).images
    return files


def _list_files(path: Path) -> list[str]:
    """The training images of a table; none of one that `data.load` refuses."""
    try:
        table = Table(path)
        rows = table.rows_of("train" if "train" in table.splits else "all")
    except ValueError:
        return []
    return [row.file for row in rows]


def _survey_files(files: list[str]) -> Survey:
    sample = files[:: max(1, len(files) // SAMPLE)]
    sides = []
    for file in sample:
        with contextlib.suppress(OSError):  # the loader says what is wrong with it
            sides.append(min(read_header(read_bytes(file, HEADER)).upright_size))
    sides = list(filter(None, sides))
    return Survey(len(files), round(statistics.median(sides)) if sides else None)


def _find_prepared(name: str, data_dir: str | None) -> Path | None:
    """The folder of "name", "name/config" or "name:version", of its newest version."""
    place = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    name, _, version = name.partition(":")
    if not name or name.startswith((".", "/", "~")):
        return None
    found = (Path(place).expanduser() / name).glob(f"{version or '*'}/dataset_info.json")
    return max((file.parent for file in found), key=_version_of, default=None)


def _version_of(folder):
    return [int(number) for number in re.findall(r"\d+", folder.name)]


def _survey_prepared(folder: Path) -> Survey:
    try:
        splits = json.loads((folder / "dataset_info.json").read_text())["splits"]
        (train,) = (split for split in splits if split["name"] == "train")
        features = json.loads((folder / "features.json").read_text())["featuresDict"]["features"]
        (image,) = (each["image"] for each in features.values() if "image" in each)
        height, width, _ = (int(text) for text in image["shape"]["dimensions"])
        count = sum(map(int, train["shardLengths"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Survey()  # the loader says what is wrong with it
    return Survey(count, min(height, width) if min(height, width) > 0 else None)
