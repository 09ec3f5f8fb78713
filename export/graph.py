"""The function that every format is made from: images in, predictions out."""

from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

from keras_senet.graphs import check_functional, with_config
from keras_senet.preprocessing import Preprocessing

FLOAT32 = {"dtype": "float32"}


def check_exportable(model, preprocessing):
    """Raises ValueError unless the model maps one batch of fixed-size images to one tensor."""
    check_functional(model)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            "`model` must have one input and one output. "
            f"Received: {model.name!r} with {len(model.inputs)} inputs and {len(model.outputs)} outputs"
        )
    shape = tuple(model.inputs[0].shape)
    if len(shape) != 4 or None in shape[1:]:
        raise ValueError(
            "`model` must take images of a fixed size: build it with an `input_shape`. "
            f"Received: {model.name!r} with input shape {shape}"
        )
    if preprocessing is not None:
        _check_preprocessing(preprocessing, image_shape(model)[2])


def _check_preprocessing(preprocessing, channels):
    if not isinstance(preprocessing, Preprocessing):
        raise ValueError(f"`preprocessing` must be a Preprocessing or None. Received: {preprocessing!r}")
    if len(preprocessing.mean) not in (1, channels):
        raise ValueError(
            f"`preprocessing` must be for images of {channels} channels, as the model takes them. "
            f"Received: preprocessing with a mean of {len(preprocessing.mean)}"
        )


def check_tensorflow(what):
    """Raises ValueError unless Keras computes with TensorFlow, of whose functions the file is made."""
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"{what} needs Keras' backend 'tensorflow' (KERAS_BACKEND=tensorflow). "
            f"Received: backend {keras.backend.backend()!r}"
        )


def checked_class_names(model, class_names):
    """The names as a tuple of text, or None.

    Raises:
        ValueError: unless there are none, or one for each output.
    """
    if class_names is None:
        return None
    classes = tuple(model.outputs[0].shape[1:])
    is_several = isinstance(class_names, Iterable) and not isinstance(class_names, (str, bytes))
    names = tuple(map(str, class_names)) if is_several else ()
    if not is_several or classes != (len(names),):
        raise ValueError(
            f"`class_names` must be a name for each output of the model, whose shape is {classes}. "
            f"Received: {f'{len(names)} names' if is_several else repr(class_names)}"
        )
    return names


def with_plain_ends(model):
    """The model itself, or one that takes and gives a tensor where it has a list or a dict with a single one."""
    is_plain = isinstance(model, keras.Sequential)
    if is_plain or all(isinstance(end, keras.KerasTensor) for end in (model.input, model.output)):
        return model
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


def image_shape(model):
    """(H, W, C) of the images that the model takes, in either layout."""
    shape = tuple(model.inputs[0].shape[1:])
    return shape if keras.config.image_data_format() == "channels_last" else (*shape[1:], shape[0])


def in_float32(model):
    """The model itself, or with layers of mixed precision a copy that computes in float32, the variables' dtype."""
    if all(layer.compute_dtype == "float32" for layer in model._flatten_layers()):
        return model

    def clone(layer):
        computes = isinstance(layer, keras.Layer) and not isinstance(layer, keras.layers.InputLayer)
        return with_config(layer, **FLOAT32 if computes else {})  # operations of `keras.ops` follow their inputs

    return copy_with(model, clone)


def copy_with(model, clone):
    """A copy with `clone(layer)` in place of each layer, nested ones too, and the model's weights."""
    copy = keras.models.clone_model(model, clone_function=clone, recursive=True)
    copy.set_weights(model.get_weights())
    return copy


def prediction_function(model, preprocessing):
    """The model as a function of a batch of images: 0..255 RGB with `preprocessing`, else as the model takes them."""

    def predictions(images):
        if preprocessing is not None:
            images = preprocessing.normalize(images)
        return model(images, training=False)

    return predictions


def predict(model, preprocessing, images, batch_size=16):
    """What Keras answers to all images, run eagerly a batch at a time: float32."""
    predictions = prediction_function(model, preprocessing)
    batches = np.split(images, range(batch_size, len(images), batch_size))
    return np.concatenate([keras.ops.convert_to_numpy(predictions(batch)) for batch in batches]).astype("float32")


def serving_function(model, preprocessing, batch=None):
    """A tf.function from `images` (batch, H, W, C) float32 to {"predictions": ...} float32; None is a dynamic batch."""
    predictions = prediction_function(model, preprocessing)
    images = tf.TensorSpec((batch, *model.inputs[0].shape[1:]), tf.float32, name="images")

    @tf.function(input_signature=[images])
    def serve(images):
        return {"predictions": tf.cast(predictions(images), tf.float32)}

    return serve


def write_saved_model(model, functions, folder):
    """Writes tf.functions by the names of their signatures, and the model's variables, as a SavedModel.

    `keras.export.ExportArchive` would write each variable twice: as Keras' object and as TensorFlow's within it.
    """
    module = tf.Module()
    module.tensors = [variable.value for variable in model.variables]
    module.functions = functions
    tf.saved_model.save(module, str(folder), signatures=functions)
