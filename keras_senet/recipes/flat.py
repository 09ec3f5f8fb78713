"""The fields of a recipe, and of the plain data in it, under one name each: that of a flag."""

import dataclasses
from typing import Any, NamedTuple, get_type_hints

from keras_senet.fields import Meaning, meanings
from keras_senet.recipes.recipe import NOT_FLAGS


class Flat(NamedTuple):
    """A field: its type, and what its docstring says of it."""

    hint: Any
    meaning: Meaning


def flat_fields(cls: Any) -> dict[str, Flat]:
    """The fields of a class of recipes by the names of `flat()`, in their order.

    Those of the plain data in it are under their own names, or those that `cls.RENAMED` has for the
    names of their class and field.
    """
    found = dict(_visit(cls, getattr(cls, "RENAMED", {}), ""))
    return {name: found[name] for name in cls().flat() if name in found}


def flat_meanings(cls: Any) -> dict[str, Meaning]:
    """What docstrings say of these fields."""
    return {name: each.meaning for name, each in flat_fields(cls).items()}


def _visit(cls, renamed, topic):
    """(name, `Flat`) of each field; SE blocks are one."""
    hints, documented = get_type_hints(cls), meanings(cls)
    for each in dataclasses.fields(cls):
        is_data = dataclasses.is_dataclass(hints[each.name])
        if each.name in NOT_FLAGS and not is_data:
            continue
        meaning = documented[each.name]
        meaning = meaning._replace(topic=meaning.topic or topic)
        if is_data:
            yield from _visit(hints[each.name], renamed, meaning.topic)
        else:
            name = renamed.get((cls.__name__, each.name), each.name)
            yield name, Flat(hints[each.name], meaning)
