"""What is kept for validation of a dataset that has no validation and test images of its own."""

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_senet.fields import check_argument
from keras_senet.files import names_damage, to_csv

COLUMNS = ("path", "class", "split")


class Division(NamedTuple):
    """How the images of a dataset are divided into "train" and "val".

    fraction  of each class that is kept for validation, rounded, but at least one image, and not
              all of them
    seed      of the choice
    file      a `split.csv` that says it, in place of both; None if there is none
    """

    fraction: float = 0.2
    seed: int = 0
    file: Path | None = None

    def divide(self, names: Sequence[str], labels: np.ndarray) -> dict[str, np.ndarray]:
        """The indices of the images of "train" and of "val", rising.

        It depends on the names and classes only, not on the order of the images. Images that
        `file` does not list are in neither.

        Raises:
            ValueError: if none can be kept, as no class has two images; if `file` is damaged; or
                for another fraction than one above 0 and below 1.
        """
        fraction = self.fraction
        check_argument("validation_fraction", fraction, 0 < fraction < 1, "above 0 and below 1")
        if self.file is not None:
            listed = read_splits(self.file)
            splits = np.array([listed.get(name, "") for name in names])
            return {split: np.flatnonzero(splits == split) for split in ("train", "val")}
        kept = _choose(names, labels, self.fraction, self.seed)
        if not kept.any():
            raise ValueError(
                "No image can be kept for validation: there must be a class with two images or more"
            )
        return {"train": np.flatnonzero(~kept), "val": np.flatnonzero(kept)}


def _choose(names, labels, fraction, seed):
    """Which images are kept, bool (N,): of each class those with the smallest hashes."""
    classes, members = np.unique(labels, return_inverse=True)
    counts = np.bincount(members, minlength=len(classes))
    most = np.maximum(counts - 1, 0)
    wanted = np.clip(np.floor(fraction * counts + 0.5).astype("int64"), np.minimum(1, most), most)
    hashes = np.array([_hash(name, seed) for name in names], "uint64")
    order = np.lexsort((hashes, members))  # class by class
    ranks = np.empty(len(order), "int64")
    ranks[order] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ranks < wanted[members]


def _hash(name, seed):
    text = f"{seed}\0{name}".encode(errors="surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def format_splits(datasets: Mapping[str, Any]) -> bytes:
    """The images of datasets by their splits, as the bytes of a CSV file: path, class, split."""
    return format_rows(
        (name, dataset.class_names[label], split)
        for split, dataset in datasets.items()
        for name, label in zip(dataset.names(), dataset.labels, strict=True)
    )


def format_rows(rows: Iterable[tuple[str, str, str]]) -> bytes:
    """The path, class and split of images as the bytes of a CSV file, which `read_splits` reads."""
    named = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    return to_csv(named, COLUMNS).encode(errors="surrogateescape")


def read_splits(path: Path) -> dict[str, str]:
    """The splits that `format_splits` wrote, by the names of the images.

    Raises:
        ValueError: if the file is damaged.
        OSError: if it cannot be read.
    """
    text = path.read_bytes().decode(errors="surrogateescape")
    with names_damage(path):
        return {row["path"]: row["split"] for row in csv.DictReader(io.StringIO(text, newline=""))}
