"""Arrays of int64 that are computed once and kept on disk, memory-mapped."""

import contextlib
import zlib
from collections.abc import Callable, Iterable

import numpy as np

from keras_senet.files import replacing
from keras_senet.weights.download import keras_home

# Below KERAS_HOME: indices and labels of datasets; everything in it can be deleted
FOLDER = "datasets/keras_senet"


def load_or_make(
    name: str,
    state: str,
    make: Callable[[], Iterable[np.ndarray]],
    is_valid: Callable[[np.ndarray], bool],
) -> np.ndarray:
    """An int64 array (N,) from the cache, or made: memory-mapped, or in memory where the disk
    cannot be written.

    Args:
        name: of the array, for a file name.
        state: of what it is made from; another state makes another array and removes the old one.
        make: returns the pieces of the array, int64.
        is_valid: whether a cached array can be the right one.
    """
    path = keras_home() / FOLDER / f"{name}-{state}.npy"
    kept = _map_array(path)
    if kept is not None and is_valid(kept):
        return kept
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        outdated = [other for other in path.parent.glob(f"{name}-*.npy") if other != path]
        _write_array(path, make())
        for other in outdated:
            other.unlink(missing_ok=True)
        kept = _map_array(path)
        if kept is not None:
            return kept
    return np.concatenate([np.empty(0, "int64"), *make()])  # such as on a read-only disk


def _write_array(path, pieces):
    """Writes the pieces, then their CRC."""
    with replacing(path) as partial, partial.open("wb") as file:
        crc = 0
        for piece in pieces:
            piece = np.ascontiguousarray(piece, "<i8").data.cast("B")
            crc = zlib.crc32(piece, crc)
            file.write(piece)
        file.write(crc.to_bytes(8, "little"))


def _map_array(path):
    """The memory-mapped array, or None if there is no complete one."""
    try:
        whole = np.memmap(path, "<i8", "r")
    except (OSError, ValueError):  # the second of an empty file, and of a part of a number
        return None
    return whole[:-1] if zlib.crc32(whole[:-1]) == whole[-1] else None
