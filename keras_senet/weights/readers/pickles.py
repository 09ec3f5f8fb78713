"""The pickles of `torch.save`, which are not unpickled: `play` goes through their instructions.

It builds dictionaries, lists, tuples, strings, numbers and tensors. Every other class and function
that a pickle names, such as an optimizer's or argparse's, becomes an `Unknown`: a name, which is
never imported or called.
"""

import pickle
import pickletools
import warnings

from keras_senet.weights.readers import DamagedFileError, UnsupportedFileError
from keras_senet.weights.readers.tensors import (
    MAX_COUNT,
    MAX_NAME,
    STORAGES,
    Storage,
    Unknown,
    call_function,
    fill,
    name_of,
)

# Of SENet-154 with its running average and the states of Adam, a pickle has a fifth of these.
MAX_INSTRUCTIONS = 1_000_000
MAX_STACK = 20_000  # objects; torch.save puts 1,000 items at a time into a dictionary
MAX_KEY = 20  # digits of a storage's number


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
                if code == pickle.STOP:
                    (result,) = machine.stack
                    return result
                read_argument, act = INSTRUCTIONS[code]
                act(machine, read_argument(file))
        raise DamagedFileError(f"its pickle has more than {MAX_INSTRUCTIONS} instructions")
    except (DamagedFileError, UnsupportedFileError):
        raise
    except Exception as error:  # what damaged instructions can raise is not a list
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
        self.push(call_function(function, arguments))

    def persistent(self, _):
        """('storage', kind, key, location, count), in streams then None. Or a class's source."""
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
            raise UnsupportedFileError(f"it has numbers of the kind {name_of(kind)!r}")
        if len(key) > MAX_KEY or not key.isdecimal():
            raise DamagedFileError(f"a storage is called {key[:80]!r}")
        storage = Storage(name, key, count)
        if self.storages.setdefault(key, storage) != storage:
            raise DamagedFileError(f"the storage {key!r} is described in two ways")
        self.push(storage)

    def set_items(self, items):
        target = self.stack[-1]
        if type(target) is dict:
            fill(target, items)
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
    "DICT": lambda m, _: m.push(fill({}, m.pop_mark())),
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
