"""`.weights.h5` files in Keras' own format."""

import contextlib
import json

import h5py

from keras_senet.weights.metadata import METADATA
from keras_senet.weights.readers import DamagedFileError, Entry

ERRORS = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError, MemoryError)


@contextlib.contextmanager
def opened(path):
    """The variables of layers by their place, such as "layers/conv2d/vars/0", and this package's metadata."""
    try:
        file = h5py.File(path, "r")
    except ERRORS as error:
        raise DamagedFileError(str(error)[:300]) from error
    with file:
        try:
            metadata = file.attrs.get(METADATA)
            metadata = None if metadata is None else json.loads(metadata)
            entries = _entries(file, path.stat().st_size)
        except ERRORS as error:
            raise DamagedFileError(str(error)[:300]) from error
        yield entries, metadata


def _entries(file, size):
    entries = {}

    def note(name, item):
        if isinstance(item, h5py.Dataset) and name.startswith("layers/") and "seed_generator" not in name:
            _check_plain(item, size)
            entries[name] = Entry(item.shape, lambda: _read(item))

    file.visititems(note)  # visits what is in the file alone, and follows no link to another
    return entries


def _check_plain(dataset, size):
    """Keras writes whole arrays; a compressed, virtual or external one could be larger than the file, or another."""
    plain = dataset.chunks is None and not dataset.is_virtual and dataset.external is None
    if (
        not plain
        or dataset.dtype.kind != "f"
        or dataset.nbytes != dataset.id.get_storage_size()
        or dataset.nbytes > size
    ):
        raise DamagedFileError(f"{dataset.name[:80]!r} in it is not as Keras writes it")


def _read(dataset):
    try:
        return dataset[()].astype("float32", copy=False)
    except ERRORS as error:
        raise DamagedFileError(str(error)[:300]) from error
