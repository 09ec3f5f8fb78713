"""The images that a run's network is used on: its own ones, or those of another dataset."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keras_senet import data
from keras_senet.fields import list_some
from keras_senet.runs import listing
from keras_senet.runs.record import read_entries


class OpenedImages(NamedTuple):
    """Images with the names of their dataset and of their split."""

    dataset: str
    split: str
    images: Any


def load_for_run(
    name: str | Path,
    split: str,
    data_dir: str | None = None,
    *,
    own: str | None,
    division: dict[str, Any],
    upright: bool,
    class_names: Sequence[str] | None = None,
) -> OpenedImages:
    """The `OpenedImages` of a dataset of `keras_senet.data`, divided as `choose_division` says;
    where that divides nothing, "all" of one that has training images only stands for "test".

    Args:
        name, split, data_dir, upright: as for `data.load`.
        own: the run's own dataset; None without a run.
        division: how that, or without a run every dataset, is divided: arguments of `data.load`.
        class_names: of the network, if they are known: the labels are numbers of these.

    Raises what `data.load` and `data.with_classes` raise.
    """
    division = choose_division(name, own, division, data_dir)
    if split == "test" and not division and data.lacks_evaluation(name, data_dir):
        split = "all"
    split = data.resolve_split(name, split, data_dir, divides=bool(division))
    images = data.load(name, split, data_dir, upright=upright, **division)
    if class_names is not None:
        images = data.with_classes(images, class_names)
        there = images.class_names
        if len(there) == len(class_names) and not set(there) & set(class_names):
            warnings.warn(
                f"the classes of {name} are called {list_some(there, 5)}, and those of the network "
                f"{list_some(class_names, 5)}: both are taken in their order",
                stacklevel=2,
            )
    return OpenedImages(str(name), split, images)


def choose_division(
    name: str | Path, own: str | None, division: dict[str, Any], data_dir: str | None = None
) -> dict[str, Any]:
    """The arguments of `data.load` that divide a dataset as a run did its `own` one, whose
    `division` they are: for that one, also where it is elsewhere now, and known by its validation
    images. None for another one, of which nothing was trained on.
    """
    if own is None or Path(name).resolve() == Path(own).resolve():
        return division
    file = division.get("split_file")
    if file is None or not data.lacks_evaluation(name, data_dir):
        return {}
    try:
        part = data.load(name, "val", data_dir, **division)
    except ValueError:  # none of its images is listed
        return {}
    found = listing.fingerprint({"val": part}, {"val": part.listing()})
    recorded = read_entries(Path(file).parent).get("images")
    return division if isinstance(recorded, dict) and recorded.get("val") == found["val"] else {}
