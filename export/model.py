"""What is exported: checks of a Keras model, copies of it, and the outputs that it computes."""

import itertools
from collections.abc import Callable, Collection, Iterable, Sequence, Set
from typing import Any

import keras
import numpy as np

from keras_senet.copying import keep_attributes, rebuild, set_weights, with_config
from keras_senet.fields import fits_utf8
from keras_senet.graphs import check_functional, flat_layers, functional_of, operation_of
from keras_senet.layers.data_format import arrange, image_shape
from keras_senet.preprocessing import Preprocessing, sides


def check_exportable(model: keras.Model, preprocessing: Preprocessing | None) -> None:
    """Raises ValueError unless the model maps a batch of images, of one size or any, to tensors."""
    check_functional(model)
    if len(model.inputs) != 1:
        raise ValueError(
            f"`model` must have one input, for images. Received: {model.name!r} with "
            f"{len(model.inputs)} inputs"
        )
    shape = tuple(model.inputs[0].shape)
    if len(shape) != 4 or image_shape(model.inputs[0])[2] is None:
        raise ValueError(
            "`model` must take images (N, H, W, C) of a known number of channels. "
            f"Received: {model.name!r} with input shape {shape}"
        )
    _check_batch(model)
    if preprocessing is not None:
        _check_preprocessing(preprocessing, image_shape(model.inputs[0])[2])


def _check_batch(model):
    """Raises ValueError for a model of one number of images, as by `ops.reshape(x, (4, -1))`."""
    batch, *shape = model.inputs[0].shape
    if batch is None:
        return
    try:
        outputs = functional_of(model)([keras.KerasTensor((None, *shape), model.inputs[0].dtype)])
        is_open = all(output.shape[0] is None for output in keras.tree.flatten(outputs))
    except Exception:  # each layer has its own errors
        is_open = False
    if not is_open:
        raise ValueError(
            "`model` must take any number of images, as files do. "
            f"Received: {model.name!r}, whose layers take {batch} at a time"
        )


def _check_preprocessing(preprocessing, channels):
    if not isinstance(preprocessing, Preprocessing):
        raise ValueError(
            f"`preprocessing` must be a Preprocessing or None. Received: {preprocessing!r}"
        )
    if len(preprocessing.mean) not in (1, channels):
        raise ValueError(
            f"`preprocessing` must be for images of {channels} channels, as the model takes them. "
            f"Received: preprocessing with a mean of {len(preprocessing.mean)}"
        )


def check_tensorflow(what: str) -> None:
    """Raises ValueError unless Keras computes with TensorFlow, whose functions are written."""
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"{what} needs Keras' backend 'tensorflow' (KERAS_BACKEND=tensorflow). "
            f"Received: backend {keras.backend.backend()!r}"
        )


def check_class_names(model: keras.Model, class_names: Any) -> tuple[str, ...] | None:
    """The names as a tuple of text, or None.

    Raises:
        ValueError: unless there are none, or one for each number of the model's only output.
    """
    if class_names is None:
        return None
    if len(model.outputs) != 1:
        raise ValueError(
            "`class_names` are of a model with one output. "
            f"Received: class_names, and {model.name!r} with {len(model.outputs)} outputs"
        )
    classes = tuple(model.outputs[0].shape[1:])
    unfit = (str, bytes, Set)  # a set has no order
    is_several = isinstance(class_names, Iterable) and not isinstance(class_names, unfit)
    given = list(class_names) if is_several else []
    if not is_several or classes != (len(given),):
        raise ValueError(
            f"`class_names` must be a name for each output of the model, whose shape is {classes}. "
            f"Received: {f'{len(given)} names' if is_several else repr(class_names)}"
        )
    for name in given:
        if isinstance(name, bytes) or not fits_utf8(str(name)):
            raise ValueError(f"`class_names` must be text that UTF-8 can hold. Received: {name!r}")
    return tuple(map(str, given))


def with_plain_ends(model: keras.Model) -> keras.Model:
    """The model, or one with a tensor for an input or output that is a list or dict of one."""
    # The ends of a sequential model are tensors, and not known before it was called.
    if isinstance(model, keras.Sequential):
        return model
    is_plain = len(model.outputs) != 1 or isinstance(model.output, keras.KerasTensor)
    if is_plain and isinstance(model.input, keras.KerasTensor):
        return model
    outputs = model.outputs[0] if len(model.outputs) == 1 else model.output
    return keep_attributes(model, keras.Model(model.inputs[0], outputs, name=model.name))


def output_names(model: keras.Model) -> list[str]:
    """The outputs' names in a file, in the order of `model.outputs`.

    A single one is called `predictions`. Several have the keys of a dict, or the names of the
    layers that output them.
    """
    if len(model.outputs) == 1:
        return ["predictions"]
    names, is_dict = [], isinstance(model.output, dict)
    for path, tensor in keras.tree.flatten_with_path(model.output):
        keys = [str(key) for key in path] if is_dict else [operation_of(tensor).name]
        names.append(unused_name("_".join(keys), {"images", *names}))
    return names


def unused_name(name: str, taken: Collection[str]) -> str:
    """The name, with a number added if it is taken."""
    numbered = (f"{name}_{count}" for count in itertools.count(2))
    return next(each for each in itertools.chain([name], numbered) if each not in taken)


def takes_integers(model: keras.Model) -> bool:
    """Whether the model's images are integers, as those of `keras.Input(..., dtype="uint8")`."""
    return keras.backend.is_int_dtype(model.inputs[0].dtype)


def is_of_any_size(model: keras.Model) -> bool:
    """Whether the height or the width of the images is open."""
    return None in image_shape(model.inputs[0])


def own_sides(model: keras.Model, preprocessing: Preprocessing | None) -> tuple[int, int] | None:
    """(H, W) of the images that a network for any size was made for, or None."""
    size = getattr(preprocessing or getattr(model, "preprocessing", None), "size", None)
    return None if size is None else sides(size)


def with_sides(model: keras.Model, missing: Sequence[int]) -> tuple[int, int, int]:
    """The shape of an image in the model's layout, of (H, W) where the model leaves them open."""
    height, width, channels = image_shape(model.inputs[0])
    return arrange(height or missing[0], width or missing[1], channels)


def is_taken(model: keras.Model, shape: Sequence[int]) -> bool:
    """Whether a model can compute images of a shape: some want sides that their strides divide."""
    try:
        model(np.zeros((1, *shape), "float32"), training=False)
    except Exception:  # each backend has its own errors for shapes that do not fit
        return False
    return True


def of_shape(model: keras.Model, shape: Sequence[int]) -> keras.Model:
    """A copy of a model for images of any size that takes those of one shape."""
    model = with_plain_ends(model)
    copy = keras.models.clone_model(
        model, keras.Input(shape, name="images"), clone_function=with_config
    )
    set_weights(copy, model.get_weights())
    return keep_attributes(model, copy)


def in_float32(model: keras.Model) -> keras.Model:
    """The model, or of one in mixed precision a copy that computes in float32."""
    if all(layer.compute_dtype == "float32" for layer in flat_layers(model)):
        return model

    def clone(layer):
        if not isinstance(layer, keras.Layer) or isinstance(layer, keras.layers.InputLayer):
            return with_config(layer)  # operations of `keras.ops` follow their inputs
        new = with_config(layer, dtype="float32")
        for each in flat_layers(new):  # those within a wrapper have a policy of their own
            each.dtype_policy = "float32"
        return new

    return rebuild(model, {}, clone=clone)


def prediction_function(
    model: keras.Model, preprocessing: Preprocessing | None, names: Iterable | None = None
) -> Callable[[Any], dict]:
    """The outputs by name of images: 0..255 RGB with `preprocessing`, else as trained on."""
    names = names or output_names(model)

    def predictions(images):
        if preprocessing is not None:
            images = preprocessing.normalize(images)
        return dict(zip(names, keras.tree.flatten(model(images, training=False)), strict=True))

    return predictions


def predict(
    function: Callable[[Any], dict], images: np.ndarray, batch_size: int = 16
) -> dict[Any, np.ndarray]:
    """What a function like `prediction_function` computes of all images: float32 by name."""
    batches = np.split(images, range(batch_size, len(images), batch_size))
    outputs = [function(batch) for batch in batches]
    found = {}
    for name in outputs[0]:
        arrays = [np.asarray(keras.ops.convert_to_numpy(each[name])) for each in outputs]
        found[name] = np.concatenate(arrays).astype("float32")
    return found
