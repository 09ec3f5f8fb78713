"""Datasets of images with boxes, by name."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from keras_senet.data.datasets import PREPARED
from keras_senet.data.prepared import has_prepared
from keras_senet.detection.data import prepared
from keras_senet.detection.data.coco import PLACES, find_split, load_coco
from keras_senet.detection.data.scenes import COUNTS, load_scenes
from keras_senet.detection.data.truths import BoxedImages
from keras_senet.fields import check_argument
from keras_senet.files import printable
from keras_senet.images.layout import SPLITS

SCENES = "scenes"  # the embedded dataset


class Source(NamedTuple):
    """A dataset: whether it has "train", "val" or "test", how one is loaded, and where it was
    looked for.
    """

    has: Callable[[str], bool]
    load: Callable[[str], BoxedImages]
    places: str = ""


def load_data(name: str | os.PathLike, split: str, data_dir=None) -> BoxedImages:
    """The images with boxes of a split of a dataset.

    Args:
        name: "scenes"; the path of a folder of COCO, with `annotations/instances_<split>*.json`,
            `<split>.json` or `<split>/_annotations.coco.json`; the path of one JSON file of COCO,
            which is loaded for every split; or a dataset of tensorflow_datasets that is prepared on
            the disk, such as "coco/2017" or "voc/2007".
        split: "train", "val" (also "validation" or "valid") or "test". Where there is no "test"
            with boxes it is "val". For datasets of tensorflow_datasets also several, "train+val".
        data_dir: where tensorflow_datasets keeps its datasets; None is its default.

    Raises:
        ValueError: for an unknown dataset or split, or invalid files; the message says which files
            were looked for.
        OSError: for files that cannot be read.
        MissingExtraError: if the library that has the data is not installed.
    """
    source = _open(name, data_dir)
    return source.load("+".join(_resolve(name, source, each) for each in split.split("+")))


def splits(name: str | os.PathLike, data_dir=None) -> tuple[str, ...]:
    """Which of "train", "val" and "test" a dataset has, with boxes; none if it is one file. Raises
    as `load_data` does.
    """
    return () if Path(name).is_file() else tuple(filter(_open(name, data_dir).has, SPLITS))


def _open(name, data_dir) -> Source:
    name, path = str(name), Path(name)
    if name == SCENES:
        return Source(COUNTS.__contains__, load_scenes)
    if path.is_file():
        return Source(SPLITS.__contains__, lambda split: load_coco(path))
    if path.is_dir() and any(find_split(path, split) for split in SPLITS):
        return Source(
            lambda split: find_split(path, split) is not None,
            lambda split: load_coco(find_split(path, split)),
            _list_places(path),
        )
    if path.is_dir() and not has_prepared(name, data_dir):
        raise ValueError(f"The folder {printable(path)!r} has no file of COCO{_list_places(path)}")
    if not PREPARED.fullmatch(name):
        raise ValueError(
            f"There is no dataset and no folder or file {name!r}. Datasets: {SCENES}, those of "
            "tensorflow_datasets with boxes, and folders and JSON files of COCO"
        )
    return Source(
        lambda split: prepared.has_split(name, split, data_dir),
        lambda split: prepared.load_prepared(name, split, data_dir),
    )


def _list_places(folder):
    places = ", ".join(place.format("SPLIT") for place in PLACES)
    names = ", ".join(each for names in SPLITS.values() for each in names)
    return f". Looked for in {printable(folder)!r}: {places}, where SPLIT is one of {names}"


def _resolve(name, source, split):
    """The split as "train", "val" or "test"."""
    wanted = next((key for key, names in SPLITS.items() if split in names), split)
    check_argument("split", split, wanted in SPLITS, f"one of {', '.join(map(repr, SPLITS))}")
    if not source.has(wanted) and wanted == "test" and source.has("val"):
        return "val"
    if not source.has(wanted):
        there = " or ".join(repr(each) for each in SPLITS if source.has(each)) or "one with boxes"
        raise ValueError(
            f"`split` must be {there} for {str(name)!r}. Received: split={split!r}{source.places}"
        )
    return wanted
