"""Parameters of the function that cyclopts calls for a command, made of fields of dataclasses."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import MISSING
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args, get_origin

from cyclopts import Parameter

T = TypeVar("T")


class Flag(NamedTuple):
    """How a field is read where its type does not say it, as `Annotated[TYPE, Flag(...)]`.

    positional  whether it has no flag
    choices     returns the accepted texts
    suggestions returns some of them, for the completion of shells
    read        (the texts of each time that the flag is given) -> the value; raises ValueError
    bare        the text that a flag without one stands for
    """

    positional: bool = False
    choices: Callable[[], Iterable[str]] | None = None
    suggestions: Callable[[], Iterable[str]] | None = None
    read: Callable[[list[list[str]]], Any] | None = None
    bare: str | None = None


Positional = Annotated[T, Flag(positional=True)]


def make_parameter(name, hint, default, meaning, *, shown=True, of_recipe=False):
    """The parameter of a field, with the type `hint` and the `Meaning` that documents it.

    A field of a recipe can be reset: `--no-NAME` where it is True or False, `--NAME none` where it
    may be None. An option that is None has not been given.
    """
    kind, flag = _split(hint)
    kind = kind if of_recipe else _without_none(kind)
    several = next((each for each in (kind, *get_args(kind)) if get_origin(each) is tuple), None)
    spelled = name.replace("_", "-")
    if flag.positional:
        spelled = (spelled.removesuffix("s") if several else spelled).upper()
    options: dict[str, Any] = {
        "name": (spelled if flag.positional else f"--{spelled}",),
        "help": meaning.text,
        "show_default": shown and default not in (None, (), False),
        "negative": None if of_recipe and kind is bool else "",
        "negative_iterable": "",
        "allow_repeating": True,  # the last one counts, or all where there may be several
    }
    if meaning.topic:
        options["group"] = meaning.topic
    if several and not flag.positional:
        options["consume_multiple"] = (1, None)
    if list_texts := flag.choices or flag.suggestions:
        texts = Literal[tuple(list_texts())]
        kind = _limit(kind, texts if flag.choices else texts | str)
        options["show_choices"] = False
    if read := flag.read or _find_reader(kind, several, default):
        options |= {"n_tokens": 1, "converter": _converter(read)}
    if flag.read:
        kind = tuple[str, ...] if several else str
    elif several and Ellipsis not in get_args(several):  # how many is for the dataclass to say
        kind = tuple[get_args(several)[0], ...]
    return inspect.Parameter(
        name.replace(".", "__"),
        inspect.Parameter.POSITIONAL_ONLY if flag.positional else inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is MISSING else default,
        annotation=Annotated[kind, Parameter(**options)],
    )


def _split(hint):
    """(the type, the `Flag` of all that it is annotated with)."""
    if get_origin(hint) is not Annotated:
        return hint, Flag()
    kind, *flags = get_args(hint)
    given = [(k, v) for each in flags for k, v in each._asdict().items()]
    return kind, Flag(**{k: v for k, v in given if v != Flag._field_defaults[k]})


def _without_none(kind):
    """`str | None` as str; a tuple stays, whose text "none" is nothing."""
    kinds = [each for each in get_args(kind) if each is not NoneType]
    is_optional = NoneType in get_args(kind) and len(kinds) == 1
    return kinds[0] if is_optional and get_origin(kinds[0]) is not tuple else kind


def _limit(kind, texts):
    """The type with these texts in the place of any."""
    if get_origin(kind) is tuple:
        return tuple[texts, ...]
    return texts if kind is str else texts | None


def _find_reader(kind, several, default):
    """What reads texts that cyclopts would read otherwise, or None."""
    if several:
        return _reader(several, none=() if kind is several else None)
    if kind in (int, int | None):
        return _read_integer
    if kind is str and default != "":
        return _read_text
    return _read_text_or_none if kind == str | None else None


def _read_integer(given):
    """An integer, where cyclopts would round 1.5 to 2."""
    text = given[-1][-1]
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"must be a whole number. Received: {text}") from None


def _read_text(given):
    """A text with something in it, such as a path: a variable of the shell may have been empty."""
    text = given[-1][-1]
    if not text:
        raise ValueError("must not be empty")
    return text


def _read_text_or_none(given):
    """A text, where cyclopts would keep "none"."""
    text = given[-1][-1]
    return None if text.lower() == "none" else text


def _reader(kind, none):
    """What reads a tuple of numbers, also joined by commas, or the text "none"; None for others."""
    item = get_args(kind)[0]
    if item not in (int, float):
        return None

    def read(given):
        texts = [part for values in given for text in values for part in text.split(",") if part]
        if [text.lower() for text in texts] == ["none"]:
            return none
        try:
            return tuple(map(item, texts))
        except ValueError:
            raise ValueError(
                f"must be {'whole ' if item is int else ''}numbers. Received: {' '.join(texts)}"
            ) from None

    return read


def _converter(read):
    def convert(_, tokens):
        given: list[list[str]] = []
        for token in tokens:
            if token.index == 0:
                given.append([])
            given[-1].append(token.value)
        return read(given)

    return convert
