"""Arrays of int64 that are made once and kept on disk, mapped rather than read."""

import contextlib
import os
import tempfile
import zlib

import numpy as np

from keras_senet.weights.download import keras_home

FOLDER = "datasets/keras_senet"  # below KERAS_HOME
BLOCK = 1 << 20  # bytes read at once


def cache_folder():
    """Where indices and labels of datasets are kept; everything in it can be deleted."""
    return keras_home() / FOLDER


def cached(name, state, make, valid):
    """An int64 array (N,) from the cache, or made: mapped from the disk, or in memory where the
    disk cannot be written.

    Args:
        name: of the array, for a file name.
        state: of what it is made from; another state makes another array and removes the former.
        make: a function without arguments that gives an iterable of int64 arrays, the pieces.
        valid: a function of the array that says whether it can be one.
    """
    path = cache_folder() / f"{name}-{state}.npy"
    kept = _read(path)
    if kept is not None and valid(kept):
        return kept
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        outdated = [other for other in path.parent.glob(f"{name}-*.npy") if other != path]
        _write(path, make)
        for other in outdated:
            other.unlink(missing_ok=True)
        kept = _read(path)
        if kept is not None:
            return kept
    return np.concatenate([np.empty(0, "int64"), *make()])  # such as on a read-only disk


def _write(path, make):
    """Writes the pieces and behind them their CRC; the file appears under its name when it is
    whole.
    """
    handle, arriving = tempfile.mkstemp(dir=path.parent, prefix=".arriving-")
    try:
        with os.fdopen(handle, "wb") as file:
            crc = 0
            for piece in make():
                piece = np.ascontiguousarray(piece, "<i8").data.cast("B")
                crc = zlib.crc32(piece, crc)
                file.write(piece)
            file.write(crc.to_bytes(8, "little"))
        os.replace(arriving, path)
    except BaseException:
        os.unlink(arriving)
        raise


def _read(path):
    """The mapped array, or None if there is no whole one."""
    try:
        count = path.stat().st_size // 8 - 1
        with open(path, "rb") as file:
            crc, left = 0, 8 * count
            while left > 0:
                block = file.read(min(BLOCK, left))
                crc, left = zlib.crc32(block, crc), left - len(block)
                if not block:
                    return None
            if count < 0 or file.read() != crc.to_bytes(8, "little"):
                return None
        return np.memmap(path, "<i8", "r", shape=(count,)) if count else np.empty(0, "int64")
    except OSError:
        return None
