"""The fields of a recipe, and of the plain data in it, under one name each: that of a flag."""

import dataclasses
from typing import Any, NamedTuple, get_type_hints

from keras_senet.fields import Meaning, meanings
from keras_senet.recipes.recipe import NOT_FLAGS


class Flat(NamedTuple):
    """A field: its own name, its type, and what its docstring says of it."""

    field: str
    hint: Any
    meaning: Meaning


def flat_fields(cls: Any) -> dict[str, Flat]:
    """The fields of a class of recipes by the names of `flat()`, in their order.

    Those of the plain data in it are under their own names there, or, as `anchor_sizes` of
    `anchors`, with that of what they are in.
    """
    names = cls().flat()
    found = dict(_visit(cls, names, "", ""))
    return {name: found[name] for name in names if name in found}


def _visit(cls, names, holder, topic):
    """(name, `Flat`) of each field; SE blocks are one."""
    hints, documented = get_type_hints(cls), meanings(cls)
    for each in dataclasses.fields(cls):
        hint = hints[each.name]
        if each.name in NOT_FLAGS and not dataclasses.is_dataclass(hint):
            continue
        meaning = documented[each.name]
        meaning = meaning._replace(topic=meaning.topic or topic)
        if dataclasses.is_dataclass(hint):
            yield from _visit(hint, names, each.name, meaning.topic)
        else:
            within = f"{holder.removesuffix('s')}_{each.name}"
            name = within if within in names else each.name
            yield name, Flat(each.name, hint, meaning)
