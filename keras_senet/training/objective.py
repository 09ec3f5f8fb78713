"""What a training step minimises, by `keras.ops`: the same on every backend."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import keras
from keras import ops

from keras_senet.preprocessing import Preprocessing


class Objective(Protocol):
    """What is minimised, and what is counted on the way.

    `objective(call, batch, seeds)` -> the loss and figures, scalars. Each is a sum over the images
    of the batch, so that those of a batch's parts add up to those of the batch.

    call     the network in training: normalised images -> its outputs
    batch    of the task's data, or a part of it
    seeds    integers (n, 2), one row per image, which its random draws follow from
    figures  the names of the figures
    """

    figures: ClassVar[tuple[str, ...]]

    def __call__(
        self, call: Callable[[Any], Any], batch: Any, seeds: Any
    ) -> tuple[Any, Mapping[str, Any]]: ...


@dataclass(frozen=True, eq=False)
class CrossEntropy:
    """The mean cross-entropy of batches of `batch_size` images and their targets, whose parts are
    summed; and how many predictions are correct.

    preprocessing    of the network
    batch_size       images of a step, over all replicas
    label_smoothing  the fraction of the label's mass that is shared by all classes
    class_weights    those of the loss of images of each class, float32 (classes,); None for 1
    """

    figures: ClassVar[tuple[str, ...]] = ("correct",)
    preprocessing: Preprocessing
    batch_size: int
    label_smoothing: float = 0.0
    class_weights: Any = None

    def __call__(
        self, call: Callable[[Any], Any], batch: Any, seeds: Any
    ) -> tuple[Any, Mapping[str, Any]]:
        images, targets = batch
        probabilities = call(self.preprocessing.normalize(images))
        losses: Any = _cross_entropy(targets, probabilities, self.label_smoothing)
        if self.class_weights is not None:
            losses = losses * ops.sum(targets * self.class_weights, axis=-1)
        right = ops.equal(ops.argmax(probabilities, axis=-1), ops.argmax(targets, axis=-1))
        loss = ops.sum(losses) / self.batch_size
        return loss, {"correct": ops.sum(ops.cast(right, "float32"))}


SMALLEST = 1e-37  # float32: what is below it may become 0


def _cross_entropy(targets, probabilities, smoothing):
    """The cross-entropy of each image, (n,).

    On TensorFlow Keras computes it from the logits. On other backends it would clip probabilities
    at 1e-7, where the gradient of an image that is clearly wrong becomes 0.
    """
    if keras.backend.backend() == "tensorflow":
        return keras.losses.categorical_crossentropy(
            targets, probabilities, label_smoothing=smoothing
        )
    targets = targets * (1 - smoothing) + smoothing / targets.shape[-1]
    return -ops.sum(targets * ops.log(ops.maximum(probabilities, SMALLEST)), axis=-1)
