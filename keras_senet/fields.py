"""Checks of the fields of plain-data classes, with messages that name the field, its value and what
is accepted.
"""

import dataclasses
import numbers
from typing import Any, get_args, get_origin

import numpy as np


def require(instance: Any, name: str, holds: object, accepted: str) -> None:
    """Raises ValueError unless the field `name` holds what is accepted."""
    if not holds:
        raise ValueError(
            f"`{name}` must be {accepted}. Received: {name}={getattr(instance, name)!r}"
        )


def is_integer(value: object) -> bool:
    """Whether a value is an integer, such as Python's and NumPy's, and no bool."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def plain(value: Any) -> Any:
    """NumPy's numbers, also in tuples, as Python's, which JSON can hold; anything else as it is."""
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    return value.item() if isinstance(value, np.generic) else value


def require_types(instance: Any) -> None:
    """Raises ValueError for the first field whose value is not of its annotated type; integers are
    floats, too.

    NumPy's numbers become Python's.
    """
    for field in dataclasses.fields(instance):
        value = plain(getattr(instance, field.name))
        object.__setattr__(instance, field.name, value)
        require(
            instance, field.name, _is_of(value, field.type), f"of type {_type_name(field.type)}"
        )


def _is_of(value, kind):
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_is_of(item, get_args(kind)[0]) for item in value)
    if kind is int:
        return is_integer(value)
    accepted = (int, float) if kind is float else kind
    return isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))


def _type_name(kind):
    return "tuple of numbers" if get_origin(kind) is tuple else kind.__name__
