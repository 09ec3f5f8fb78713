"""The optimizer and learning rate of a recipe."""

import keras


@keras.saving.register_keras_serializable(package="keras_senet")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A linear rise from 0 over `steps`, then `schedule`, which counts its steps from there."""

    def __init__(self, schedule, peak, steps):
        self.schedule, self.peak, self.steps = schedule, peak, steps

    def __call__(self, step):
        step = keras.ops.cast(step, "float32")
        rising = self.peak * (step + 1.0) / max(self.steps, 1)
        return keras.ops.where(step < self.steps, rising, self.schedule(keras.ops.maximum(step - self.steps, 0.0)))

    def get_config(self):
        schedule = keras.optimizers.schedules.serialize(self.schedule)
        return {"schedule": schedule, "peak": self.peak, "steps": self.steps}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        schedule = keras.optimizers.schedules.deserialize(config["schedule"], custom_objects)
        return cls(**{**config, "schedule": schedule})


def make_schedule(recipe, steps_per_epoch):
    """The learning rate as a function of the step."""
    warmup = round(recipe.warmup_epochs * steps_per_epoch)
    remaining = max(recipe.epochs * steps_per_epoch - warmup, 1)
    schedules = keras.optimizers.schedules
    schedule = {
        "constant": lambda: schedules.PiecewiseConstantDecay([remaining], [recipe.learning_rate] * 2),
        "cosine": lambda: schedules.CosineDecay(recipe.learning_rate, remaining),
    }[recipe.schedule]()
    return WarmUp(schedule, recipe.learning_rate, warmup)


def make_optimizer(recipe, steps_per_epoch):
    """Stochastic gradient descent with the recipe's schedule, and loss scaling under float16."""
    schedule = make_schedule(recipe, steps_per_epoch)
    optimizer = keras.optimizers.SGD(schedule, momentum=recipe.momentum, nesterov=recipe.momentum > 0)
    if recipe.precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer
