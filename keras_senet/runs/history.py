"""The recipes that a run has followed one after another: a run can be extended.

`recipe.json` has the recipe that it follows now and, once it was extended, its `history`: an entry
for each recipe, with the epochs at which it and the schedule of its learning rate began, and with
the earlier recipes themselves.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from keras_senet.fields import check_argument
from keras_senet.recipes.recipe import Recipe

# What a run that is extended with a restart may change, besides the number of its epochs
RESTARTED = (
    "learning_rate",
    "schedule",
    "milestones",
    "decay",
    "warmup_epochs",
    "warmup",
    "warmup_rate",
    "warmup_steps",  # of detectors
    "warmup_from",
)


class Segment(NamedTuple):
    """Epochs of a run that follow one recipe.

    recipe  what they follow
    first   how many epochs come before them
    origin  the epoch at which the schedule of the learning rate, warm-up included, begins: 0, or
            that of the last restart
    """

    recipe: Any
    first: int = 0
    origin: int = 0


def extend(segments: Sequence[Segment], recipe: Any, begun: int, restart: bool) -> list[Segment]:
    """The segments of a run of which `begun` epochs have begun, and whose other ones follow a
    recipe with more epochs.

    Raises:
        ValueError: for a warm-up that is longer than what is left.
    """
    origin = begun if restart else segments[-1].origin
    left = recipe.epochs - origin
    fits = not restart or recipe.warmup_epochs <= left
    accepted = f"at most {left}, the epochs after the restart"
    check_argument("warmup_epochs", recipe.warmup_epochs, fits, accepted)
    return [*(each for each in segments if each.first < begun), Segment(recipe, begun, origin)]


def recipe_at(segments: Sequence[Segment], epoch: float) -> Any:
    """The recipe that a run follows up to a place, which is `epoch` epochs after its beginning."""
    followed = (each.recipe for each in reversed(segments) if each.first < epoch)
    return next(followed, segments[0].recipe)


def to_json(segments: Sequence[Segment]) -> dict[str, Any]:
    """What `recipe.json` has of them."""
    *earlier, last = segments
    about = {"recipe": dataclasses.asdict(last.recipe)}
    if not earlier and not last.first:
        return about
    entries = [{"first_epoch": s.first, "schedule_from": s.origin} for s in segments]
    for entry, segment in zip(entries, earlier, strict=False):
        entry["recipe"] = dataclasses.asdict(segment.recipe)  # pyright: ignore[reportArgumentType]
    return about | {"history": entries}


def from_json(content: Mapping[str, Any], kind: Any = Recipe) -> list[Segment]:
    """The segments of a `recipe.json` with recipes of this class; one of a run that was not
    extended.

    Raises:
        ValueError, KeyError, TypeError or AttributeError: if it is damaged.
    """
    recipe = content["recipe"]
    return [
        Segment(
            kind.from_json(entry.get("recipe", recipe)),
            int(entry["first_epoch"]),
            int(entry["schedule_from"]),
        )
        for entry in content.get("history") or [{"first_epoch": 0, "schedule_from": 0}]
    ]
