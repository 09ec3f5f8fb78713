"""Files of weights as named arrays, parsed without executing code; sizes that a file claims are
checked before memory is taken.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np


class DamagedFileError(ValueError):
    """A file of weights cannot be read: damaged, cut off, or not of the kind that its name says."""


class UnsupportedFileError(ValueError):
    """A file is whole as far as it was read, and holds no weights that this package reads."""


class Entry(NamedTuple):
    """An array in a file, which `read` reads; its shape is known before."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]

    def transpose(self, axes):
        """The same array with its axes in another order."""
        return Entry(tuple(self.shape[axis] for axis in axes), lambda: self.read().transpose(axes))

    def reshape(self, shape):
        """The same numbers in another shape."""
        return Entry(shape, lambda: self.read().reshape(shape))

    def apply(self, function):
        """`function` of the array, of equal shape."""
        return Entry(self.shape, lambda: function(self.read()))


class Contents(NamedTuple):
    """What a reader finds in a file.

    tree      the weights by name, or dictionaries of them in each other
    metadata  this package's own, or None
    entry     `entry(name, value)`: the `Entry` of one of the tree's weights
    describe  a few words about a part of the tree that is no dictionary of weights
    """

    tree: object
    metadata: object = None
    entry: Callable = lambda name, value: value
    describe: Callable[[object], str] = str


class File(NamedTuple):
    """The entries of an open file by name, this package's own metadata or None, and which part."""

    kind: str
    entries: dict[str, Entry]
    metadata: object = None
    part: object = None


TORCH = (".pth", ".pt", ".bin", ".ckpt", ".pth.tar", ".pt.tar")
ENDINGS = (".weights.h5", ".safetensors", *TORCH, ".caffemodel")
# What files of other kinds begin with, and what they are
STARTS = (
    (
        rb"version https://git-lfs",
        "it is a pointer of Git LFS: `git lfs pull` fetches the file itself",
    ),
    (
        rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf|Rar!",
        "it is compressed: unpack it first",
    ),
    (rb"\x89HDF\r\n\x1a\n", "it is an HDF5 file"),
    (rb"PK\x03\x04", "it is a zip archive, as those of torch.save and Keras are"),
    (rb"(?s:.{8}\s*\{\s*\")", "it is a .safetensors file"),
    (
        rb"(?s:.{257}ustar)",
        "it is a tar archive; if torch.save wrote it before 2017, load it with torch.load and save "
        "it again, and otherwise unpack it",
    ),
)


@contextlib.contextmanager
def open_file(
    path: str | Path, part: str | None = None, marks: Sequence[tuple[str, ...]] = ()
) -> Iterator[File]:
    """The `File` of a path, by the ending of its name; its entries can be read until the block
    ends.

    Args:
        path: of the file.
        part: which of several networks in a file of PyTorch is meant, such as "state_dict_ema";
            None chooses.
        marks: what the names of a known network begin with, each of these, by the kinds of networks
            that are known: they tell which dictionary of a file holds it.

    Raises:
        DamagedFileError: if it cannot be read; also inside the block, for an entry.
        UnsupportedFileError: if it is whole and has no weights, or several networks' without a
            `part`.
        ValueError: for another ending.
        OSError: if the file cannot be opened at all.
    """
    from keras_senet.weights.parts import choose_part, whole
    from keras_senet.weights.readers import caffemodel, hdf5, pth, safetensors

    path = Path(path)
    readers = {
        ".weights.h5": hdf5.open_hdf5,
        ".safetensors": safetensors.open_safetensors,
        ".caffemodel": caffemodel.open_caffemodel,
        **dict.fromkeys(TORCH, pth.open_pth),
    }
    kind = next((ending for ending in readers if path.name.endswith(ending)), None)
    if kind is None:
        raise ValueError(
            f"A file of weights must end in one of {', '.join(ENDINGS)}. Received: {str(path)!r}"
        )
    with _naming(path, kind), readers[kind](path) as contents:
        named = kind in (*TORCH, ".safetensors") and contents.metadata is None
        chosen = choose_part(contents, part, marks) if named else whole(contents, part)
        entries = {name: contents.entry(name, value) for name, value in chosen.weights.items()}
        yield File(kind, entries, contents.metadata, chosen)


@contextlib.contextmanager
def _naming(path, kind):
    """Within, errors name the file, and say what it is where that is known."""
    with path.open("rb") as file:
        start = file.read(512)
    try:
        yield
    except UnsupportedFileError as error:
        raise UnsupportedFileError(
            f"The weights of {str(path)!r} cannot be loaded: {error}"
        ) from None
    except DamagedFileError as error:
        other = next((what for pattern, what in STARTS if re.match(pattern, start)), None)
        if other and not _is_expected(kind, start):
            raise UnsupportedFileError(
                f"The weights of {str(path)!r} cannot be loaded: it is not a {kind} file; {other}"
            ) from None
        page = "; it looks like a web page" if start.lstrip()[:1] == b"<" else ""
        raise DamagedFileError(
            f"The weights file is damaged, or not a {kind} file: {str(path)!r} ({error}{page})"
        ) from None


def _is_expected(kind, start):
    """Whether a file begins as its kind does."""
    expected = {".weights.h5": rb"\x89HDF", ".safetensors": rb".{8}\s*\{", ".caffemodel": None}
    pattern = expected.get(kind, rb"PK\x03\x04")
    return pattern is not None and re.match(pattern, start, re.DOTALL) is not None
