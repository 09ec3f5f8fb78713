"""Checks of arguments and of fields of plain-data classes, whose messages name the argument, its
value and what is accepted, and what a class' docstring says of each field.
"""

import dataclasses
import numbers
from collections.abc import Iterable, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin


def check_argument(name: str, value: object, holds: object, accepted: str) -> None:
    """Raises ValueError unless the value of the argument `name` is what is accepted."""
    if not holds:
        raise ValueError(f"`{name}` must be {accepted}. Received: {name}={value!r}")


def check_field(instance: Any, name: str, holds: object, accepted: str) -> None:
    """Raises ValueError unless the field `name` is what is accepted."""
    check_argument(name, getattr(instance, name), holds, accepted)


def check_choice(name: str, value: object, choices: Iterable) -> None:
    """Raises ValueError unless the value is one of the choices."""
    check_argument(name, value, value in list(choices), f"one of {list(choices)}")


def check_flag(name: str, value: object) -> None:
    """Raises ValueError unless the value is True or False: "no" would count as True."""
    check_argument(name, value, isinstance(plain(value), bool), "True or False")


def check_integer(name: str, value: Any, least: int) -> None:
    """Raises ValueError unless the value is an integer, and not below `least`."""
    holds = is_integer(value) and value >= least
    check_argument(name, value, holds, f"an integer of at least {least}")


def list_some(texts: Sequence[str], most: int) -> str:
    """The first texts, and how many more there are."""
    more = f" and {len(texts) - most:,} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def fits_utf8(text: str) -> bool:
    """Whether UTF-8 can hold a text: Python's names of files may have bytes that it cannot."""
    return text.encode("utf-8", "ignore").decode() == text


def is_integer(value: object) -> bool:
    """Whether a value is an integer, such as Python's and NumPy's, and no bool."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def plain(value: Any) -> Any:
    """NumPy's scalars, also in tuples, as Python's, which JSON can hold; anything else as it is."""
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    is_scalar = any((c.__module__, c.__name__) == ("numpy", "generic") for c in type(value).__mro__)
    return value.item() if is_scalar else value


def require_types(instance: Any) -> None:
    """Raises ValueError for the first field whose value is not of its annotated type; integers are
    floats, too.

    NumPy's scalars become Python's.
    """
    for field in dataclasses.fields(instance):
        value = plain(getattr(instance, field.name))
        object.__setattr__(instance, field.name, value)
        check_field(instance, field.name, _is_of(value, field.type), _describe(field.type))


def _is_of(value: object, kind: Any) -> bool:
    if get_origin(kind) in (Union, UnionType):
        return any(_is_of(value, each) for each in get_args(kind))
    if get_origin(kind) is Literal:
        return any(value == each and type(value) is type(each) for each in get_args(kind))
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_is_of(item, get_args(kind)[0]) for item in value)
    if kind is int:
        return is_integer(value)
    accepted = (int, float) if kind is float else kind
    return isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))


def _describe(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    return f"of type {_name(kind)}"


def _name(kind: Any) -> str:
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(map(_name, get_args(kind)))
    if get_origin(kind) is tuple:
        return f"tuple of {'integers' if get_args(kind)[0] is int else 'numbers'}"
    return "None" if kind is NoneType else kind.__name__


class Meaning(NamedTuple):
    """What a docstring says of a field, in one line, and the heading above it."""

    text: str
    topic: str


def meanings(cls: type) -> dict[str, Meaning]:
    """What the docstrings of a dataclass and of those that it derives from say of each field.

    A row is the field's name, or those of several, and, after two spaces or more, its meaning,
    which goes on in lines that are indented further; a line that ends with a colon is the heading
    of the rows below.
    """
    fields = {field.name for field in dataclasses.fields(cls)}
    found: dict[str, Meaning] = {}
    for each in reversed(cls.__mro__):
        names, topic = [], ""
        for line in (each.__doc__ or "").splitlines():
            first, _, rest = line.strip().partition("  ")
            if rest and fields.issuperset(first.split(", ")):
                names = first.split(", ")
                found |= dict.fromkeys(names, Meaning(rest.strip(), topic))
            elif names and line.startswith(" " * 8) and line.strip():
                text = f"{found[names[0]].text} {line.strip()}"
                found |= dict.fromkeys(names, Meaning(text, topic))
            else:
                names = []
                if line.endswith(":"):
                    topic = line.strip()[:-1]
    return found
