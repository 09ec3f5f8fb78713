"""Datasets of images with boxes, by name."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from keras_senet.data.datasets import PREPARED, spell
from keras_senet.data.division import Division, read_splits
from keras_senet.data.prepared import has_prepared
from keras_senet.detection.data import prepared
from keras_senet.detection.data.coco import PLACES, find_split, load_coco
from keras_senet.detection.data.scenes import COUNTS, load_scenes
from keras_senet.detection.data.truths import BoxedImages
from keras_senet.fields import check_argument
from keras_senet.files import printable
from keras_senet.images.layout import SPLITS

SCENES = "scenes"  # the embedded dataset


class _Source(NamedTuple):
    """A dataset: whether it has "train", "val" or "test", how one is loaded, where it was looked
    for, and whether it is one file, which is all of them.
    """

    has: Callable[[str], bool]
    load: Callable[[str], BoxedImages]
    places: str = ""
    is_file: bool = False

    def lacks_evaluation(self) -> bool:
        """Whether it has training images only."""
        return self.has("train") and not (self.has("val") or self.has("test"))


def load_data(
    name: str | os.PathLike,
    split: str,
    data_dir=None,
    *,
    validation_fraction: float | None = None,
    seed: int = 0,
    split_file: str | os.PathLike | None = None,
) -> BoxedImages:
    """The images with boxes of a split of a dataset.

    With a `validation_fraction`, as runs have it, a dataset that has training images only is
    divided into "train" and "val", as `keras_senet.data.load` does it: by the names of the images
    and the rarest class in each. One JSON file is not.

    Args:
        name: "scenes"; the path of a folder of COCO, with `annotations/instances_<split>*.json`,
            `<split>.json` or `<split>/_annotations.coco.json`; the path of one JSON file of COCO,
            which is loaded for every split; or a dataset of tensorflow_datasets that is prepared on
            the disk, such as "coco/2017" or "voc/2007".
        split: "train", "val" (also "validation" or "valid") or "test". Where there is no "test"
            with boxes it is "val", and all images where there is no "val" either. For datasets of
            tensorflow_datasets also several, "train+val".
        data_dir: where tensorflow_datasets keeps its datasets; None is its default.
        validation_fraction: the part of the images that is kept for validation, above 0 and below
            1; None divides nothing.
        seed: of the choice of this part.
        split_file: the `split.csv` of a run, in place of the choice: images that it does not list,
            such as new ones, are in neither part.

    Raises:
        ValueError: for an unknown dataset or split, or invalid files; the message says which files
            were looked for.
        OSError: for files that cannot be read.
        MissingExtraError: if the library that has the data is not installed.
    """
    source = _open(name, data_dir)
    if validation_fraction is None or not source.lacks_evaluation():
        wanted = [_resolve(name, source, each) for each in split.split("+")]
        return source.load("+".join("train" if each == "all" else each for each in wanted))
    wanted = _resolve(name, source, split, divides=True)
    file = None if split_file is None else Path(split_file)
    part = source.load("train").divide(Division(validation_fraction, seed, file))[wanted]
    if not len(part):
        raise ValueError(f"{str(file)!r} lists no images of {str(name)!r} as {wanted!r}")
    return part


def resolve_split(
    name: str | os.PathLike,
    split: str,
    data_dir=None,
    *,
    divides: bool = False,
    trained_on: str | None = None,
) -> str:
    """The split that `load_data` takes, as "train", "val" or "test"; of what is not divided, one
    file or a dataset with training images only, it is "all".

    Args:
        name, split, data_dir: as for `load_data`.
        divides: whether it has a `validation_fraction`.
        trained_on: the dataset of the detector's run; where its training images are all, that is
            "train".

    Raises what `load_data` raises.
    """
    source = _open(name, data_dir)
    wanted = _resolve(name, source, split, divides=divides and source.lacks_evaluation())
    if source.is_file or wanted == "all":
        return "train" if has_same_training_images(name, trained_on) else "all"
    return wanted


def has_same_training_images(name: str | os.PathLike, other: str | os.PathLike | None) -> bool:
    """Whether two datasets have the same training images, by their names or files: a folder of COCO
    has those of its JSON file.
    """
    return other is not None and _find_training(name) == _find_training(other)


def _find_training(name):
    path = Path(name)
    file = path if path.is_file() else find_split(path, "train")
    return str(name) if file is None else file.resolve()


def divide_as_run(
    name: str | os.PathLike, own: str, division: dict[str, Any], data_dir=None
) -> dict[str, Any]:
    """The arguments of `load_data` that divide a dataset as a run did its own, which has this
    `division`: for that dataset, also where it is elsewhere now, and known by the names of its
    images. None for another one, of which nothing was trained on, and where none was divided.

    Raises what `load_data` raises.
    """
    source = _open(name, data_dir)
    if not source.lacks_evaluation() or Path(own).is_file():
        return {}
    if has_same_training_images(name, own):
        return division
    file = division["split_file"]
    listed = set() if file is None else set(read_splits(Path(file)))
    is_moved = bool(listed) and listed <= set(source.load("train").list_files())
    return division if is_moved else {}


class OpenedBoxes(NamedTuple):
    """The name of a dataset, which of its images these are, as `resolve_split` says it, the images,
    and whether a run was trained on them.
    """

    dataset: str
    split: str
    images: BoxedImages
    is_trained_on: bool


def load_boxes_for_run(
    name: str | os.PathLike, split: str, data_dir, own: str | None, division: dict[str, Any]
) -> OpenedBoxes:
    """The `OpenedBoxes` of a dataset for a run with its `own` one, which has this `division`: see
    `divide_as_run`; `own` is None without a run. Raises as `load_data` does.
    """
    division = divide_as_run(name, own, division, data_dir) if own is not None else {}
    images = load_data(name, split, data_dir, **division)
    split = resolve_split(name, split, data_dir, divides=bool(division), trained_on=own)
    is_own = bool(division) or has_same_training_images(name, own)
    return OpenedBoxes(str(name), split, images, split == "train" and is_own)


def splits(name: str | os.PathLike, data_dir=None) -> tuple[str, ...]:
    """Which of "train", "val" and "test" a dataset has, with boxes; none if it is one file. Raises
    as `load_data` does.
    """
    return () if Path(name).is_file() else tuple(filter(_open(name, data_dir).has, SPLITS))


def _open(name, data_dir) -> _Source:
    name, path = spell(name), Path(name)
    if name == SCENES:
        return _Source(COUNTS.__contains__, load_scenes)
    if path.is_file():
        return _Source(SPLITS.__contains__, lambda split: load_coco(path), is_file=True)
    if path.is_dir() and any(find_split(path, split) for split in SPLITS):
        return _Source(
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
    return _Source(
        lambda split: prepared.has_split(name, split, data_dir),
        lambda split: prepared.load_records(name, split, data_dir),
    )


def _list_places(folder):
    places = ", ".join(place.format("SPLIT") for place in PLACES)
    names = ", ".join(each for names in SPLITS.values() for each in names)
    return f". Looked for in {printable(folder)!r}: {places}, where SPLIT is one of {names}"


def _resolve(name, source, split, divides=False):
    """The split as "train", "val" or "test", or "all" for "test" where there is "train" only;
    `divides` is whether some training images become "val".
    """
    wanted = next((key for key, names in SPLITS.items() if split in names), split)
    check_argument("split", split, wanted in SPLITS, f"one of {', '.join(map(repr, SPLITS))}")
    has_val = divides or source.has("val")
    if wanted != "train" and not source.has(wanted) and has_val:
        return "val"
    if wanted == "test" and source.lacks_evaluation():
        return "all"
    if not source.has(wanted):
        there = " or ".join(repr(each) for each in SPLITS if source.has(each)) or "one with boxes"
        raise ValueError(
            f"`split` must be {there} for {str(name)!r}. Received: split={split!r}{source.places}"
        )
    return wanted
