"""The images that a file and the Keras model are compared on."""

import keras
import numpy as np

from keras_senet.layers.data_format import fits

from .model import is_of_any_size, is_taken, own_sides, takes_integers, with_sides

SYNTHETIC_IMAGES = 8
USUAL_SIZE = 224
# Added to the own size of a network for images of any size. What strides do not divide is tried
# before what they do.
SIZES = ((0, 0), (13, -5), (32, 0), (0, -32), (64, 128))


def synthetic_images(model: keras.Model, preprocessing=None) -> np.ndarray:
    """Seeded images (8, H, W, C): smooth colours and noise of 0..255 RGB, normalised if need be."""
    return _synthetic(model, model.inputs[0].shape[1:], preprocessing)


def _synthetic(model, shape, preprocessing, count=SYNTHETIC_IMAGES):
    random = np.random.default_rng(0)
    tint = random.uniform(0, 255, (count, 1, 1, 1))
    images = np.clip(tint + random.normal(0, 60, (count, *shape)), 0, 255).astype("float32")
    if takes_integers(model):
        images = images.round()
    return images if preprocessing is not None or takes_integers(model) else images / 127.5 - 1


def batches_to_compare(model: keras.Model, preprocessing, images) -> list[np.ndarray]:
    """Images to compare on, a batch of each size: at least two of a model for any size."""
    batches = [] if images is None else validate_images("images", images, model)
    if not is_of_any_size(model):
        return batches or [synthetic_images(model, preprocessing)]
    own = own_sides(model, preprocessing) or (USUAL_SIZE, USUAL_SIZE)
    for change in SIZES:
        shape = with_sides(model, [side + added for side, added in zip(own, change, strict=True)])
        is_new = shape not in [batch.shape[1:] for batch in batches]
        if len(batches) < 2 and is_new and is_taken(model, shape):
            batches.append(_synthetic(model, shape, preprocessing, SYNTHETIC_IMAGES // 2))
    if not batches:
        raise ValueError(
            f"`images` must be of a size that {model.name!r} takes: {own} is not. "
            "Received: images=None"
        )
    return batches


def to_layout(values: np.ndarray, layout: str) -> np.ndarray:
    """Images or maps (N, H, W, C) in a file's layout; arrays of another rank as they are."""
    return values.transpose(0, 3, 1, 2) if layout == "nchw" and values.ndim == 4 else values


def validate_images(argument: str, images, model: keras.Model) -> list[np.ndarray]:
    """The images of any iterable as float32 arrays (N, H, W, C), one of each size that there is.

    Raises:
        ValueError: if there are none, they are not of the model's shape, or not finite.
    """
    shape = tuple(model.inputs[0].shape[1:])
    named = ", ".join("any" if side is None else str(side) for side in shape)
    try:
        arrays = [np.asarray(image, "float32") for image in images]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{argument}` must be images of shape ({named}). Received: {type(images)} ({error})"
        ) from error
    sizes = dict.fromkeys(array.shape for array in arrays)
    wrong = [size for size in sizes if not fits(size, shape)]
    if wrong or not arrays:
        given = (len(arrays), *(wrong[0] if wrong else ()))
        raise ValueError(f"`{argument}` must be of shape (N, {named}). Received: {given}")
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError(f"`{argument}` must be finite. Received: values that are not")
    return [np.stack([array for array in arrays if array.shape == size]) for size in sizes]
