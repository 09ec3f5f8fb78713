"""The learning rate and the optimizer of a recipe."""

import math
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_senet")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate as a function of the step: a warm-up of `warmup_steps`, then `kind` to the
    last of `steps`. All of them are counted from the step `origin`.

    kind        "constant"; "step", times `decay` at each of the steps `milestones`; "cosine" or
                "linear" to 0
    warmup      "linear", from `warmup_rate` to `peak`; or "constant", at `warmup_rate`
    """

    def __init__(
        self,
        kind,
        peak,
        steps,
        milestones=(),
        decay=0.1,
        warmup_steps=0,
        warmup="linear",
        warmup_rate=0.0,
        origin=0,
    ):
        self.kind, self.peak, self.steps, self.origin = kind, peak, steps, origin
        self.milestones, self.decay = tuple(milestones), decay
        self.warmup_steps, self.warmup, self.warmup_rate = warmup_steps, warmup, warmup_rate

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32") - self.origin
        if not self.warmup_steps:
            return self._main(step)
        rising = (
            self.warmup_rate + (self.peak - self.warmup_rate) * (step + 1.0) / self.warmup_steps
        )
        warming = rising if self.warmup == "linear" else ops.full_like(step, self.warmup_rate)
        return ops.where(step < self.warmup_steps, warming, self._main(step))

    def _main(self, step: Any) -> Any:
        if self.kind == "step":
            passed: Any = ops.zeros_like(step)
            for milestone in self.milestones:
                passed = passed + ops.cast(step >= milestone, "float32")
            return self.peak * self.decay**passed
        progress: Any = ops.clip(
            (step - self.warmup_steps) / max(self.steps - self.warmup_steps, 1), 0.0, 1.0
        )
        factor = {
            "constant": ops.ones_like,
            "linear": lambda x: 1.0 - x,
            "cosine": lambda x: 0.5 * (1.0 + ops.cos(math.pi * x)),
        }[self.kind](progress)
        return self.peak * factor

    def get_config(self):
        return dict(vars(self))


@keras.saving.register_keras_serializable(package="keras_senet")
class Chain(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of a run that was extended: that of each schedule from its step on.

    schedules  of the segments of the run, in their order
    firsts     the step from which each holds
    """

    def __init__(self, schedules, firsts):
        self.schedules, self.firsts = list(schedules), list(firsts)

    def __call__(self, step: Any) -> Any:
        rate = self.schedules[0](step)
        for schedule, first in zip(self.schedules[1:], self.firsts[1:], strict=True):
            rate = ops.where(ops.cast(step, "float32") >= first, schedule(step), rate)
        return rate

    def get_config(self):
        schedules = [each.get_config() for each in self.schedules]
        return {"schedules": schedules, "firsts": self.firsts}

    @classmethod
    def from_config(cls, config):
        return cls([Schedule(**each) for each in config["schedules"]], config["firsts"])


def make_schedule(recipe: Any, steps_per_epoch: int, origin: int = 0) -> Schedule:
    """The learning rate as a function of the step after those of `head_epochs`; one that begins
    again at the epoch `origin` counts its milestones from there.
    """
    head = recipe.head_epochs
    first, uncounted = max(origin, head), 0 if origin > head else head
    return Schedule(
        recipe.schedule,
        recipe.learning_rate,
        (recipe.epochs - first) * steps_per_epoch,
        [round((m - uncounted) * steps_per_epoch) for m in recipe.milestones],
        recipe.decay,
        recipe.count_warmup_steps(steps_per_epoch),
        recipe.warmup,
        recipe.warmup_rate,
        (first - head) * steps_per_epoch,
    )


def make_optimizer(recipe: Any, schedule: Any) -> keras.Optimizer:
    """The recipe's optimizer with a schedule, decoupled decay, and loss scaling under float16.

    L2 regularisation and clipping are the step's: they are done on the sum over all replicas.
    Keras' LAMB decays the weights apart from its trust ratio, unlike the paper of LAMB.
    """
    decay = recipe.weight_decay if recipe.decoupled and recipe.weight_decay else None
    optimizer = {
        "sgd": lambda: keras.optimizers.SGD(
            schedule, recipe.momentum, recipe.nesterov, weight_decay=decay
        ),
        "adamw": lambda: keras.optimizers.AdamW(schedule, weight_decay=decay or 0.0),
        "lamb": lambda: keras.optimizers.Lamb(schedule, weight_decay=decay),
    }[recipe.optimizer]()
    if not recipe.bias_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    if recipe.precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def is_decayed(variable: keras.Variable, recipe: Any) -> bool:
    """Whether a variable has L2 regularisation: kernels, and the others where the recipe says so.
    Biases and batch normalisation do not decay, as with the authors.
    """
    return recipe.bias_decay or variable.path.endswith("kernel")
