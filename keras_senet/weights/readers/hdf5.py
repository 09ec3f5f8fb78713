"""`.weights.h5` files in Keras' own format."""

import contextlib
import functools
import json
from typing import Any

import h5py
import numpy as np

from keras_senet.weights.metadata import METADATA
from keras_senet.weights.readers import Contents, DamagedFileError, Entry

# Of groups; Keras needs "layers/squeeze_excite/reduce/vars/0", and two more for each model around
MAX_DEPTH = 12
MAX_ITEMS = 20_000  # SENet-154 has a fifth
NOWHERE = b"\xff" * 8  # an address in HDF5 of what is not in a file
# Version of the superblock -> where it has the address of what drivers and extensions would say of
# the file
ADDRESSES = {0: 48, 1: 52, 2: 20, 3: 20}


@contextlib.contextmanager
def open_hdf5(path):
    """Layers' variables by place, such as "layers/conv2d/vars/0", and the package's metadata."""
    _check_beginning(path)
    try:
        file = h5py.File(path, "r")
    except Exception as error:
        raise DamagedFileError(str(error)[:300]) from error
    with file:
        try:
            metadata = _metadata(file)
            entries = dict(_entries(file, path.stat().st_size))
        except Exception as error:
            raise DamagedFileError(str(error)[:300]) from error
        yield Contents(entries, metadata)


def _check_beginning(path):
    """The superblock: HDF5 would take as much memory as a driver's or extension's length says."""
    with path.open("rb") as file:
        beginning = file.read(64)
    at = ADDRESSES.get(beginning[8]) if len(beginning) == 64 else None
    if beginning[:8] != b"\x89HDF\r\n\x1a\n" or at is None or beginning[at : at + 8] != NOWHERE:
        raise DamagedFileError("its beginning is not that of an HDF5 file as Keras writes it")


def _metadata(file):
    """The package's attribute, of a fixed length: HDF5 can loop for ever over damaged others."""
    if METADATA not in file.attrs:
        return None
    attribute = file.attrs.get_id(METADATA)
    if attribute.shape != () or attribute.dtype.kind != "S":
        raise DamagedFileError("its metadata is not as this package writes it")
    return json.loads(file.attrs[METADATA])


def _entries(file, size):
    """Pairs of name and entry; links to other files are not followed."""
    groups, count = [("layers", 0)] if "layers" in file else [], 0
    while groups:
        place, depth = groups.pop()
        for name in file[place]:
            count += 1
            if count > MAX_ITEMS or depth > MAX_DEPTH:
                raise DamagedFileError("it has more groups and variables than networks have")
            inner = f"{place}/{name}"
            if (
                not isinstance(file.get(inner, getlink=True), h5py.HardLink)
                or "seed_generator" in name
            ):
                continue
            item = file[inner]
            if isinstance(item, h5py.Group):
                groups.append((inner, depth + 1))
            else:
                _check_plain(item, size)
                yield inner, Entry(item.shape, functools.partial(_read, file, inner))


def _check_plain(dataset, size):
    """Keras writes whole arrays; a compressed, virtual or external one could be of any size."""
    plain = isinstance(dataset, h5py.Dataset) and dataset.chunks is None and not dataset.is_virtual
    if (
        not plain
        or dataset.external is not None
        or dataset.dtype.kind not in "fiu"
        or dataset.nbytes != dataset.id.get_storage_size()
        or dataset.nbytes > size
    ):
        raise DamagedFileError(f"{str(dataset.name)[:80]!r} in it is not as Keras writes it")


def _read(file: Any, place: str) -> np.ndarray:
    """The array, as float32 unless it has whole numbers."""
    try:
        array = file[place][()]
        return array.astype("float32", copy=False) if array.dtype.kind == "f" else array
    except Exception as error:
        raise DamagedFileError(str(error)[:300]) from error
