"""Work directories for tests of their pages, and images whose classes have names like
markup.
"""

import csv
import dataclasses
import json

import keras
import little
import numpy as np

from keras_senet import data
from keras_senet.training import Recipe
from keras_senet.weights import save_weights

NAMES = ("<script>alert(1)</script>", 'a"b&c', "' onload='alert(1)", "{{ 7 * 7 }}", *"efghij")


def digits(split):
    """Little's images, of which as many more are for testing that all kinds of mistakes occur."""
    random, count = np.random.default_rng(2), {"train": 80, "test": 150}[split]
    return data.Dataset(
        random.integers(0, 256, (count, 8, 8, 3), "uint8"), np.arange(count) % 10, NAMES
    )


def leave(folder, model=None, rows=(), **fields):
    """A work directory like that of training; without a model the run has not ended."""
    folder.mkdir(exist_ok=True)
    content = {
        "recipe": dataclasses.asdict(Recipe(**fields)),
        "engine": "trainer",
        "environment": {"threads": 2},
    }
    (folder / "recipe.json").write_text(json.dumps(content))
    if rows:
        with (folder / "metrics.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    if model is not None:
        model.save(folder / "model.keras")
        save_weights(model, folder / "model.weights.h5")
    return folder


def network(constructor=little.TWO_STAGES, **options):
    """A network whose outputs differ from image to image."""
    keras.utils.set_random_seed(0)
    model = constructor(weights=None, **options)
    for variable in model.get_layer("predictions").weights:
        variable.assign(np.random.default_rng(0).normal(size=variable.shape))
    return model
