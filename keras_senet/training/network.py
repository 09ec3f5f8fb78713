"""The network of a recipe, for a dataset's images and classes."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import keras

from keras_senet import models
from keras_senet.bases import mark
from keras_senet.layers.data_format import arrange
from keras_senet.preprocessing import Preprocessing
from keras_senet.recipes.recipe import Recipe
from keras_senet.training.inputs import Images, image_size


@contextlib.contextmanager
def precision(policy: str) -> Iterator[None]:
    """Within, Keras builds layers of this dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def spec_of(recipe: Any) -> Any:
    """The architecture: that of `model`, with the recipe's `depths` and SE blocks."""
    depths = {"depths": recipe.depths} if recipe.depths else {}
    return dataclasses.replace(models.get(recipe.model).spec, se=recipe.se, **depths)


def find_constructor(recipe: Any, spec: Any = None) -> Any:
    """The constructor of the recipe's architecture, or of another variant of its network."""
    constructor, wanted = models.get(recipe.model), spec or spec_of(recipe)
    return constructor if wanted == constructor.spec else constructor.variant(wanted)


def make_network(
    recipe: Recipe,
    dataset: Images,
    spec: Any = None,
    preprocessing: Preprocessing | None = None,
) -> models.Network:
    """The recipe's network with new weights; `preprocessing` is the recipe's, `class_names` the
    dataset's.

    The architecture and the preprocessing may be those of weights.
    """
    constructor = find_constructor(recipe, spec)
    size, channels = image_size(recipe, dataset, preprocessing), dataset.image_shape[-1]
    with precision(recipe.precision):
        shape, classes = arrange(size, size, channels), len(dataset.class_names)
        model = constructor(weights=None, classes=classes, input_shape=shape)
    own = model.preprocessing if preprocessing is None else preprocessing.for_channels(channels)
    preprocessing = dataclasses.replace(own, size=size, upright=recipe.upright)
    if recipe.normalization == "mean":
        preprocessing = dataclasses.replace(preprocessing, std=(1.0,) * channels)
    model.preprocessing, model.class_names = preprocessing, dataset.class_names
    mark(model, constructor.spec, preprocessing)
    return model
