"""Where the channels are."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_senet.fields import check_choice

TF_FORMATS = {"channels_last": "NHWC", "channels_first": "NCHW"}


def resolve_data_format(data_format):
    """The data format, or Keras' own for None. Raises ValueError for another."""
    if data_format is None:
        return keras.config.image_data_format()
    check_choice("data_format", data_format, TF_FORMATS)
    return data_format


# By Keras' own data format:


def channel_axis() -> int:
    """Where the channels of a batch of images are."""
    return -1 if keras.config.image_data_format() == "channels_last" else 1


def image_shape(images: Any) -> tuple:
    """(H, W, C) of a batch of images or of maps."""
    shape = tuple(images.shape[1:])
    return shape if channel_axis() == -1 else (*shape[1:], shape[0])


def fits(size: Sequence[int], shape: Sequence[int | None]) -> bool:
    """Whether an image of a size is of a shape, in which None is any side."""
    return len(size) == len(shape) == 3 and all(
        a in (None, b) for a, b in zip(shape, size, strict=True)
    )


def as_images(model: keras.Model, images: Any, least: int = 0) -> np.ndarray:
    """Images as an array float32.

    Raises:
        ValueError: unless they are (N, H, W, C) as the model takes them, and at least so many.
    """
    images, shape = np.asarray(ops.convert_to_numpy(images)), tuple(model.inputs[0].shape)
    if not fits(images.shape[1:], shape[1:]) or len(images) < least:
        raise ValueError(
            f"`images` must be of shape {shape}. Received: images of shape {images.shape}"
        )
    return images.astype("float32")


def arrange(height: int | None, width: int | None, channels: int | None) -> tuple:
    """The shape of an image."""
    sides = (height, width)
    return (*sides, channels) if channel_axis() == -1 else (channels, *sides)


def from_channels_last(images: Any) -> Any:
    """Images (N, H, W, C) as networks take them."""
    return images if channel_axis() == -1 else ops.transpose(images, (0, 3, 1, 2))
