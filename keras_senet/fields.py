"""Checks of the fields of plain-data classes, with messages that name the field, its value and what is accepted."""

import dataclasses
from typing import get_args, get_origin


def require(instance, name, holds, accepted):
    """Raises ValueError unless the field `name` holds what is accepted."""
    if not holds:
        raise ValueError(f"`{name}` must be {accepted}. Received: {name}={getattr(instance, name)!r}")


def require_types(instance):
    """Raises ValueError for the first field whose value is not of its annotated type; integers are floats, too."""
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        require(instance, field.name, _is_of(value, field.type), f"of type {_type_name(field.type)}")


def _is_of(value, kind):
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_is_of(item, get_args(kind)[0]) for item in value)
    accepted = (int, float) if kind is float else kind
    return isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))


def _type_name(kind):
    return "tuple of numbers" if get_origin(kind) is tuple else kind.__name__
