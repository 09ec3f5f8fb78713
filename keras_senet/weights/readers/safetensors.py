"""`.safetensors` files, by the library of that name, which checks the header against the file."""

import contextlib
import functools
import json

import numpy as np

from keras_senet.extras import require
from keras_senet.weights.metadata import METADATA
from keras_senet.weights.readers import DamagedFileError, Entry

FLOATS = ("F64", "F32", "F16", "BF16")


@contextlib.contextmanager
def opened(path):
    """The floating-point tensors by name, and the metadata that this package has written."""
    library = require("safetensors", "weights")
    try:
        file = library.safe_open(path, framework="np")
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  not a dict
        entries = {
            name: Entry(tuple(part.get_shape()), functools.partial(_read, library, file, name))
            for name, part in slices.items()
            if part.get_dtype() in FLOATS
        }
        metadata = (file.metadata() or {}).get(METADATA)
        metadata = None if metadata is None else json.loads(metadata)
    except (library.SafetensorError, OSError, ValueError, RecursionError) as error:
        raise DamagedFileError(str(error)[:300]) from error
    with file:
        yield entries, metadata


def _read(library, file, name):
    try:
        return np.asarray(file.get_tensor(name), "float32")
    except library.SafetensorError as error:
        raise DamagedFileError(str(error)[:300]) from error
