"""The recipe that the flags of a command change: which one, and a flag for each of its fields."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_type_hints

from keras_senet.cli.parameters import Flag, make_parameter
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
from keras_senet_cli import quiet


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


def recipe_parameters(cls, base, topic, besides):
    """`--recipe`, then a flag for each field; their defaults are shown where a recipe is known."""
    kind = KINDS[cls]
    names = Annotated[str | None, Flag(choices=kind.named)]
    text = (
        f"a named recipe ({kind.lists}); default: that of the run in --workdir, or one for "
        "--dataset"
    )
    yield make_parameter("recipe", names, None, Meaning(text, topic))
    values, shown = (base or cls()).flat(), base is not None
    for name, (_, hint, meaning) in flat_fields(cls).items():
        if name in besides:
            continue
        if name == "se":
            yield from _se_parameters(meaning, values["se"], shown)
        else:
            yield make_parameter(name, hint, values[name], meaning, shown=shown, of_recipe=True)


def find_recipe_class(cls):
    """The class of the recipe among the options, or None."""
    return next((hint for hint in get_type_hints(cls).values() if hint in KINDS), None)


def _se_parameters(meaning, se, shown):
    """`--se default` and `--se none`, and `--se.FIELD` for each field of SE blocks."""
    about = meaning._replace(text='SE blocks: "default", or "none" for the plain network')
    default = "none" if se is None else "default"
    yield make_parameter("se", Literal["default", "none"], default, about, shown=shown)
    for name, hint in get_type_hints(SE).items():
        about = meanings(SE)[name]._replace(topic=meaning.topic)
        value = getattr(se or SE(), name)
        shown = shown and se is not None
        yield make_parameter(f"se.{name}", hint, value, about, shown=shown, of_recipe=True)


def find_recipe(cls, arguments):
    """The recipe that flags change: the named one, else that of the run in the work directory, else
    one for the dataset; None where nothing says which.
    """
    if (recipe_class := find_recipe_class(cls)) is None:
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
    """A recipe's fields that say whose network the weights are, where flags name weights only."""
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
    values = [
        following if argument == flag else argument.partition("=")[2]
        for argument, following in itertools.pairwise([*arguments, None])
        if argument.partition("=")[0] == flag
    ]
    return values[-1] if values else None


def change_recipe(kind, base, given, workdir):
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
        se = base.se if base.se and choice is None else SE()
        given["se"] = None if choice == "none" else dataclasses.replace(se, **blocks)
    return base.override(**given)
