"""Which places of an image a network's score for a class depends on: Grad-CAM."""

import collections
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_senet.fields import check_argument, is_integer
from keras_senet.graphs import (
    Graph,
    check_functional,
    final_activation,
    functional_of,
    replaced_attribute,
)
from keras_senet.layers.data_format import as_images

BATCH = 32  # images per step
# Of the scores: gradients of float16 feature maps would be subnormal. The maps do not depend on it.
SCALE = 2.0**10


def grad_cam(
    model: keras.Model,
    images: Any,
    classes: int | Sequence[int] | np.ndarray | None = None,
    layer: str | None = None,
) -> np.ndarray:
    """Heat maps float32 (N, h, w) of 0..1: how much each place of a feature map contributes to the
    score of a class.

    relu(sum over channels of weight * map), where the weight of a channel is the mean over places
    of the gradient of the score, before the softmax or sigmoid; each map is divided by its largest
    value, and is 0 everywhere where no place contributes. Source: Selvaraju et al. 2017,
    arXiv 1610.02391.

    Args:
        model: a classifier with one input, a functional or built sequential Keras model; its layers
            may be in nested models. It runs eagerly, on any backend.
        images: (N, H, W, C), or (N, C, H, W), as the network takes them:
            `model.preprocessing.normalize` of 0..255 RGB.
        classes: the class whose score is explained, or one for each image; None is the class that
            the network predicts.
        layer: the name of the layer that outputs the feature map; of one in a nested model
            "<model>/<layer>", of its second call "<layer>:2". None is the last one with a height or
            width above 1.

    Raises:
        ValueError: for another kind of model, images that it does not take, a class or a layer that
            it has not, or outputs that are not finite.
    """
    outputs = _check_classifier(model)
    images = as_images(model, images, least=1)
    targets = _check_targets(classes, outputs, len(images))
    view = _find_map(model, layer)
    batches = [slice(i, i + BATCH) for i in range(0, len(images), BATCH)]
    parts = [(images[at], None if targets is None else targets[at]) for at in batches]
    return np.concatenate([_maps(model, view, *part) for part in parts])


class FeatureMap(NamedTuple):
    """A four-dimensional output in a graph: its name, operation, which call, and channel axis."""

    name: str
    operation: keras.Operation
    call: int
    channels: int


def _maps(model, view, images, targets):
    """The heat maps of a batch; `targets` (n,) or None."""
    images = ops.convert_to_tensor(images)
    found = []
    logits = _scores(model, view, images, found.append)
    if targets is None:
        targets = np.argmax(ops.convert_to_numpy(logits), axis=-1)
    chosen = ops.one_hot(targets, logits.shape[-1], dtype="float32")

    def score(change):
        return SCALE * ops.sum(chosen * _scores(model, view, images, lambda value: value + change))

    value = found[-1]
    gradient = _gradient(score, ops.zeros_like(value))
    value, gradient = (
        np.moveaxis(np.asarray(ops.convert_to_numpy(ops.cast(n, "float32"))), view.channels, -1)
        for n in (value, gradient)
    )
    if not (np.isfinite(gradient).all() and np.isfinite(value).all()):
        raise ValueError(f"{model.name!r} has outputs or gradients that are not finite")
    weights = gradient.mean(axis=(1, 2), dtype="float64")
    heat = np.maximum(np.einsum("nhwc,nc->nhw", value, weights), 0)
    return (heat / np.maximum(heat.max(axis=(1, 2), keepdims=True), 1e-30)).astype("float32")


def _scores(model, view, images, change):
    """Scores (n, classes) before the softmax, where `change(map)` replaces the map, if not None."""
    own, calls = view.operation.call, 0

    def call(*arguments, **keywords):
        nonlocal calls
        calls += 1
        output = own(*arguments, **keywords)
        if calls != view.call:
            return output
        changed = change(output)
        return output if changed is None else changed

    with replaced_attribute(view.operation, "call", call), _before_softmax(model):
        return ops.cast(model(images, training=False), "float32")


@contextlib.contextmanager
def _before_softmax(model) -> Iterator[None]:
    """Within, the model outputs what its final softmax or sigmoid takes."""
    final, activation = final_activation(model)
    if activation not in ("softmax", "sigmoid"):
        yield
    elif hasattr(final, "activation"):
        with replaced_attribute(final, "activation", keras.activations.linear):
            yield
    else:
        with replaced_attribute(final, "call", lambda value, *_, **__: value):
            yield


def _gradient(score, at):
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(at)
            value = score(at)
        return tape.gradient(value, at, unconnected_gradients="zero")
    if backend == "jax":
        import jax

        return jax.grad(score)(at)
    if backend == "torch":
        import torch

        at = at.detach().requires_grad_()
        return torch.autograd.grad(score(at), at)[0]
    raise ValueError(f"Grad-CAM needs TensorFlow, JAX or torch. Received: the backend {backend!r}")


def _find_map(model, layer) -> FeatureMap:
    """The `FeatureMap` of a name, or the last one with places."""
    found = list(_feature_maps(model, collections.Counter()))
    if layer is None:
        views = [view for view, shape in found if any(n != 1 for n in shape)]
    else:
        views = [view for view, _ in found if view.name == layer]
    if views:
        return views[-1]
    names = ", ".join(repr(view.name) for view, _ in found[-3:])
    if not found or layer is None:
        raise ValueError(f"{model.name!r} has no feature map (N, H, W, C) with H or W above 1")
    raise ValueError(
        "`layer` must be the name of a layer that outputs a feature map (N, H, W, C); the last "
        f"ones of {model.name!r} are {names}. Received: layer={layer!r}"
    )


def _feature_maps(model, calls, prefix=""):
    """(`FeatureMap`, its height and width) of each call in order, in nested models too."""
    data_format = keras.config.image_data_format()
    for name, node in Graph(functional_of(model)).named():
        name, operation = f"{prefix}{name}", node.operation
        if isinstance(operation, keras.Model):
            check_functional(operation)
            yield from _feature_maps(operation, calls, f"{name}/")
            continue
        calls[id(operation)] += 1
        # An activation has no format of its own: it is that of the convolution before it.
        data_format = getattr(operation, "data_format", None) or data_format
        (shape, *others) = (tuple(output.shape) for output in node.outputs)
        if len(shape) == 4 and not others:
            channels = 1 if data_format == "channels_first" else 3
            places = shape[2:] if channels == 1 else shape[1:3]
            yield FeatureMap(name, operation, calls[id(operation)], channels), places


def _check_classifier(model):
    """The number of classes; raises ValueError for what is not a classifier of images."""
    check_functional(model)
    inputs, outputs = model.inputs, model.outputs
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or len(outputs) != 1:
        raise ValueError(f"`model` must take images and output scores. Received: {model.name!r}")
    if len(outputs[0].shape) != 2:
        raise ValueError(
            f"`model` must be a classifier; {model.name!r} has the output {model.output_shape}"
        )
    return outputs[0].shape[-1]


def _check_targets(classes, count, images):
    """Class numbers int64 (N,), or None."""
    if classes is None:
        return None
    numbers = np.asarray(classes)
    wanted = numbers.shape in ((), (images,)) and (
        is_integer(classes) or np.issubdtype(numbers.dtype, np.integer)
    )
    is_there = wanted and numbers.min() >= 0 and numbers.max() < count
    accepted = f"a number of 0..{count - 1}, or {images} of them, one per image"
    check_argument("classes", classes, is_there, accepted)
    return np.broadcast_to(numbers, (images,))
