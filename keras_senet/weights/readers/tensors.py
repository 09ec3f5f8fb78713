"""The tensors of a pickle of `torch.save`, and the functions that may build them there."""

import math
from typing import NamedTuple

import numpy as np

from keras_senet.weights.readers import DamagedFileError

MAX_COUNT = 1 << 40  # numbers in a storage
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


def _tensor(storage, offset, shape, strides, *others):
    """torch._utils._rebuild_tensor and _v2; the last of the seven says how to read the numbers."""
    if any(others[2:]):
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


def _parameter(tensor, *_):
    """torch._utils._rebuild_parameter and _rebuild_parameter_with_state."""
    if not isinstance(tensor, (Tensor, Unreadable)):
        raise DamagedFileError("a parameter is not a tensor")
    return tensor


def _dictionary(*arguments):
    """An OrderedDict. Python 2 wrote a list of pairs, which is used up: no list is read twice."""
    target = {}
    for pairs in arguments:
        if type(pairs) is not list:
            raise DamagedFileError("a dictionary is made of what is not a list of pairs")
        for key, value in pairs:
            fill(target, (key, value))
        pairs.clear()
    return target


def _unreadable(reason):
    return lambda *_: Unreadable(reason)


# The functions that a pickle may call, each in place of its namesake: all others give an `Unknown`.
FUNCTIONS = {
    "collections OrderedDict": _dictionary,
    "collections defaultdict": lambda *_: {},
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
    # for number types that have no storage of their own
    "torch._utils _rebuild_tensor_v3": lambda *arguments: Unreadable(
        f"has numbers of the type {name_of(arguments[6])}"
    ),
    "torch._utils _rebuild_parameter": _parameter,
    "torch._utils _rebuild_parameter_with_state": _parameter,
    # of a tensor that has attributes
    "torch._tensor _rebuild_from_type_v2": lambda function, kind, arguments, *_: call_function(
        function, arguments
    ),
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


def call_function(function, arguments):
    """What a function gives for a tuple of arguments, or the same `Unknown` again."""
    if not isinstance(function, Unknown):
        raise DamagedFileError("its pickle calls what is not a function")
    if function.name not in FUNCTIONS:
        return function
    if type(arguments) is not tuple or len(arguments) > MAX_ARGUMENTS:
        raise DamagedFileError("its pickle calls a function in another way than PyTorch")
    return FUNCTIONS[function.name](*arguments)


def fill(target, items):
    """Puts names and values in turn into a dictionary; other keys cannot be weights."""
    if len(items) % 2:
        raise DamagedFileError("a dictionary has a key without a value")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if type(key) is str and len(key) <= MAX_NAME:
            target[key] = value
    return target


def name_of(value):
    """What an object of a file is called in messages."""
    return value.name.replace(" ", ".")[:80] if isinstance(value, Unknown) else type(value).__name__
