"""Random access to TFRecord files: an index of where the records begin, and the fields of a
`tf.train.Example`.
"""

import functools
import hashlib
import itertools
import os
import struct
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from keras_senet.data.cache import load_or_make
from keras_senet.data.examples import PAGE, read_integer

# Bytes around a record: its length and that number's CRC; the CRC of the data.
HEADER, FOOTER = 12, 4
THREADS = 16  # they wait for the disk


class RecordFiles:
    """The records of several TFRecord files, as one sequence.

    `shards` are (path, number of records). The index, 8 bytes a record, is kept on disk and mapped.

    Raises:
        ValueError: if a file is damaged, or has another number of records.
        OSError: if a file cannot be read.
    """

    def __init__(self, name: str, shards: Sequence[tuple[str, int]]):
        self.paths = [Path(path) for path, _ in shards]
        counts = np.array([count for _, count in shards], "int64")
        self.firsts = np.concatenate([[0], np.cumsum(counts)])  # the first record of each shard
        stats = [path.stat() for path in self.paths]
        self._sizes = [stat.st_size for stat in stats]
        places = "\n".join(str(path.resolve()) for path in self.paths)
        self.cache_name = f"{name}-{_hash_text(places)}"
        states = [f"{stat.st_size} {stat.st_mtime_ns}" for stat in stats]
        self.state = _hash_text("\n".join([*states, f"{counts.tolist()}"]))
        self._starts = load_or_make(
            f"{self.cache_name}-index", self.state, self._find_starts, self._fits
        )

    def __len__(self) -> int:
        return int(self.firsts[-1])

    def listing(self) -> dict[str, int]:
        """The names and sizes of the files: {name: bytes}."""
        return {path.name: size for path, size in zip(self.paths, self._sizes, strict=True)}

    def _find_starts(self):
        """Where each shard's records begin, in bytes, and its size: int64 (its records + 1,)."""
        with ThreadPoolExecutor(THREADS) as pool:
            found = pool.map(find_record_starts, self.paths)
            for path, count, starts in zip(self.paths, np.diff(self.firsts), found, strict=True):
                if len(starts) != count + 1:
                    raise ValueError(
                        f"{str(path)!r} has {len(starts) - 1} records; its dataset says {count}"
                    )
                yield starts

    def _fits(self, starts):
        ends = self.firsts[1:] + np.arange(len(self.paths))
        return len(starts) == len(self) + len(self.paths) and np.array_equal(
            starts[ends], self._sizes
        )

    def locate(self, index: int) -> tuple[Path, int]:
        """The file that contains a record, and the record's number in it, from 0."""
        shard = int(np.searchsorted(self.firsts, index, side="right")) - 1
        return self.paths[shard], int(index - self.firsts[shard])

    def read(self, indices: np.ndarray) -> list[bytes]:
        """The records' bytes, in the order of `indices`.

        Raises:
            ValueError: if a record is no longer where it was.
            OSError: if a file cannot be read.
        """
        shards = np.searchsorted(self.firsts, indices, side="right") - 1
        records = [b""] * len(indices)
        order = np.argsort(shards, kind="stable")
        for shard, places in itertools.groupby(order, key=lambda place: shards[place]):
            with self.paths[shard].open("rb", buffering=0) as file:
                for place in places:
                    records[place] = self._read(file.fileno(), shard, int(indices[place]))
        return records

    def _read(self, file, shard, index):
        start, end = (int(at) for at in self._starts[index + shard : index + shard + 2])
        framed = os.pread(file, end - start, start)
        if (
            len(framed) != end - start
            or int.from_bytes(framed[:8], "little") != end - start - HEADER - FOOTER
        ):
            raise ValueError(
                f"{str(self.paths[shard])!r} changed while it was read: "
                f"record {index} is not at {start}"
            )
        return framed[HEADER:-FOOTER]

    def read_integers(self, key: str) -> np.ndarray:
        """An integer feature of all records, int64 (N,), memory-mapped, without the images."""

        def pieces():
            for some in self.map(lambda *record: read_integer(*record, key)):
                yield np.array(some, "int64")

        name = f"{self.cache_name}-{_hash_text(key)}"
        return load_or_make(name, self.state, pieces, lambda found: len(found) == len(self))

    def map(self, parse: Callable[[Callable[[int, int], bytes], int, int], Any]) -> Iterator[list]:
        """What `parse` returns for each record, shard by shard. It gets a function that reads
        (count, at) of the file, and where the record begins and ends in it.

        Raises:
            ValueError: if `parse` does; names the record.
        """
        with ThreadPoolExecutor(THREADS) as pool:
            yield from pool.map(lambda n: self._map_shard(n, parse), range(len(self.paths)))

    def _map_shard(self, shard, parse):
        first, last = self.firsts[shard : shard + 2]
        with self.paths[shard].open("rb", buffering=0) as file:
            return [self._parse(file.fileno(), shard, i, parse) for i in range(first, last)]

    def _parse(self, file, shard, index, parse):
        start, end = self._starts[index + shard : index + shard + 2].tolist()
        try:
            return parse(functools.partial(os.pread, file), start + HEADER, end - FOOTER)
        except ValueError as error:
            raise ValueError(
                f"{self.paths[shard]}, record {index - self.firsts[shard]}: {error}"
            ) from error


def find_record_starts(path: Path) -> np.ndarray:
    """Where each record of a file begins, and the file's size, in bytes: int64 (records + 1,).

    Raises:
        ValueError: if the lengths of the records do not lead to the end of the file.
    """
    starts, at, size = array("q"), 0, os.stat(path).st_size
    with path.open("rb", buffering=0) as file:
        while at < size:
            page = os.pread(file.fileno(), PAGE, at)
            begin, last = at, at + len(page) - HEADER
            while at <= last:
                (length,) = struct.unpack_from("<Q", page, at - begin)
                starts.append(at)
                at += length + HEADER + FOOTER
            if at == begin:
                break
    if at != size:
        raise ValueError(
            f"{str(path)!r} is damaged: its records do not end where it ends, at byte {size}"
        )
    starts.append(size)
    return np.frombuffer(starts, "int64")


def _hash_text(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]
