"""The phases of a run: which layers are trained in which steps, how fast, by which optimizer."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras

from keras_senet.graphs import flat_layers, scale_rates, stages_of
from keras_senet.recipes.recipe import Recipe
from keras_senet.runs.history import Segment
from keras_senet.training.optimizer import Chain, make_optimizer, make_schedule


@dataclass(frozen=True, eq=False)
class Phase:
    """Steps of a run in which the same layers are trained.

    first      the steps of the run before it
    begun      the steps of the run before its optimizer's first: two phases may share an optimizer
    optimizer  built for the variables that it trains
    schedule   of that optimizer
    untrained  the layers whose weights and statistics stay as they are: batch normalisation among
               them is in inference mode
    """

    first: int
    begun: int
    optimizer: keras.Optimizer
    schedule: keras.optimizers.schedules.LearningRateSchedule
    untrained: tuple[keras.Layer, ...]

    def rate(self, number: int) -> float:
        """The learning rate of the step after `number` steps of the run."""
        return float(self.schedule(number - self.begun))


def make_phases(
    segments: Sequence[Segment], model: keras.Model, steps_per_epoch: int
) -> tuple[Phase, ...]:
    """The phases of a run that has these segments, in their order: of the head, of all that is not
    frozen, and of that without batch normalisation; each where the recipe has it, the second one
    always. The last two come again where the run was extended.

    The optimizer of each of the first two begins without momentum, and its own schedule at its
    first step: a moment that stood still while the head was trained would make AdamW's first steps
    several times too large.
    """
    recipe = segments[-1].recipe
    phases = []
    for is_head in (True, False) if recipe.head_epochs else (False,):
        first = 0 if is_head else recipe.head_epochs * steps_per_epoch
        untrained = untrained_layers(recipe, model, is_head)
        schedule = make_rates(segments, steps_per_epoch, is_head)
        factors = rate_factors(recipe, model)
        phases.append(make_phase(recipe, model, first, schedule, untrained, factors))
    norms = (
        each for each in flat_layers(model) if isinstance(each, keras.layers.BatchNormalization)
    )
    main = phases[-1]
    untrained = tuple(dict.fromkeys((*main.untrained, *norms)))
    for first, last in frozen_epochs(segments):
        phases.append(replace(main, first=first * steps_per_epoch, untrained=untrained))
        if last < recipe.epochs:
            phases.append(replace(main, first=last * steps_per_epoch))
    return tuple(phases)


def find_phase(phases: Sequence[Phase], number: int) -> int:
    """The place of the phase that the step after `number` steps of the run belongs to."""
    return max(i for i, phase in enumerate(phases) if phase.first <= number)


def make_phase(
    recipe: Any,
    model: keras.Model,
    first: int,
    schedule: keras.optimizers.schedules.LearningRateSchedule,
    untrained: tuple[keras.Layer, ...],
    factors: Mapping[str, float],
) -> Phase:
    """The phase that begins with a new optimizer after `first` steps; `factors` are the learning
    rates of the variables over the schedule's, by their paths.
    """
    optimizer = make_optimizer(recipe, schedule)
    scale_rates(optimizer, factors)
    with fixed(untrained):
        optimizer.build(model.trainable_variables)
    return Phase(first, first, optimizer, schedule, untrained)


def frozen_epochs(segments: Sequence[Segment]) -> Iterator[tuple[int, int]]:
    """The ranges of epochs in which batch normalisation stays as it is: the last ones of each
    recipe, as far as they were trained before the run was extended.
    """
    ends = [*(each.first for each in segments[1:]), segments[-1].recipe.epochs]
    for (recipe, first, _), end in zip(segments, ends, strict=True):
        first = max(first, recipe.head_epochs, recipe.epochs - recipe.frozen_bn_epochs)
        if first < end:
            yield first, end


def make_rates(segments: Sequence[Segment], steps_per_epoch: int, is_head: bool = False) -> Any:
    """The learning rate of a run of these segments, by the steps of the head's or main phase."""
    of_head = {"schedule": "constant", "warmup_epochs": 0.0} if is_head else {}
    schedules = [
        make_schedule(replace(each.recipe, **of_head), steps_per_epoch, each.origin)
        for each in segments
    ]
    before = 0 if is_head else segments[-1].recipe.head_epochs
    firsts = [max(each.first - before, 0) * steps_per_epoch for each in segments]
    return Chain(schedules, firsts) if len(schedules) > 1 else schedules[0]


def untrained_layers(recipe: Recipe, model: keras.Model, is_head: bool) -> tuple[keras.Layer, ...]:
    """The layers that the head's phase, or the one after it, does not train."""
    return tuple(
        layer
        for layer, stage in stages_of(model).items()
        if stage is not None and (is_head or stage in recipe.freeze)
    )


def named_optimizers(phases: Sequence[Phase]) -> dict[str, keras.Optimizer]:
    """The optimizers by the names that checkpoints have them under."""
    last, first = phases[-1].optimizer, phases[0].optimizer
    return {"optimizer": last} | ({} if first is last else {"head_optimizer": first})


def rate_factors(recipe: Recipe, model: keras.Model) -> dict[str, float]:
    """The learning rate of each variable over the schedule's, by the variable's path: 1 for the
    last stage, `layer_decay` times that for each stage below, and `head_rate` for the head.
    """
    stages = stages_of(model)
    order = sorted({stage for stage in stages.values() if stage is not None}, reverse=True)
    by_stage = {stage: recipe.layer_decay**i for i, stage in enumerate(order)}
    rates = {layer: by_stage.get(stage, recipe.head_rate) for layer, stage in stages.items()}
    return {v.path: float(rate) for layer, rate in rates.items() for v in layer.weights}


@contextlib.contextmanager
def fixed(untrained: Iterable[keras.Layer]) -> Iterator[None]:
    """Within, these layers are not trainable; the model itself is not changed."""
    layers = [each for layer in untrained for each in flat_layers(layer)]
    kept = [(layer, layer.trainable) for layer in layers]
    for layer in layers:
        layer.trainable = False
    try:
        yield
    finally:
        for layer, trainable in kept:  # that of a layer is set for those within it, which follow
            layer.trainable = trainable
