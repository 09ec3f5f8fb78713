"""`.safetensors` files, by the library of that name, which checks the header against the file."""

import contextlib
import functools
import json

import numpy as np

from keras_senet.extras import require
from keras_senet.weights.metadata import METADATA
from keras_senet.weights.readers import Contents, DamagedFileError, Entry, UnsupportedFileError

FLOATS = ("F64", "F32", "F16", "BF16")
MAX_MAPPED = 64 << 20  # bytes


@contextlib.contextmanager
def open_safetensors(path):
    """The tensors by name, and this package's own metadata. Whole numbers are refused when read."""
    tensors = _Tensors(path)
    try:
        slices = {name: tensors.file.get_slice(name) for name in tensors.file.keys()}  # noqa: SIM118  not a dict
        entries = {
            name: Entry(
                tuple(part.get_shape()), functools.partial(tensors.read, name, part.get_dtype())
            )
            for name, part in slices.items()
        }
        metadata = (tensors.file.metadata() or {}).get(METADATA)
        metadata = None if metadata is None else json.loads(metadata)
    except (tensors.error, OSError, ValueError, RecursionError) as error:
        raise DamagedFileError(str(error)[:300]) from error
    del slices  # they would keep what is mapped
    yield Contents(entries, metadata)


class _Tensors:
    """An open file, mapped into memory: what was read counts until it is closed, now and then."""

    def __init__(self, path):
        library = require("safetensors", "weights")
        self.open = functools.partial(library.safe_open, path, framework="np")
        self.error = library.SafetensorError
        self.mapped = 0
        try:
            self.file = self.open()
        except (self.error, OSError) as error:
            raise DamagedFileError(str(error)[:300]) from error

    def read(self, name, dtype):
        if dtype not in FLOATS:
            raise UnsupportedFileError(f"{name[:80]!r} has numbers of the type {dtype}")
        if self.mapped > MAX_MAPPED:
            self.file, self.mapped = self.open(), 0
        try:
            # What float32 cannot hold is not finite, which is looked for
            with np.errstate(over="ignore"):
                array = np.asarray(self.file.get_tensor(name), "float32")
        except self.error as error:
            raise DamagedFileError(str(error)[:300]) from error
        self.mapped += array.nbytes
        return array
