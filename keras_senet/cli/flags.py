"""Flags of a command, made of the dataclass that holds its options: types, choices and defaults
are the fields', help and its headings the docstring's. The library that reads them is cyclopts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

from cyclopts import App, CycloptsError, Group, Parameter
from cyclopts.exceptions import MissingArgumentError, UnusedCliTokensError

from keras_senet.cpu import finds_gpu
from keras_senet.detection import recipes as detection_recipes
from keras_senet.detection.recipe import Recipe as DetectionRecipe
from keras_senet.fields import Meaning, meanings
from keras_senet.images.survey import survey
from keras_senet.recipes import RECIPES, Recipe, pick_recipe
from keras_senet.recipes.flat import flat_fields
from keras_senet.runs import STATES
from keras_senet.runs.record import find_network, read_recipe
from keras_senet.se import SE
from keras_senet_cli import EVERY_COMMAND, quiet

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


class RecipeKind(NamedTuple):
    """The recipes of a task, of which commands have options.

    named    returns the named ones
    lists    the command that lists them
    weights  the flag of what a run begins from
    datasets what --dataset may be, in messages
    pick     (arguments) -> the recipe for the dataset that flags name; None without one
    """

    named: Callable[[], Mapping[str, Any]]
    lists: str
    weights: str
    datasets: str
    pick: Callable[[Sequence[str]], Any]


class UsageError(ValueError):
    """Arguments that cannot be read; the message is one line."""


def read_options(command: str, cls: type[T], arguments: Sequence[str]) -> T | None:
    """The options of a command, or None where help was asked for, and printed.

    Raises:
        UsageError: for unknown flags and for values of another type.
        ValueError: for values that do not go together, or are out of bounds.
    """
    base = _find_recipe(cls, arguments)
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
        yield from _recipe_parameters(hints[field.name], base, topic, besides)
        return
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    meaning = meanings(cls)[field.name]
    yield _parameter(field.name, hints[field.name], default, meaning)


def _recipe_parameters(cls, base, topic, besides):
    """`--recipe`, then a flag for each field; their defaults are shown where a recipe is known."""
    kind = KINDS[cls]
    names = Annotated[str | None, Flag(choices=kind.named)]
    text = (
        f"a named recipe ({kind.lists}); default: that of the run in --workdir, or one for "
        "--dataset"
    )
    yield _parameter("recipe", names, None, Meaning(text, topic))
    values, shown = (base or cls()).flat(), base is not None
    for name, (_, hint, meaning) in flat_fields(cls).items():
        if name in besides:
            continue
        if name == "se":
            yield from _se_parameters(meaning, values["se"], shown)
        else:
            yield _parameter(name, hint, values[name], meaning, shown=shown, of_recipe=True)


def _recipe_class(cls):
    """The class of the recipe among the options, or None."""
    return next((hint for hint in get_type_hints(cls).values() if hint in KINDS), None)


def _se_parameters(meaning, se, shown):
    """`--se default` and `--se none`, and `--se.FIELD` for each field of SE blocks."""
    about = meaning._replace(text='SE blocks: "default", or "none" for the plain network')
    default = "none" if se is None else "default"
    yield _parameter("se", Literal["default", "none"], default, about, shown=shown)
    for name, hint in get_type_hints(SE).items():
        about = meanings(SE)[name]._replace(topic=meaning.topic)
        value = getattr(se or SE(), name)
        shown = shown and se is not None
        yield _parameter(f"se.{name}", hint, value, about, shown=shown, of_recipe=True)


def _parameter(name, hint, default, meaning, *, shown=True, of_recipe=False):
    """One parameter of the function that cyclopts calls.

    A field of a recipe can be reset: `--no-NAME` where it is True or False, `--NAME none` where it
    may be None. An option that is None has not been given.
    """
    kind, flag = hint, Flag()
    if get_origin(hint) is Annotated:
        kind, *flags = get_args(hint)
        for each in flags:
            flag = flag._replace(
                **{k: v for k, v in each._asdict().items() if v != Flag._field_defaults[k]}
            )
    if not of_recipe:
        kind = _without_none(kind)
    several = [each for each in (kind, *get_args(kind)) if get_origin(each) is tuple]
    spelled = name.replace("_", "-")
    if flag.positional and several:
        spelled = spelled.removesuffix("s")
    options: dict[str, Any] = {
        "name": (spelled.upper() if flag.positional else f"--{spelled}",),
        "help": meaning.text,
        "show_default": shown and default not in (None, (), False),
        "negative": None if of_recipe and kind is bool else "",
        "negative_iterable": "",
        "allow_repeating": True,  # the last one counts, or all where there may be several
    }
    if meaning.topic:
        options["group"] = meaning.topic
    if list_texts := flag.choices or flag.suggestions:
        texts = Literal[tuple(list_texts())]
        kind = _limit(kind, texts if flag.choices else texts | str)
        options["show_choices"] = False
    read = flag.read
    if several:
        options["consume_multiple"] = None if flag.positional else (1, None)
        read = read or _reader(several[0], none=() if kind is several[0] else None)
        if Ellipsis not in get_args(several[0]):  # how many there are is for the dataclass to say
            kind = tuple[get_args(several[0])[0], ...]
    elif kind in (int, int | None):
        read = read or _read_integer
    elif kind == str | None:
        read = read or _read_text_or_none
    if read:
        options |= {"n_tokens": 1, "converter": _converter(read)}
    if flag.read:
        kind = tuple[str, ...] if several else str
    parameter = Parameter(**options)
    return inspect.Parameter(
        name.replace(".", "__"),
        inspect.Parameter.POSITIONAL_ONLY if flag.positional else inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is dataclasses.MISSING else default,
        annotation=Annotated[kind, parameter],
    )


def _without_none(kind):
    """`str | None` as str; a tuple stays, whose text "none" is nothing."""
    kinds = [each for each in get_args(kind) if each is not NoneType]
    is_optional = NoneType in get_args(kind) and len(kinds) == 1
    return kinds[0] if is_optional and get_origin(kinds[0]) is not tuple else kind


def _in_order(parameters):
    """The parameters in groups that the help has in the order of the fields."""
    groups = {}
    for each in parameters:
        for topic in each.annotation.__metadata__[0].group:
            group = groups.setdefault(topic, Group(topic, sort_key=len(groups)))
            each = each.replace(annotation=Annotated[each.annotation, Parameter(group=group)])
        yield each


def _limit(kind, texts):
    """The type with these texts in the place of any."""
    if get_origin(kind) is tuple:
        return tuple[texts, ...]
    return texts if kind is str else texts | None


def _read_integer(given):
    """An integer, where cyclopts would round 1.5 to 2."""
    text = given[-1][-1]
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"must be a whole number. Received: {text}") from None


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
    if recipe := _recipe_class(cls):
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
    """The options with the values that were given."""
    fields, others = {field.name: field for field in dataclasses.fields(cls)}, {}
    for name, hint in get_type_hints(cls, include_extras=True).items():
        if hint in KINDS:
            others = {key: given.pop(key) for key in list(given) if key not in fields}
            given.pop(name, None)
            given[name] = _change(KINDS[hint], base, others, given.get("workdir"))
    options = cls(**given)
    if hasattr(cls, "changed"):
        object.__setattr__(options, "changed", frozenset(others))
        object.__setattr__(options, "base", base)
    return options


def _find_recipe(cls, arguments):
    """The recipe that flags change: the named one, else that of the run in the work directory, else
    one for the dataset; None where nothing says which.
    """
    if (recipe_class := _recipe_class(cls)) is None:
        return None
    kind = KINDS[recipe_class]
    name, workdir = (_value(flag, arguments) for flag in ("--recipe", "--workdir"))
    wants_help = not {"--help", "-h"}.isdisjoint(arguments)
    (runs,) = (
        each.metadata.get("runs") for each in dataclasses.fields(cls) if each.name == "recipe"
    )
    with contextlib.suppress(*((ValueError, OSError) if wants_help else ())):
        if name is not None:
            recipe = kind.named().get(name)
            return recipe and recipe.override(**_find_network(arguments, kind.weights))
        begun = _read_begun(Path(workdir), runs, recipe_class) if workdir else None
        return begun if begun or wants_help else kind.pick(arguments)
    return None


def _find_network(arguments, flag):
    """The fields of a recipe that say which network the weights are of, where flags name weights
    and no network.
    """
    weights = _value(flag, arguments)
    if not weights or _value("--model", arguments):
        return {}
    found = find_network(weights)
    if not found and weights.endswith((".weights.h5", ".safetensors")) and Path(weights).is_file():
        with quiet():
            from keras_senet.runs.load import find_file_network  # imports Keras

        found = find_file_network(weights)
    return found


def _pick(arguments):
    """The recipe for the dataset that flags name, and for the weights; None without a dataset."""
    dataset, weights, data_dir = (
        _value(flag, arguments) for flag in ("--dataset", "--weights", "--data-dir")
    )
    if not dataset:
        return None
    images, size = survey(dataset, data_dir)
    if weights is None or weights.lower() == "none":
        return pick_recipe(dataset, images=images, size=size)
    network = _find_network(arguments, "--weights")
    gpu = finds_gpu()
    return pick_recipe(dataset, images=images, size=size, weights=weights, gpu=gpu, **network)


def _pick_detection(arguments):
    """The same for images with boxes."""
    if not (dataset := _value("--dataset", arguments)):
        return None
    recipes = detection_recipes.RECIPES
    own = {recipe.dataset: recipe for recipe in reversed(recipes.values())}
    recipe = own.get(dataset, recipes["finetune"])
    network = _find_network(arguments, "--backbone-weights")
    return recipe.override(dataset=dataset, **network)


# By the class of a recipe
KINDS = {
    Recipe: RecipeKind(
        named=lambda: RECIPES,
        lists="`keras-senet list --recipes`",
        weights="--weights",
        datasets="a folder of images, a CSV file or the name of a dataset",
        pick=_pick,
    ),
    DetectionRecipe: RecipeKind(
        named=lambda: detection_recipes.RECIPES,
        lists="`keras-senet list --detectors`",
        weights="--backbone-weights",
        datasets="a folder or a JSON file of COCO, or the name of a dataset",
        pick=_pick_detection,
    ),
}


def _read_begun(workdir, pattern, cls):
    """The recipe of the run in a work directory, or, with a pattern, of the first run whose
    `recipe.json` it finds there; None without one.

    Where `recipe.json` is gone or damaged, which `WorkDir` then says, that of its copy.
    """
    places = [workdir, *(workdir / name for name in STATES.values())]
    if pattern:
        places = sorted(file.parent for file in workdir.glob(pattern))
    damage = None
    for folder in places:
        try:
            return read_recipe(folder, cls)
        except FileNotFoundError:
            continue
        except (ValueError, OSError) as error:
            damage = damage or error
    if damage:
        raise damage
    return None


def _value(flag, arguments):
    """The last value that a flag is given, or None."""
    values = [
        following if argument == flag else argument.partition("=")[2]
        for argument, following in itertools.pairwise([*arguments, None])
        if argument.partition("=")[0] == flag
    ]
    return values[-1] if values else None


def _change(kind, base, given, workdir):
    """The recipe with the fields that flags change."""
    if base is None:
        raise ValueError(
            "--dataset or --recipe must be given, as --workdir holds no run to continue: "
            f"{kind.datasets}, for which a recipe is chosen, or one of {', '.join(kind.named())}. "
            f"Received: --workdir {workdir}"
        )
    blocks = {name[4:]: given.pop(name) for name in list(given) if name.startswith("se__")}
    choice = given.pop("se", None)
    if choice == "none" and blocks:
        raise ValueError(
            f"--se none has no SE blocks to change. Received: --se.{next(iter(blocks))}"
        )
    if choice or blocks:
        se = (
            None
            if choice == "none"
            else SE()
            if choice == "default" or base.se is None
            else base.se
        )
        given["se"] = se and dataclasses.replace(se, **blocks)
    return base.override(**given)
