"""Training: a Recipe says what, the Trainer does it."""

from keras_senet.extras import load_names
from keras_senet.recipes.named import RECIPES
from keras_senet.recipes.recipe import Recipe
from keras_senet.recipes.variants import Variant
from keras_senet.training.signals import Terminated

HOMES = {"Trainer": "trainer", "find_rate": "rate_finder"}
__all__ = ["RECIPES", "Recipe", "Terminated", "Variant", *HOMES]
__getattr__ = load_names(__name__, HOMES)
