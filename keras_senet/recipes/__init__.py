"""Recipes of training: plain data, importable without Keras."""

from keras_senet.recipes.augmentation import Augmentation
from keras_senet.recipes.choice import pick_recipe
from keras_senet.recipes.named import RECIPES
from keras_senet.recipes.recipe import Recipe
from keras_senet.recipes.variants import VARIANTS, Variant

__all__ = ["RECIPES", "VARIANTS", "Augmentation", "Recipe", "Variant", "pick_recipe"]
