"""Training: a Recipe says what, the Trainer does it."""

from keras_senet.training.recipe import RECIPES, Recipe
from keras_senet.training.trainer import Trainer

__all__ = ["RECIPES", "Recipe", "Trainer"]
