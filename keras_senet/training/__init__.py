"""Training: a Recipe says what, the Trainer does it."""

from keras_senet.training.ablation import Ablation, Variant
from keras_senet.training.interruption import Terminated
from keras_senet.training.recipe import Recipe
from keras_senet.training.recipes import RECIPES
from keras_senet.training.trainer import Trainer

__all__ = ["RECIPES", "Ablation", "Recipe", "Terminated", "Trainer", "Variant"]
