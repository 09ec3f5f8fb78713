"""The accuracy of a Keras model and of a file of it, on the same labelled images."""

from typing import Any

import keras
import numpy as np

from keras_senet.layers.data_format import fits

from .model import predict, prediction_function


class LabelledImages:
    """Images (N, H, W, C), as the exported model takes them, and their classes (N,).

    An exporter takes a pair of both, too; one object for several files has the model's predictions
    computed once. Images of uint8 take the least memory.

    Raises:
        ValueError: if they are not as many, or labels are no integers.
    """

    def __init__(self, images: Any, labels: Any):
        self.images, self.labels = np.asarray(images), np.asarray(labels)
        counts = self.images.shape[:1], self.labels.shape
        if self.labels.dtype.kind not in "iu" or counts[0] != counts[1] or not self.labels.size:
            raise ValueError(
                "`evaluation` must be images (N, H, W, C) and integer labels (N,). Received: "
                f"images of shape {self.images.shape}, labels of shape {self.labels.shape} and "
                f"dtype {self.labels.dtype}"
            )
        self._predicted = None

    def check(self, model: keras.Model) -> None:
        """Raises ValueError unless they are for this classifier."""
        if len(model.outputs) != 1 or len(model.outputs[0].shape) != 2:
            raise ValueError(
                "`evaluation` is for a classifier, with one output (N, classes). "
                f"Received: {model.name!r} with the output {model.output_shape}"
            )
        shape, classes = tuple(model.inputs[0].shape[1:]), model.outputs[0].shape[-1]
        if not fits(self.images.shape[1:], shape) or self.images.dtype.kind not in "iuf":
            named = ", ".join("any" if side is None else str(side) for side in shape)
            raise ValueError(
                f"`evaluation` must have images of shape (N, {named}). Received: images of shape "
                f"{self.images.shape} and dtype {self.images.dtype}"
            )
        if not np.isfinite(self.images).all():
            raise ValueError("`evaluation` must have finite images. Received: values that are not")
        if self.labels.min() < 0 or self.labels.max() >= classes:
            raise ValueError(
                f"`evaluation` must have labels of 0..{classes - 1}, for the classes of "
                f"{model.name!r}. Received: labels of {self.labels.min()}..{self.labels.max()}"
            )

    def accuracies(self, model: keras.Model, preprocessing, predicted, at) -> dict[str, Any]:
        """The accuracies of `ExportReport`, of the classes predicted for the images at `at`."""
        if self._predicted is None:
            self._predicted = self._predict(model, preprocessing)
        labels = self.labels[at]
        return {
            "accuracy": float(np.mean(predicted == labels)),
            "keras_accuracy": float(np.mean(self._predicted[at] == labels)),
            "evaluated_images": len(labels),
        }

    def _predict(self, model, preprocessing):
        compute = prediction_function(model, preprocessing)
        found = predict(lambda images: compute(images.astype("float32")), self.images)
        (probabilities,) = found.values()
        return probabilities.argmax(-1)


def labelled_images(evaluation: Any, model: keras.Model) -> LabelledImages | None:
    """The `LabelledImages` of an argument `evaluation`, for a model; None of None."""
    if evaluation is None:
        return None
    if not isinstance(evaluation, LabelledImages):
        if not isinstance(evaluation, tuple | list) or len(evaluation) != 2:
            raise ValueError(
                "`evaluation` must be a pair of images and labels, or None. "
                f"Received: {type(evaluation)}"
            )
        evaluation = LabelledImages(*evaluation)
    evaluation.check(model)
    return evaluation
