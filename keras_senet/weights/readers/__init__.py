"""Files of weights as named arrays: nothing in a file is ever run, and no size that it claims is believed."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np


class DamagedFileError(ValueError):
    """A file of weights cannot be read: damaged, cut off, or not of the kind that its name says."""


class Entry(NamedTuple):
    """An array in a file, which `read` reads; its shape is known before."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]

    def transpose(self, axes):
        """The same array with its axes in another order."""
        return Entry(tuple(self.shape[axis] for axis in axes), lambda: self.read().transpose(axes))

    def apply(self, function):
        """`function` of the array, of equal shape."""
        return Entry(self.shape, lambda: function(self.read()))


class File(NamedTuple):
    """The entries of an open file by their names there, and this package's own metadata or None."""

    kind: str
    entries: dict[str, Entry]
    metadata: object = None


@contextlib.contextmanager
def opened(path) -> Iterator[File]:
    """The `File` of a path, by the ending of its name; its entries can be read until the block ends.

    Raises:
        DamagedFileError: if it cannot be read, and also for an entry that turns out so inside the block.
        ValueError: for another ending.
        OSError: if the file cannot be opened at all.
    """
    from keras_senet.weights.readers import caffemodel, hdf5, pth, safetensors

    path = Path(path)
    readers = {
        ".weights.h5": hdf5.opened,
        ".safetensors": safetensors.opened,
        ".pth": pth.opened,
        ".caffemodel": caffemodel.opened,
    }
    kind = next((ending for ending in readers if path.name.endswith(ending)), None)
    if kind is None:
        raise ValueError(f"A file of weights must end in one of {', '.join(readers)}. Received: {str(path)!r}")
    with path.open("rb") as file:
        start = file.read(512)
    try:
        with readers[kind](path) as (entries, metadata):
            yield File(kind, entries, metadata)
    except DamagedFileError as error:
        page = "; it looks like a web page" if start.lstrip()[:1] == b"<" else ""
        raise DamagedFileError(
            f"The weights file is damaged, or not a {kind} file: {str(path)!r} ({error}{page})"
        ) from None
