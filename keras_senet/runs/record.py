"""What a work directory says of its run, before its network is loaded."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from keras_senet.files import names_damage
from keras_senet.recipes.recipe import Recipe
from keras_senet.recipes.se_text import write_se
from keras_senet.runs import CLASSIFICATION, DETECTION, METRICS, NETWORK, RECIPE, SPLIT, WEIGHTS
from keras_senet.runs.results import Export, list_exports
from keras_senet.runs.tables import Metrics, Row
from keras_senet.weights.registry import split_part


@dataclass(frozen=True)
class Record:
    """A run's recipe and metrics, its `exports`, and where it ran.

    engine       the name of the loop that trained it
    environment  threads and versions, by name
    rows         of the metrics, one per epoch
    ended        whether its network is there
    changed      when it was last written to
    """

    recipe: Any
    engine: str
    environment: dict[str, object]
    rows: list[Row]
    exports: list[Export]
    ended: bool
    changed: datetime


def read_record(
    workdir: str | Path, kind: Any = Recipe, results: Sequence[str] = (NETWORK, WEIGHTS)
) -> Record:
    """The `Record` of a work directory, whose recipe is of this class, and where a run that has
    ended has these files.

    Raises:
        ValueError: if one of its files is damaged.
        FileNotFoundError: if it holds no run.
    """
    folder = Path(workdir)
    recipe, rows = read_run(folder, kind)
    about = json.loads((folder / RECIPE).read_text())
    files = [path for name in (RECIPE, METRICS, *results) if (path := folder / name).is_file()]
    return Record(
        recipe=recipe,
        engine=str(about.get("engine", "trainer")),
        environment=dict(about.get("environment") or {}),
        rows=[row for row in rows if math.isfinite(row["epoch"])],
        exports=list_exports(folder),
        ended=all((folder / name).is_file() for name in results),
        changed=datetime.fromtimestamp(max(path.stat().st_mtime for path in files), UTC),
    )


def read_run(path: str | Path, kind: Any = Recipe) -> tuple[Any, list[Row]]:
    """The recipe and the rows of the metrics of a work directory. Raises as `read_record` does."""
    return read_recipe(path, kind), Metrics(Path(path) / METRICS).read()


def read_task(path: str | Path) -> str:
    """What a work directory's run trains: "classification" or "detection"."""
    return str(read_entries(path).get("task", CLASSIFICATION))


def read_entries(path: str | Path) -> dict[str, Any]:
    """What `recipe.json` has; nothing without one, or for a damaged one, which others refuse."""
    try:
        return dict(json.loads((Path(path) / RECIPE).read_text()))
    except (OSError, ValueError, TypeError, RecursionError):
        return {}


def read_recipe(path: str | Path, kind: Any = Recipe) -> Any:
    """The recipe of a work directory. Raises as `read_record` does, ValueError for another task."""
    file = Path(path) / RECIPE
    if not file.exists():
        raise FileNotFoundError(f"{str(path)!r} holds no training run: there is no {RECIPE}")
    with names_damage(file):
        content = json.loads(file.read_text())
        task = content.get("task", CLASSIFICATION)
        wanted = getattr(kind, "TASK", DETECTION)
        if task == wanted:
            return kind.from_json(content["recipe"])
    remedy = "; `keras-senet detect` takes it" if task == DETECTION else ""
    raise ValueError(f"{str(path)!r} holds a training run of {task}, and not of {wanted}{remedy}")


def find_network(path: str | Path) -> dict[str, Any]:
    """A recipe's fields that say which network a work directory, or a file in one, has; or none."""
    path = Path(split_part(path)[0])
    for folder in (path, path.parent):
        if (folder / RECIPE).is_file():
            recipe = read_recipe(folder)
            return {name: getattr(recipe, name) for name in ("model", "depths", "se")}
    return {}


def read_division(path: str | Path, recipe: Recipe) -> dict[str, Any]:
    """How the run's dataset was divided for validation, if it was: arguments of `data.load`."""
    file = Path(path) / SPLIT
    return {
        "validation_fraction": recipe.validation_fraction,
        "seed": recipe.seed,
        "split_file": str(file) if file.is_file() else None,
    }


def read_engine(path: str | Path) -> str:
    """The loop that trains in a work directory: that of its run, else the package's own."""
    return read_entries(path).get("engine", "trainer")


def read_pipeline(path: str | Path) -> str | None:
    """What makes the batches of a run in a work directory; None where there is none."""
    recipe = read_entries(path).get("recipe")
    return recipe.get("pipeline", "tf.data") if isinstance(recipe, dict) else None


def describe_recipe(recipe: Any) -> str:
    """The recipe's network and dataset, for titles."""
    depths = f" of {'+'.join(map(str, recipe.depths))} units" if recipe.depths else ""
    blocks = {"default": "", "none": ", plain"}.get(text := write_se(recipe.se), f", {text}")
    return f"{recipe.model}{depths}{blocks} on {recipe.dataset}"
