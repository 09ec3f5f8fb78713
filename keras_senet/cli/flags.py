"""Flags of a command, made of the dataclass that holds its options: types, choices and defaults
are the fields', help and its headings the docstring's. The library that reads them is cyclopts.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import re
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from cyclopts import App, CycloptsError, Group, Parameter
from cyclopts.exceptions import MissingArgumentError, UnusedCliTokensError

from keras_senet.cli.parameters import make_parameter
from keras_senet.cli.recipe_flags import (
    KINDS,
    change_recipe,
    find_recipe,
    find_recipe_class,
    recipe_parameters,
)
from keras_senet.fields import meanings
from keras_senet.recipes.flat import flat_fields
from keras_senet.se import SE
from keras_senet_cli import EVERY_COMMAND

T = TypeVar("T")


class UsageError(ValueError):
    """Arguments that cannot be read; the message is one line."""


def read_options(command: str, cls: type[T], arguments: Sequence[str]) -> T | None:
    """The options of a command, or None where help was asked for, and printed.

    Raises:
        UsageError: for unknown flags and for values of another type.
        ValueError: for values that do not go together, or are out of bounds.
    """
    base = find_recipe(cls, arguments)
    app = make_app(command, cls, base)
    try:
        given = app(_spell_out(cls, arguments), exit_on_error=False, print_error=False)
    except CycloptsError as error:
        raise UsageError(_explain(error)) from error
    if given is None:
        return None
    options = _fill(cls, given, base)
    object.__setattr__(options, "arguments", (*command.split(), *arguments))
    return options


def make_app(command: str, cls: type, base: Any = None) -> App:
    """The command as cyclopts knows it; called with arguments it returns those that were given."""
    parameters = [
        each for field in dataclasses.fields(cls) for each in _parameters(cls, field, base)
    ]
    parameters = sorted(_in_order(parameters), key=lambda each: each.kind)

    def read(*values, **given):
        return dict(zip(positional, values, strict=False)) | given

    positional = [each.name for each in parameters if each.kind is each.POSITIONAL_ONLY]
    read.__signature__ = inspect.Signature(parameters)
    read.__annotations__ = {each.name: each.annotation for each in parameters}
    text = EVERY_COMMAND[command]
    app = App(
        name=command,
        help=f"{text[0].upper()}{text[1:]}.",
        usage=f"Usage: keras-senet {command} {_usage(parameters)}[OPTIONS]",
        version_flags=(),
        help_on_error=False,
        result_action="return_value",
        group_parameters=Group("Options", sort_key=99),
    )
    app.default(read)
    app["--help"].group = Group("Options", sort_key=99)
    return app


def make_complete_app(classes: dict[str, type]) -> App:
    """`keras-senet` with all commands, for the completion of shells."""
    app = App(name="keras-senet")
    groups = {"": app}
    for command, cls in classes.items():
        group, _, name = command.rpartition(" ")
        if group not in groups:
            groups[group] = App(name=group)
            app.command(groups[group])
        groups[group].command(make_app(command, cls), name=name)
    return app


def _usage(parameters):
    shown = []
    for each in parameters:
        name, *_ = each.annotation.__metadata__[0].name
        several = "..." if get_origin(get_args(each.annotation)[0]) is tuple else ""
        if each.kind is each.POSITIONAL_ONLY:
            text = f"{name}{several}"
            shown.append(text if each.default is each.empty else f"[{text}]")
        elif each.default is each.empty:
            shown.append(f"{name} {name.removeprefix('--').upper()}{several}")
    return "".join(f"{text} " for text in shown)


def _parameters(cls, field, base):
    """The parameters of a field: one, or for a recipe its name's and those of its fields."""
    hints = get_type_hints(cls, include_extras=True)
    if hints[field.name] in KINDS:
        topic = meanings(cls)["workdir"].topic
        besides = field.metadata.get("besides", ())
        yield from recipe_parameters(hints[field.name], base, topic, besides)
        return
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    meaning = meanings(cls)[field.name]
    yield make_parameter(field.name, hints[field.name], default, meaning)


def _in_order(parameters):
    """The parameters in groups that the help has in the order of the fields."""
    groups = {}
    for each in parameters:
        for topic in each.annotation.__metadata__[0].group:
            group = groups.setdefault(topic, Group(topic, sort_key=len(groups)))
            each = each.replace(annotation=Annotated[each.annotation, Parameter(group=group)])
        yield each


def _spell_out(cls, arguments):
    """The arguments with the text that a flag without one stands for."""
    bare = {}
    for name, hint in get_type_hints(cls, include_extras=True).items():
        for each in getattr(hint, "__metadata__", ()):
            if each.bare:
                bare[f"--{name.replace('_', '-')}"] = each.bare
    spelled = []
    for argument, following in itertools.pairwise([*arguments, "--"]):
        spelled.append(argument)
        if argument in bare and following.startswith("--"):
            spelled.append(bare[argument])
    return spelled


def spell_flags(cls: type, message: str) -> str:
    """A message that names fields, such as "`epochs` ... Received: epochs=0", with their flags."""
    names = {each.name for each in dataclasses.fields(cls)}
    # A `model` that messages name is the network, which --workdir may have given
    names = {name: name for name in names - {"recipe", "model"}}
    if recipe := find_recipe_class(cls):
        flat = flat_fields(recipe)
        names |= {each.field: name for name, each in flat.items()} | {name: name for name in flat}
        names |= {each.name: f"se.{each.name}" for each in dataclasses.fields(SE)}

    def spell(name, value=""):
        flag = names[name].replace("_", "-")
        if value in ("True", "False"):
            return f"--{'' if value == 'True' else 'no-'}{flag}"
        return f"--{flag} {value}".rstrip()

    found = re.sub(r"`(\w+)`", lambda m: spell(m[1]) if m[1] in names else m[0], message)
    if found == message:
        return message
    return re.sub(
        r"(?<!\S)(\w+)=(\([^()]*\)|'[^']*'|[^\s,;]+)",
        lambda m: spell(m[1], re.sub(r"[(),']", "", m[2])) if m[1] in names else m[0],
        found,
    )


def _explain(error):
    if isinstance(error, MissingArgumentError) and error.keyword is None:
        return f"{error.argument.name} must be given"
    if isinstance(error, UnusedCliTokensError):
        return f"there is no place for {' '.join(error.unused_tokens)!r}"
    text, argument = " ".join(str(error).split()), error.argument
    if argument is None or argument.name in text:
        return text
    return f"Invalid value for {argument.name}: {text}"


def _fill(cls, given, base):
    fields, others = {field.name: field for field in dataclasses.fields(cls)}, {}
    for name, hint in get_type_hints(cls, include_extras=True).items():
        if hint in KINDS:
            others = {key: given.pop(key) for key in list(given) if key not in fields}
            given.pop(name, None)
            given[name] = change_recipe(KINDS[hint], base, others, given.get("workdir"))
    options = cls(**given)
    if hasattr(cls, "changed"):
        object.__setattr__(options, "changed", frozenset(others))
        object.__setattr__(options, "base", base)
    return options
