"""`.pth` files of PyTorch, in the zip format and in the older stream format of 2018, without torch.

Both hold a pickle that refers to blocks of numbers. It is not unpickled: `play` goes through its instructions, of which
a dictionary of tensors needs two dozen, and stops at any other. So nothing can be called, imported or made that is not
in the tables below, and sizes that the instructions claim are compared with the file before memory is taken.
"""

import contextlib
import io
import math
import os
import pickletools
import struct
import warnings
import zipfile
from typing import NamedTuple

import numpy as np

from keras_senet.weights.readers import DamagedFileError, Entry

MAGIC = 0x1950A86A20F9469CFC6C  # torch.serialization.MAGIC_NUMBER, of the stream format
MAX_PICKLE = 4 << 20  # bytes; SENet-154's takes a tenth of it
MAX_INSTRUCTIONS = 250_000  # likewise
MAX_COUNT = 1 << 40  # numbers in a storage
MAX_AXES = 8
MAX_ARGUMENTS = 8  # of a function; _rebuild_tensor_v2 has six or seven


class Storage(NamedTuple):
    """A block of numbers in the file."""

    dtype: np.dtype
    key: str
    count: int


class Tensor(NamedTuple):
    """A view on a storage; offset and strides are in numbers, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def view(self, block):
        """The array that this is of the storage's numbers."""
        start = block[self.offset :]
        return np.lib.stride_tricks.as_strided(start, self.shape, [n * block.itemsize for n in self.strides])


def _tensor(storage, offset, shape, strides, *_):
    """torch._utils._rebuild_tensor and _rebuild_tensor_v2; what follows the strides concerns training alone."""
    if not isinstance(storage, Storage) or not len(shape) == len(strides) <= MAX_AXES:
        raise DamagedFileError("a tensor is not a part of a storage with as many strides as sizes, and few of them")
    if not all(type(n) is int and 0 <= n <= MAX_COUNT for n in (offset, *shape, *strides)):
        raise DamagedFileError("a tensor's place is not described by natural numbers of a usual size")
    count = math.prod(shape)
    end = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) + 1 if count else offset
    if end > storage.count or count > storage.count:
        raise DamagedFileError(f"a tensor of {count} numbers reaches beyond its storage of {storage.count}")
    return Tensor(storage, offset, tuple(shape), tuple(strides))


def _parameter(tensor, *_):
    """torch._utils._rebuild_parameter."""
    if not isinstance(tensor, Tensor):
        raise DamagedFileError("a parameter is not a tensor")
    return tensor


# All that a pickle may name: functions that it may call, and the kinds of its storages.
FUNCTIONS = {
    "collections OrderedDict": dict,
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
}
STORAGES = {"torch FloatStorage": np.dtype("<f4"), "torch LongStorage": np.dtype("<i8")}

CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
ARGUMENTS = ("BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1")
EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def play(file):
    """The object that a pickle describes: of dicts, lists, tuples, strings, integers and `Tensor`s alone.

    Args:
        file: a binary file, read from where it stands to the end of the pickle.

    Raises:
        DamagedFileError: for anything else that the pickle asks for.
    """
    try:
        machine = _Machine()
        with warnings.catch_warnings(action="ignore"):  # of escapes in strings that are refused anyway
            for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
                if count == MAX_INSTRUCTIONS:
                    raise DamagedFileError(f"its pickle has more than {MAX_INSTRUCTIONS} instructions")
                machine.step(opcode.name, argument)
        (result,) = machine.stack
        return result
    except DamagedFileError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, MemoryError) as error:
        raise DamagedFileError(f"its pickle is broken: {type(error).__name__}") from error


class _Machine:
    """The stack and the memo of a pickle, and the instructions that are allowed to change them."""

    def __init__(self):
        self.stack = []
        self.marks = []  # the stack's heights where marks were set
        self.memo = {}

    def step(self, name, argument):
        if name in ARGUMENTS:
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in EMPTY:
            self.stack.append(EMPTY[name]())
        elif name in TUPLES:
            self.stack.append(tuple(self.pop(TUPLES[name])))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name in _Machine.OTHERS:
            _Machine.OTHERS[name](self, argument)
        else:
            raise DamagedFileError(f"its pickle has the instruction {name}, which tensors do not need")

    def pop(self, count):
        """The last `count` objects, taken off the stack."""
        if not 0 <= count <= len(self.stack):
            raise DamagedFileError("its pickle takes more than it has")
        start = len(self.stack) - count
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def pop_mark(self):
        """What is above the last mark, which goes too."""
        return self.pop(len(self.stack) - self.marks.pop())

    def protocol(self, version):
        if version != 2:
            raise DamagedFileError(f"its pickle is of protocol {version}; PyTorch's is 2")

    def name(self, name):
        if name not in FUNCTIONS and name not in STORAGES:
            raise DamagedFileError(f"its pickle names {name.replace(' ', '.')[:80]!r}, which is not a tensor")
        self.stack.append(FUNCTIONS.get(name) or STORAGES[name])

    def call(self, _):
        function, arguments = self.pop(2)
        if not any(function is allowed for allowed in FUNCTIONS.values()) or type(arguments) is not tuple:
            raise DamagedFileError("its pickle calls what is not a function")
        if len(arguments) > (0 if function is dict else MAX_ARGUMENTS):
            raise DamagedFileError("its pickle calls a function in another way than PyTorch")
        self.stack.append(function(*arguments))

    def persistent(self, _):
        """('storage', kind, key, location, count) and, in the stream format, a sixth: None."""
        (item,) = self.pop(1)
        if type(item) is not tuple or len(item) not in (5, 6) or item[5:] not in ((), (None,)):
            raise DamagedFileError("a storage is described in an unknown way")
        label, dtype, key, _, count = item[:5]
        if label != "storage" or not isinstance(dtype, np.dtype) or type(key) is not str or type(count) is not int:
            raise DamagedFileError("a storage is described in an unknown way")
        if not 0 <= count <= MAX_COUNT:
            raise DamagedFileError("a storage has less than no numbers, or more than any file")
        self.stack.append(Storage(dtype, key, count))

    def set_items(self, items):
        (target,) = self.pop(1)
        if type(target) is not dict or len(items) % 2 or not all(type(key) is str for key in items[::2]):
            raise DamagedFileError("a dictionary's keys are not strings")
        target.update(zip(items[::2], items[1::2], strict=True))
        self.stack.append(target)

    def append(self, items):
        (target,) = self.pop(1)
        if type(target) is not list:
            raise DamagedFileError("its pickle appends to what is not a list")
        target.extend(items)
        self.stack.append(target)

    def build(self, _):
        """A state dict's attribute `_metadata`, of which nothing here needs to know."""
        self.pop(1)

    OTHERS = {  # noqa: RUF012
        "PROTO": protocol,
        "MARK": lambda self, _: self.marks.append(len(self.stack)),
        "TUPLE": lambda self, _: self.stack.append(tuple(self.pop_mark())),
        "GLOBAL": name,
        "REDUCE": call,
        "BINPERSID": persistent,
        "SETITEM": lambda self, _: self.set_items(self.pop(2)),
        "SETITEMS": lambda self, _: self.set_items(self.pop_mark()),
        "APPEND": lambda self, _: self.append(self.pop(1)),
        "APPENDS": lambda self, _: self.append(self.pop_mark()),
        "BUILD": build,
        "STOP": lambda self, _: None,
    }


@contextlib.contextmanager
def opened(path):
    """The tensors of a state dict, by name."""
    with path.open("rb") as file:
        if file.read(4) == b"PK\x03\x04":
            with _zip(path) as entries:
                yield entries, None
        else:
            yield _stream(file), None


@contextlib.contextmanager
def _zip(path):
    """The zip format: `<name>/data.pkl`, and a file `<name>/data/<key>` for each storage, not compressed."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, struct.error, UnicodeError) as error:
        raise DamagedFileError(f"its zip directory is broken: {error}") from error
    with archive:
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
            except (zipfile.BadZipFile, EOFError, OSError, ValueError, RuntimeError, NotImplementedError) as error:
                raise DamagedFileError(f"{name!r} in it is broken: {error}") from error

        if f"{root}/byteorder" in members and read("byteorder") != b"little":
            raise DamagedFileError("its numbers are not little-endian")
        if members[f"{root}/data.pkl"].file_size > MAX_PICKLE:
            raise DamagedFileError(f"its pickle has more than {MAX_PICKLE} bytes")
        yield _entries(play(io.BytesIO(read("data.pkl"))), lambda storage: read(f"data/{storage.key}"))


def _members(archive, size):
    """The files of an archive by name, each stored as it is and within the archive's size."""
    members = {}
    for member in archive.infolist():
        stored = member.compress_type == zipfile.ZIP_STORED and member.file_size == member.compress_size <= size
        if not stored or ".." in member.filename or member.filename in members:
            raise DamagedFileError(f"{member.filename[:80]!r} in it is not as PyTorch writes it")
        members[member.filename] = member
    return members


def _stream(file):
    """The stream format: pickles of a magic number, version, machine, content and storages' keys; then the storages."""
    size = os.fstat(file.fileno()).st_size
    position = 0

    def read(start, count):
        file.seek(start)
        return file.read(count)

    def pickle():
        nonlocal position
        window = io.BytesIO(read(position, MAX_PICKLE))
        result = play(window)
        position += window.tell()
        return result

    if pickle() != MAGIC or pickle() != 1001:
        raise DamagedFileError("it does not start as PyTorch's do")
    machine = pickle()
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise DamagedFileError("its numbers are not little-endian")
    content, keys = pickle(), pickle()
    storages = _storages(content)
    if not isinstance(keys, list) or not all(isinstance(k, str) for k in keys) or sorted(keys) != sorted(storages):
        raise DamagedFileError("its storages are not those that its tensors name")
    starts = {}
    for key in keys:
        dtype, _, count = storages[key]
        if read(position, 8) != struct.pack("<Q", count):
            raise DamagedFileError(f"the storage {key!r} has another length than its tensors say")
        starts[key] = position + 8
        position += 8 + count * dtype.itemsize
    if position != size:
        raise DamagedFileError(f"it has {size} bytes, its tensors {position}")
    return _entries(content, lambda storage: read(starts[storage.key], storage.count * storage.dtype.itemsize))


def _tensors(content):
    """The state dict of what was saved: that itself, or under the name `state_dict`."""
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise DamagedFileError("it does not hold a dictionary of tensors")
    return content


def _storages(content):
    """The storages of a state dict by key; each is named with one type and one length."""
    storages = {}
    for tensor in _tensors(content).values():
        if storages.setdefault(tensor.storage.key, tensor.storage) != tensor.storage:
            raise DamagedFileError(f"the storage {tensor.storage.key!r} is described in two ways")
    return storages


def _entries(content, read):
    """An entry for each tensor; `read` gives the bytes of a storage."""
    for storage in _storages(content).values():
        if not storage.key.isdigit():
            raise DamagedFileError(f"a storage is called {storage.key[:80]!r}")

    def entry(tensor):
        def array():
            content = read(tensor.storage)
            if len(content) != tensor.storage.count * tensor.storage.dtype.itemsize:
                raise DamagedFileError(f"the storage {tensor.storage.key!r} has another length than its tensors say")
            return tensor.view(np.frombuffer(content, tensor.storage.dtype))

        return Entry(tensor.shape, array)

    return {name: entry(tensor) for name, tensor in _tensors(content).items()}
