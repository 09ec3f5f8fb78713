"""Training: a Recipe says what, the Trainer does it."""

from keras_senet.extras import needs_tensorflow

with needs_tensorflow():
    from keras_senet.recipes.named import RECIPES
    from keras_senet.recipes.recipe import Recipe
    from keras_senet.recipes.variants import Variant
    from keras_senet.training.rate_finder import find_rate
    from keras_senet.training.signals import Terminated
    from keras_senet.training.trainer import Trainer

__all__ = ["RECIPES", "Recipe", "Terminated", "Trainer", "Variant", "find_rate"]
