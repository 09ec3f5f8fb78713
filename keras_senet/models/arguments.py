"""The arguments of constructors in the style of `keras.applications`: checks, and the input."""

import keras

from keras_senet.fields import is_integer, plain
from keras_senet.layers.data_format import arrange, channel_axis, image_shape
from keras_senet.preprocessing import sides


def make_input(input_tensor, input_shape, size, channels, min_size):
    """The Keras tensor to build on: `input_tensor`, or a new input of `input_shape` or default."""
    if input_tensor is not None and not keras.backend.is_keras_tensor(input_tensor):
        raise ValueError(
            f"`input_tensor` must be a Keras tensor. Received: input_tensor of {type(input_tensor)}"
        )
    default = arrange(*sides(size), channels)
    given = default if input_tensor is None else tuple(input_tensor.shape[1:])
    shape = given if input_shape is None else input_shape
    valid = (
        isinstance(shape, (tuple, list))
        and len(shape) == 3
        and all(n is None or (is_integer(n) and n > 0) for n in shape)
    )
    if not valid or shape[-1 if channel_axis() == -1 else 0] is None:
        raise ValueError(
            "`input_shape` must be three positive integers, of which the sizes may be None, in the "
            f"layout {keras.config.image_data_format()!r}. Received: input_shape={shape}"
        )
    shape = plain(tuple(shape))
    if input_tensor is not None and shape != given:
        raise ValueError(
            "`input_shape` must be that of `input_tensor`, or None. "
            f"Received: input_shape={shape}, input_tensor of shape {tuple(input_tensor.shape)}"
        )
    sizes = shape[:2] if channel_axis() == -1 else shape[1:]
    if any(n is not None and n < min_size for n in sizes):
        raise ValueError(
            f"Images must be at least {min_size} x {min_size}. Received: input_shape={shape}"
        )
    return keras.Input(shape, name="images") if input_tensor is None else input_tensor


def fit_preprocessing(images, preprocessing):
    """The preprocessing for a network's input: its size, where known and possible, and channels."""
    *own, channels = image_shape(images)
    return preprocessing.for_sides(*own).for_channels(channels)


def check_activation(classifier_activation):
    """Raises ValueError for an activation that weights were not trained for."""
    if keras.activations.get(classifier_activation) not in (
        keras.activations.linear,
        keras.activations.softmax,
    ):
        raise ValueError(
            "With weights, `classifier_activation` must be 'softmax' or None: they were trained "
            "for these. "
            f"Received: classifier_activation={classifier_activation!r}"
        )
