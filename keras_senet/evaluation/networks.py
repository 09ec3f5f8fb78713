"""Networks as functions from an image's crops to class probabilities."""

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_senet.bases import preprocessing_of
from keras_senet.data.sources import Dataset, Encoded
from keras_senet.evaluation.protocols import Crops, Protocol, Whole
from keras_senet.fields import list_some
from keras_senet.graphs import final_activation
from keras_senet.layers.data_format import from_channels_last, image_shape
from keras_senet.preprocessing import Preprocessing, sides

Images = Dataset | Encoded
View = Crops | Whole


class Predictor:
    """Crops of images -> class probabilities (N, classes), averaged over crops and then over views.

    Args:
        model: a classifier with the attribute `preprocessing`.
        views: the `Crops` or `Whole` of images that it predicts from.
        step: its `prediction_step` at its own size, if there is one already.

    Raises:
        ValueError: if it cannot run at the size of a view.
    """

    def __init__(self, model: keras.Model, views: Sequence[View], step: Callable | None = None):
        self.views = views
        own = image_shape(model.inputs[0])[:2]
        self.steps = {
            size: prediction_step(model, size) if step is None or _differ(size, own) else step
            for size in dict.fromkeys(view.shape for view in views)
        }

    def __call__(self, shown: Mapping[View, Any]) -> Any:
        """`shown` maps each view to uint8 (N, crops, H, W, C)."""
        outputs = [self._predict(view, shown[view]) for view in self.views]
        return functools.reduce(operator.add, outputs) / len(outputs)

    def _predict(self, view, images):
        images = np.asarray(images)  # of tf.data, on any backend
        probabilities = self.steps[view.shape](images.reshape(-1, *images.shape[2:]))
        return ops.mean(
            ops.reshape(probabilities, (-1, view.count, probabilities.shape[-1])), axis=1
        )


def prediction_step(model: keras.Model, size: tuple[int, int] | None = None) -> Callable:
    """A compiled function from images uint8 (N, H, W, C) of 0..255 RGB to class probabilities
    float32 (N, classes).

    Args:
        model: a classifier with the attribute `preprocessing`; of one that ends in logits the
            softmax is taken.
        size: height and width of the images; None is the model's own.

    Raises:
        ValueError: if the model cannot run at this size, or its output is neither a softmax nor
            logits.
    """
    if keras.backend.backend() != "tensorflow":
        return _make_keras_step(model, size)
    import tensorflow as tf

    *own, channels = image_shape(model.inputs[0])
    preprocessing, shape = require_preprocessing(model), size or own
    activate = _final_activation(model)
    # Only what a Keras model does around `call` depends on the size that it was built for: the
    # layers need not.
    network = model.call if _differ(shape, own) else model

    def predict(images):
        outputs = network(preprocessing.normalize(from_channels_last(images)), training=False)
        return activate(tf.cast(outputs, tf.float32))

    images = tf.TensorSpec((None, *shape, channels), tf.uint8)
    step = tf.function(predict, input_signature=[images], autograph=False)
    if _differ(shape, own):
        _check_runs(step, model, shape, own)
    return step


def _make_keras_step(model, size):
    """The step by Keras' own compiled prediction, at the model's own size."""
    own, preprocessing = image_shape(model.inputs[0])[:2], require_preprocessing(model)
    if _differ(size or own, own):
        raise ValueError(
            f"{model.name!r} was built for {own[0]} x {own[1]}, and predicts at other sizes on "
            f"TensorFlow only. Received: size={size}"
        )
    activate, most = _final_activation(model), 0

    def predict(images):
        nonlocal most
        # The last batch, which is smaller, would be compiled once more
        most = max(most, len(images))
        padded = np.pad(images, [(0, most - len(images)), *[(0, 0)] * 3])
        inputs = ops.convert_to_numpy(preprocessing.normalize(from_channels_last(padded)))
        outputs = model.predict_on_batch(inputs)[: len(images)]
        return activate(ops.cast(outputs, "float32"))

    return predict


def _differ(size, own):
    return any(n is not None and n != m for n, m in zip(own, size, strict=True))


def _check_runs(step, model, size, own):
    import tensorflow as tf

    try:
        step.get_concrete_function()
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{model.name!r} cannot run at {size[0]} x {size[1]}; it was built for {own[0]} x "
            f"{own[1]} ({reason})"
        ) from error


def _final_activation(model):
    """From the model's output to probabilities: a softmax after logits, else the identity."""
    layer, activation = final_activation(model)
    if activation == "softmax":
        return lambda outputs: outputs
    if activation == "linear":
        return ops.softmax
    raise ValueError(
        f"A network must end in a softmax or in logits to be evaluated; {model.name!r} ends in "
        f"{layer.name!r}, a {type(layer).__name__}"
    )


def check_classifier(model: keras.Model, dataset: Images) -> None:
    """Raises ValueError unless the model is a classifier of the dataset's images and classes."""
    check_images(model, dataset)
    if len(model.outputs) != 1 or len(model.outputs[0].shape) != 2:
        raise ValueError(
            f"`model` must be a classifier; {model.name!r} has the output {model.output_shape}"
        )
    names, own = getattr(model, "class_names", None) or (), tuple(dataset.class_names)
    if set(names) & set(own) and tuple(names) != own:
        raise ValueError(
            f"The dataset must have the classes of {model.name!r}, in their order: take "
            "`keras_senet.data.with_classes(dataset, model.class_names)`. Received: "
            f"{list_some(own, 5)}, and the network has {list_some(tuple(names), 5)}"
        )
    classes, known = model.output_shape[-1], len(own)
    if classes != known:
        raise ValueError(f"{model.name!r} has {classes} classes, the dataset {known}")


def check_images(model: keras.Model, dataset: Images) -> None:
    """Raises ValueError unless the model takes the dataset's images."""
    if not isinstance(model, keras.Model) or len(getattr(model, "inputs", None) or ()) != 1:
        raise ValueError(
            f"`model` must be a functional Keras model with one input. Received: {model!r}"
        )
    require_preprocessing(model)
    channels, taken = dataset.image_shape[-1], image_shape(model.inputs[0])[-1]
    if channels != taken:
        raise ValueError(
            f"{model.name!r} takes {taken} channels, the dataset's images have {channels}"
        )


def require_preprocessing(model: keras.Model) -> Preprocessing:
    """What makes a model's input of images: see `keras_senet.bases.preprocessing_of`.

    Raises:
        ValueError: if nothing tells.
    """
    found = preprocessing_of(model)
    if found is None:
        raise ValueError(
            "`model` must have the attribute `preprocessing`, a `keras_senet.Preprocessing`; "
            f"{model.name!r} has none. Networks of keras_senet have it; for other ones set it"
        )
    return found


def views_of(model: keras.Model, dataset: Images, protocol: Protocol | None) -> tuple[View, ...]:
    """The views of each image that a network predicts from, by a `Protocol` or, with None, by
    default.

    By default images that have the network's size already, as those of small datasets do, are taken
    whole.

    Raises:
        ValueError: if the protocol does not fit the network.
    """
    own, preprocessing = image_shape(model.inputs[0])[:2], require_preprocessing(model)
    height, width = (
        n or default for n, default in zip(own, sides(preprocessing.size), strict=True)
    )
    if protocol is None and tuple(dataset.image_shape[:2]) == (height, width):
        return (Whole(height, width),)
    protocol = protocol or Protocol()
    return protocol.views(preprocessing, (height, width) if height != width else height)
