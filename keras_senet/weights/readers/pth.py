"""Files of `torch.save`, in the zip format and in the older stream format of 2018, without torch.

Both hold a pickle that refers to blocks of numbers. It is not unpickled: `play` goes through its
instructions and builds dictionaries, lists, tuples, strings, numbers and tensors. Every other class
and function that it names, such as an optimizer's or argparse's, becomes an `Unknown`: a name,
which is never imported or called. Sizes that the instructions claim are compared with the file
before memory is taken.
"""

import contextlib
import functools
import io
import math
import os
import pickle as pickles
import pickletools
import struct
import warnings
import zipfile
from typing import NamedTuple

import numpy as np

from keras_senet.weights.readers import Contents, DamagedFileError, Entry, UnsupportedFileError

MAGIC = 0x1950A86A20F9469CFC6C  # torch.serialization.MAGIC_NUMBER, of the stream format
# Of SENet-154 with its running average and the states of Adam, a pickle has a fifth of these.
MAX_PICKLE = 16 << 20  # bytes
MAX_INSTRUCTIONS = 1_000_000
MAX_STACK = 20_000  # objects; torch.save puts 1,000 items at a time into a dictionary
MAX_COUNT = 1 << 40  # numbers in a storage
MAX_KEY = 20  # digits of a storage's number
MAX_AXES = 8
MAX_ARGUMENTS = 10  # of a function; _rebuild_tensor_v3 has eight
MAX_NAME = 1_000  # characters; longer keys are not weights' names


class Storage(NamedTuple):
    """A block of numbers in the file, of the kind that torch calls so."""

    kind: str
    key: str
    length: int

    @property
    def bytes(self):
        return self.length * STORAGES[self.kind].itemsize


class Tensor(NamedTuple):
    """A view on a storage; offset and strides are in numbers, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self, content):
        """The array that this is of the storage's bytes; floating-point numbers as float32."""
        block = np.frombuffer(content, STORAGES[self.storage.kind])[self.offset :]
        array = np.lib.stride_tricks.as_strided(
            block, self.shape, [n * block.itemsize for n in self.strides]
        )
        if self.storage.kind == "BFloat16Storage":
            return (array.astype("<u4") << 16).view("<f4")
        if array.dtype.kind == "f":
            # What float32 cannot hold is not finite, which is looked for
            with np.errstate(over="ignore"):
                return array.astype("<f4", copy=False)
        return array


class Unreadable(NamedTuple):
    """A tensor that is not read, and why."""

    reason: str
    shape: tuple[int, ...] = (0, 0)  # it may be a kernel


class Unknown(NamedTuple):
    """A class or function that the pickle names, or what would have been made of it."""

    name: str


def _tensor(storage, offset, shape, strides, requires_grad=False, hooks=None, metadata=None):
    """torch._utils._rebuild_tensor and _rebuild_tensor_v2; its `metadata` says how to read the
    numbers.
    """
    if metadata:
        return Unreadable("is a view that negates or conjugates its numbers")
    if not isinstance(storage, Storage) or not len(shape) == len(strides) <= MAX_AXES:
        raise DamagedFileError(
            "a tensor is not a part of a storage with as many strides as sizes, and few of them"
        )
    if not all(type(n) is int and 0 <= n <= MAX_COUNT for n in (offset, *shape, *strides)):
        raise DamagedFileError(
            "a tensor's place is not described by natural numbers of a usual size"
        )
    count = math.prod(shape)
    end = (
        offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) + 1
        if count
        else offset
    )
    if end > storage.length or count > storage.length:
        raise DamagedFileError(
            f"a tensor of {count} numbers reaches beyond its storage of {storage.length}"
        )
    return Tensor(storage, offset, tuple(shape), tuple(strides))


def _tensor_of_type(storage, offset, shape, strides, requires_grad, hooks, dtype, *_):
    """torch._utils._rebuild_tensor_v3, for the types of numbers that have no kind of storage of
    their own.
    """
    return Unreadable(f"has numbers of the type {_name_of(dtype)}")


def _parameter(tensor, *_):
    """torch._utils._rebuild_parameter and _rebuild_parameter_with_state."""
    if not isinstance(tensor, (Tensor, Unreadable)):
        raise DamagedFileError("a parameter is not a tensor")
    return tensor


def _tensor_with_state(function, kind, arguments, *_):
    """torch._tensor._rebuild_from_type_v2: a tensor that has attributes."""
    return _call(function, arguments)


def _dictionary(*arguments):
    """An OrderedDict. Python 2 wrote one as a list of pairs, which is used up: so no list is gone
    through twice.
    """
    target = {}
    for pairs in arguments:
        if type(pairs) is not list:
            raise DamagedFileError("a dictionary is made of what is not a list of pairs")
        for key, value in pairs:
            _fill(target, (key, value))
        pairs.clear()
    return target


def _default_dictionary(*_):
    return {}


def _unreadable(reason):
    return lambda *_: Unreadable(reason)


# The functions that a pickle may call, each in place of its namesake: all others give an `Unknown`.
FUNCTIONS = {
    "collections OrderedDict": _dictionary,
    "collections defaultdict": _default_dictionary,
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_tensor_v3": _tensor_of_type,
    "torch._utils _rebuild_parameter": _parameter,
    "torch._utils _rebuild_parameter_with_state": _parameter,
    "torch._tensor _rebuild_from_type_v2": _tensor_with_state,
    "torch._utils _rebuild_qtensor": _unreadable("is quantised"),
    "torch._utils _rebuild_sparse_tensor": _unreadable("is sparse"),
    "torch._utils _rebuild_sparse_csr_tensor": _unreadable("is sparse"),
    "torch._utils _rebuild_nested_tensor": _unreadable("is a nested tensor"),
    "torch._utils _rebuild_meta_tensor_no_storage": _unreadable(
        "is a meta tensor, which has no numbers"
    ),
    "torch._utils _rebuild_wrapper_subclass": _unreadable("is of a class that is not torch's"),
    "torch._utils _rebuild_device_tensor_from_numpy": _unreadable(
        "is of a device that torch does not save by itself"
    ),
    "numpy.core.multiarray _reconstruct": _unreadable("is a NumPy array"),
    "numpy._core.multiarray _reconstruct": _unreadable("is a NumPy array"),
}
# The kinds of storages, by the names of their classes in torch, and what the file has of each
# number
STORAGES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype("<u2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("<i1"),
    "ByteStorage": np.dtype("<u1"),
    "BoolStorage": np.dtype("<u1"),
    "ComplexFloatStorage": np.dtype("<c8"),
    "ComplexDoubleStorage": np.dtype("<c16"),
    "QInt8Storage": np.dtype("<i1"),
    "QUInt8Storage": np.dtype("<u1"),
    "QInt32Storage": np.dtype("<i4"),
    "UntypedStorage": np.dtype("<u1"),
}


def _call(function, arguments):
    """What a function gives for a tuple of arguments, or the same `Unknown` again."""
    if not isinstance(function, Unknown):
        raise DamagedFileError("its pickle calls what is not a function")
    if function.name not in FUNCTIONS:
        return function
    if type(arguments) is not tuple or len(arguments) > MAX_ARGUMENTS:
        raise DamagedFileError("its pickle calls a function in another way than PyTorch")
    return FUNCTIONS[function.name](*arguments)


def _fill(target, items):
    """Puts names and values in turn into a dictionary. Only names can be those of weights: other
    keys are skipped.
    """
    if len(items) % 2:
        raise DamagedFileError("a dictionary has a key without a value")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if type(key) is str and len(key) <= MAX_NAME:
            target[key] = value
    return target


def _name_of(value):
    return value.name.replace(" ", ".")[:80] if isinstance(value, Unknown) else type(value).__name__


def play(file, storages=None):
    """The object that a pickle describes: of dicts, lists, tuples, strings, numbers, `Tensor`s and
    `Unknown`s only.

    Args:
        file: a binary file, read from where it stands to the end of the pickle.
        storages: a dictionary that gets the pickle's storages by key.

    Raises:
        DamagedFileError: if the pickle is broken.
    """
    try:
        machine = _Machine({} if storages is None else storages)
        with warnings.catch_warnings(action="ignore"):  # of escapes in strings
            for _ in range(MAX_INSTRUCTIONS):
                code = file.read(1)
                if code == pickles.STOP:
                    (result,) = machine.stack
                    return result
                read_argument, act = INSTRUCTIONS[code]
                act(machine, read_argument(file))
        raise DamagedFileError(f"its pickle has more than {MAX_INSTRUCTIONS} instructions")
    except (DamagedFileError, UnsupportedFileError):
        raise
    except (
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        OverflowError,
        MemoryError,
        RecursionError,
    ) as error:
        raise DamagedFileError(f"its pickle is broken: {type(error).__name__}") from error


class _Machine:
    """The stack and the memo of a pickle, and what its instructions do to them."""

    def __init__(self, storages):
        self.storages = storages
        self.stack = []
        self.marks = []  # the stack's heights where marks were set
        self.memo = {}
        self.unknown = {}  # one object a name

    def push(self, value):
        self.check_room()
        self.stack.append(value)

    def check_room(self):
        if len(self.stack) + len(self.marks) >= MAX_STACK:
            raise DamagedFileError(
                f"its pickle has more than {MAX_STACK} objects at once that belong to nothing"
            )

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

    def mark(self, _):
        self.check_room()
        self.marks.append(len(self.stack))

    def name(self, name):
        self.push(self.unknown.setdefault(name, Unknown(name)))

    def name_on_stack(self, _):
        module, name = self.pop(2)
        if not all(type(part) is str and len(part) <= MAX_NAME for part in (module, name)):
            raise DamagedFileError("its pickle names what is not a name")
        self.name(f"{module} {name}")

    def instance(self, name):
        """INST, of protocol 0: a class by its name, and its arguments since the last mark."""
        arguments = tuple(self.pop_mark())
        self.name(name)
        self.call(self.pop(1)[0], arguments)

    def instance_on_stack(self, _):
        """OBJ, of protocol 1: a class and its arguments since the last mark."""
        function, *arguments = self.pop_mark()
        self.call(function, tuple(arguments))

    def call(self, function, arguments):
        self.push(_call(function, arguments))

    def persistent(self, _):
        """('storage', kind, key, location, count) and, in the stream format, a sixth: None. Or a
        class's source.
        """
        (item,) = self.pop(1)
        if type(item) is tuple and item and item[0] == "module" and isinstance(item[1], Unknown):
            self.push(item[1])
            return
        if type(item) is not tuple or len(item) not in (5, 6) or item[5:] not in ((), (None,)):
            raise DamagedFileError("a storage is described in an unknown way")
        label, kind, key, _, count = item[:5]
        if (
            label != "storage"
            or not isinstance(kind, Unknown)
            or type(key) is not str
            or type(count) is not int
        ):
            raise DamagedFileError("a storage is described in an unknown way")
        if not 0 <= count <= MAX_COUNT:
            raise DamagedFileError("a storage has less than no numbers, or more than any file")
        module, _, name = kind.name.partition(" ")
        if name not in STORAGES or not module.startswith("torch"):
            raise UnsupportedFileError(f"it has numbers of the kind {_name_of(kind)!r}")
        if len(key) > MAX_KEY or not key.isdecimal():
            raise DamagedFileError(f"a storage is called {key[:80]!r}")
        storage = Storage(name, key, count)
        if self.storages.setdefault(key, storage) != storage:
            raise DamagedFileError(f"the storage {key!r} is described in two ways")
        self.push(storage)

    def set_items(self, items):
        target = self.stack[-1]
        if type(target) is dict:
            _fill(target, items)
        elif not isinstance(target, Unknown):
            raise DamagedFileError("its pickle puts items into what is not a dictionary")

    def append(self, items):
        target = self.stack[-1]
        if type(target) is list:
            target.extend(items)
        elif not isinstance(target, Unknown):
            raise DamagedFileError("its pickle appends to what is not a list")

    def put(self, place):
        self.memo[place] = self.stack[-1]


def _refuse(name):
    def act(machine, _):
        raise UnsupportedFileError(
            f"its pickle has the instruction {name}, which torch.save does not write"
        )

    return act


ACTIONS = {
    "PROTO": lambda m, _: None,
    "FRAME": lambda m, _: None,
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    **dict.fromkeys(
        ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        _Machine.push,
    ),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _Machine.push),
    **dict.fromkeys(("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _Machine.push),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), _Machine.push),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda m, place: m.push(m.memo[place])),
    "MEMOIZE": lambda m, _: m.put(len(m.memo)),
    "MARK": _Machine.mark,
    "POP": lambda m, _: m.pop_mark() if m.marks[-1:] == [len(m.stack)] else m.pop(1),
    "POP_MARK": lambda m, _: m.pop_mark(),
    "DUP": lambda m, _: m.push(m.stack[-1]),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "TUPLE": lambda m, _: m.push(tuple(m.pop_mark())),
    "TUPLE1": lambda m, _: m.push(tuple(m.pop(1))),
    "TUPLE2": lambda m, _: m.push(tuple(m.pop(2))),
    "TUPLE3": lambda m, _: m.push(tuple(m.pop(3))),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "LIST": lambda m, _: m.push(m.pop_mark()),
    "APPEND": lambda m, _: m.append(m.pop(1)),
    "APPENDS": lambda m, _: m.append(m.pop_mark()),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "DICT": lambda m, _: m.push(_fill({}, m.pop_mark())),
    "SETITEM": lambda m, _: m.set_items(m.pop(2)),
    "SETITEMS": lambda m, _: m.set_items(m.pop_mark()),
    "EMPTY_SET": lambda m, _: m.name("builtins set"),
    "ADDITEMS": lambda m, _: m.append(m.pop_mark()),
    "FROZENSET": lambda m, _: m.call(Unknown("builtins frozenset"), tuple(m.pop_mark())),
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.name_on_stack,
    "INST": _Machine.instance,
    "OBJ": _Machine.instance_on_stack,
    "REDUCE": lambda m, _: m.call(*m.pop(2)),
    "NEWOBJ": lambda m, _: m.call(*m.pop(2)),
    "NEWOBJ_EX": lambda m, _: m.call(*m.pop(3)[:2]),
    "BINPERSID": _Machine.persistent,
    "BUILD": lambda m, _: m.pop(1),  # an object's state, or a state dict's attribute `_metadata`
}
# By an instruction's byte: what reads its argument, and what it does
INSTRUCTIONS = {
    opcode.code.encode("latin-1"): (
        opcode.arg.reader if opcode.arg else lambda file: None,
        ACTIONS.get(opcode.name) or _refuse(opcode.name),
    )
    for opcode in pickletools.opcodes
}


@contextlib.contextmanager
def open_file(path):
    """What was saved: tensors and the dictionaries around them."""
    with path.open("rb") as file:
        if file.read(4) == b"PK\x03\x04":
            with _zip(path) as contents:
                yield contents
        else:
            yield _stream(file)


@contextlib.contextmanager
def _zip(path):
    """The zip format: `<name>/data.pkl`, and a file `<name>/data/<key>` for each storage, not
    compressed.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (
        zipfile.BadZipFile,
        ValueError,
        OSError,
        NotImplementedError,
        struct.error,
        UnicodeError,
    ) as error:
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
            except (
                zipfile.BadZipFile,
                EOFError,
                OSError,
                ValueError,
                RuntimeError,
                NotImplementedError,
            ) as error:
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
    """The stream format: pickles of a magic number, version, machine, content and storages' keys;
    then the storages.
    """
    size = os.fstat(file.fileno()).st_size
    position = 0

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
            f"it is a pickle that torch.save has not written: {summarize(magic)}. "
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
    starts = {}
    for key in keys:
        if read(position, 8) != struct.pack("<Q", storages[key].length):
            raise DamagedFileError(f"the storage {key!r} has another length than its tensors say")
        starts[key] = position + 8
        position += 8 + storages[key].bytes
    if position != size:
        raise DamagedFileError(f"it has {size} bytes, its tensors {position}")
    return _contents(content, lambda storage: read(starts[storage.key], storage.bytes))


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

    return Contents(content, entry=entry, describe=summarize)


def summarize(value):
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
        return f"an object of {_name_of(value)}"
    if isinstance(value, (Tensor, Unreadable)):
        return "a tensor"
    return f"a {type(value).__name__}"
