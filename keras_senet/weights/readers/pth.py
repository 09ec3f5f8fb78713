"""Files of `torch.save`, in the zip format and in the older stream format of 2018, without torch.

Both hold a pickle (`pickles`) that refers to blocks of numbers (`tensors`). Sizes that it claims
are compared with the file before memory is taken.
"""

import contextlib
import functools
import io
import os
import struct
import zipfile

from keras_senet.weights.readers import Contents, DamagedFileError, Entry, UnsupportedFileError
from keras_senet.weights.readers.pickles import MAX_KEY, play
from keras_senet.weights.readers.tensors import STORAGES, Tensor, Unknown, Unreadable, name_of

MAGIC = 0x1950A86A20F9469CFC6C  # torch.serialization.MAGIC_NUMBER, of the stream format
MAX_PICKLE = 16 << 20  # bytes; a fifth is SENet-154's with its average and the states of Adam
# What zipfile raises for damaged archives
BROKEN = (zipfile.BadZipFile, EOFError, OSError, ValueError, RuntimeError, struct.error)


@contextlib.contextmanager
def open_pth(path):
    """What was saved: tensors and the dictionaries around them."""
    with path.open("rb") as file:
        if file.read(4) == b"PK\x03\x04":
            with _zip(path) as contents:
                yield contents
        else:
            yield _stream(file)


@contextlib.contextmanager
def _zip(path):
    """The zip format: `<name>/data.pkl`, and an uncompressed `<name>/data/<key>` per storage."""
    try:
        archive = zipfile.ZipFile(path)
    except BROKEN as error:
        raise DamagedFileError(f"its zip directory is broken: {error}") from error
    with archive:
        _check_kind(archive.namelist())
        members = _members(archive, path.stat().st_size)
        roots = [name.removesuffix("/data.pkl") for name in members if name.endswith("/data.pkl")]
        root = roots[0] if len(roots) == 1 else ""
        if not root or "/" in root or not all(name.startswith(f"{root}/") for name in members):
            raise DamagedFileError("it is not one folder with a data.pkl")

        def read(name):
            member = members.get(f"{root}/{name}")
            if member is None:
                raise DamagedFileError(f"it has no {name[:80]!r}")
            try:
                return archive.read(member)
            except BROKEN as error:
                raise DamagedFileError(f"{name!r} in it is broken: {error}") from error

        if f"{root}/byteorder" in members and read("byteorder") != b"little":
            raise UnsupportedFileError("its numbers are not little-endian")
        if members[f"{root}/data.pkl"].file_size > MAX_PICKLE:
            raise DamagedFileError(f"its pickle has more than {MAX_PICKLE} bytes")
        content = play(io.BytesIO(read("data.pkl")))
        yield _contents(content, lambda storage: read(f"data/{storage.key}"))


def _check_kind(names):
    """Zip archives that are whole, and not of torch.save."""
    parts = {name.partition("/")[2].partition("/")[0] for name in names}
    if "constants.pkl" in parts or "code" in parts:
        raise UnsupportedFileError(
            "it is a TorchScript archive (torch.jit.save), a program with its weights. "
            "Save the module's `state_dict()` with torch.save"
        )
    if names and not any(name.endswith("/data.pkl") for name in names):
        raise UnsupportedFileError(
            "it is a zip archive that torch.save has not written: "
            f"it has {names[0][:80]!r} and no data.pkl"
        )


def _members(archive, size):
    """The files of an archive by name, each stored as it is and within the archive's size."""
    members = {}
    for member in archive.infolist():
        stored = (
            member.compress_type == zipfile.ZIP_STORED
            and member.file_size == member.compress_size <= size
        )
        if not stored or ".." in member.filename or member.filename in members:
            raise DamagedFileError(f"{member.filename[:80]!r} in it is not as PyTorch writes it")
        members[member.filename] = member
    return members


def _stream(file):
    """The stream format: pickles of magic number, version, machine, content, keys; storages."""
    size, position = os.fstat(file.fileno()).st_size, 0

    def read(start, count):
        file.seek(start)
        return file.read(count)

    def pickle(storages=None):
        nonlocal position
        window = io.BytesIO(read(position, MAX_PICKLE))
        result = play(window, storages)
        position += window.tell()
        return result

    magic = pickle()
    if magic != MAGIC:
        raise UnsupportedFileError(
            f"it is a pickle that torch.save has not written: {describe_content(magic)}. "
            "Save the weights with torch.save"
        )
    if pickle() != 1001:
        raise UnsupportedFileError("its version of the stream format is not 1001")
    machine = pickle()
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise UnsupportedFileError("its numbers are not little-endian")
    storages = {}
    content, keys = pickle(storages), pickle()
    valid = isinstance(keys, list) and all(
        isinstance(key, str) and len(key) <= MAX_KEY for key in keys
    )
    if not valid or sorted(keys) != sorted(storages):
        raise DamagedFileError("its storages are not those that its tensors name")
    starts = _find_storages([storages[key] for key in keys], read, position, size)
    return _contents(content, lambda storage: read(starts[storage.key], storage.bytes))


def _find_storages(storages, read, position, size):
    """Where the numbers of each storage begin, by its key, in a file that ends with them."""
    starts = {}
    for storage in storages:
        if read(position, 8) != struct.pack("<Q", storage.length):
            raise DamagedFileError(
                f"the storage {storage.key!r} has another length than its tensors say"
            )
        starts[storage.key] = position + 8
        position += 8 + storage.bytes
    if position != size:
        raise DamagedFileError(f"it has {size} bytes, its tensors {position}")
    return starts


def _contents(content, read):
    """What was saved, with an entry for each tensor of it; `read` gives the bytes of a storage."""

    @functools.lru_cache(maxsize=1)  # many tensors may be parts of one
    def block(storage):
        content = read(storage)
        if len(content) != storage.bytes:
            raise DamagedFileError(
                f"the storage {storage.key!r} has another length than its tensors say"
            )
        return content

    def entry(name, tensor):
        if isinstance(tensor, Unreadable):
            raise UnsupportedFileError(f"{name[:80]!r} {tensor.reason}")
        if STORAGES[tensor.storage.kind].kind == "c":
            raise UnsupportedFileError(f"{name[:80]!r} has complex numbers")
        return Entry(tensor.shape, lambda: tensor.read(block(tensor.storage)))

    return Contents(content, entry=entry, describe=describe_content)


def describe_content(value):
    """A few words about what was saved."""
    if isinstance(value, dict):
        shown = ", ".join(
            f"{name[:40]!r} ({summarize_value(item)})" for name, item in list(value.items())[:6]
        )
        return (
            f"a dictionary of {shown}{', ...' if len(value) > 6 else ''}"
            if value
            else "an empty dictionary"
        )
    return summarize_value(value)


def summarize_value(value):
    """What a value in a pickle is, in a few words: "a tensor", "a float"."""
    if isinstance(value, Unknown):
        return f"an object of {name_of(value)}"
    if isinstance(value, (Tensor, Unreadable)):
        return "a tensor"
    return f"a {type(value).__name__}"
