"""What the training steps of all backends have in common."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_senet.training.average import Average
from keras_senet.training.optimizer import is_decayed
from keras_senet.training.phases import Phase, find_phase
from keras_senet.training.seeds import StepSeeds
from keras_senet.training.task import Task


class Step:
    """A step of a recipe: `step(batch, number, stop=...)` changes the weights and returns an
    `Outcome`. `number` is that of the steps before it, and says which phase it belongs to.

    Args:
        task: its recipe, and what is minimised, of a batch: tensors with one row per image,
            nested as the objective takes them.
        model: what is trained.
        phases: as of `make_phases`.
        average: the moving average of the model's weights, or None.
        devices: where the step runs.
        source: `DeviceImages`, whose indices and places are then the batches; or None.
    """

    fold_in: Any  # a seed and a number -> another seed

    def __init__(
        self,
        task: Task,
        model: keras.Model,
        phases: Sequence[Phase],
        average: Average | None,
        devices: Any,
        source: Any = None,
    ):
        self.recipe, self.objective = task.recipe, task.make_objective(model)
        self.model, self.phases, self.average = model, phases, average
        self.devices, self.source = devices, source
        self.seeds = StepSeeds(model, self.fold_in)

    def rate(self, number: int) -> float:
        """The learning rate of the step after `number` steps, before the factors of layers."""
        return self.phases[find_phase(self.phases, number)].rate(number)

    def _call(self, images):
        return self.model(images, training=True)

    def _add_decay(self, gradients, variables, scale):
        """The gradients with L2 regularisation, which is scaled as those of float16 are."""
        if not self.recipe.weight_decay or self.recipe.decoupled:
            return gradients
        decay = scale(ops.convert_to_tensor(self.recipe.weight_decay, "float32"))
        return self._map(
            lambda g, v: g + decay * v.value if is_decayed(v, self.recipe) else g,
            gradients,
            variables,
        )

    def _map(self, function, *lists):
        """What a function returns for each row of lists."""
        return [function(*row) for row in zip(*lists, strict=True)]
