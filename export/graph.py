"""The function that every format is made from: images in, predictions out."""

import itertools
from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

from keras_senet.graphs import (
    check_functional,
    flat_layers,
    functional_of,
    operation_of,
    set_weights,
    with_config,
)
from keras_senet.preprocessing import Preprocessing, sides

FLOAT32 = {"dtype": "float32"}


def check_exportable(model, preprocessing):
    """Raises ValueError unless the model maps one batch of images, of a fixed size or any, to
    tensors.
    """
    check_functional(model)
    if len(model.inputs) != 1:
        raise ValueError(
            f"`model` must have one input, for images. Received: {model.name!r} with {len(model.inputs)} inputs"
        )
    shape = tuple(model.inputs[0].shape)
    if len(shape) != 4 or image_shape(model)[2] is None:
        raise ValueError(
            "`model` must take images (N, H, W, C) of a known number of channels. "
            f"Received: {model.name!r} with input shape {shape}"
        )
    _check_batch(model)
    if preprocessing is not None:
        _check_preprocessing(preprocessing, image_shape(model)[2])


def _check_batch(model):
    """Raises ValueError for a model that computes of one number of images alone, as in
    `ops.reshape(x, (4, -1))`.
    """
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
            f"Received: {model.name!r}, whose layers compute of {batch} at a time"
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
    is_several = isinstance(class_names, Iterable) and not isinstance(class_names, (str, bytes))
    names = tuple(map(str, class_names)) if is_several else ()
    if not is_several or classes != (len(names),):
        raise ValueError(
            f"`class_names` must be a name for each output of the model, whose shape is {classes}. "
            f"Received: {f'{len(names)} names' if is_several else repr(class_names)}"
        )
    return names


def with_plain_ends(model):
    """The model itself, or one with a tensor for an input or output that is a list or a dict of a
    single one.
    """
    if isinstance(
        model, keras.Sequential
    ):  # its ends are tensors, which it does not tell before it was called
        return model
    is_plain = len(model.outputs) != 1 or isinstance(model.output, keras.KerasTensor)
    if is_plain and isinstance(model.input, keras.KerasTensor):
        return model
    outputs = model.outputs[0] if len(model.outputs) == 1 else model.output
    return _like(model, keras.Model(model.inputs[0], outputs, name=model.name))


def _like(model, copy):
    """The copy, with what a network of keras_senet says of its images."""
    if hasattr(model, "preprocessing"):
        copy.preprocessing = model.preprocessing
    return copy


def output_names(model):
    """The outputs' names in a file, in the order of `model.outputs`.

    A single one is called `predictions`. Several have the keys of a dict, or the names of the
    layers that make them.
    """
    if len(model.outputs) == 1:
        return ["predictions"]
    names = []
    for path, tensor in keras.tree.flatten_with_path(model.output):
        keys = (
            [str(key) for key in path]
            if isinstance(model.output, dict)
            else [operation_of(tensor).name]
        )
        names.append(unused_name("_".join(keys), {"images", *names}))
    return names


def unused_name(name, taken):
    """The name, with a number added if it is taken."""
    numbered = (f"{name}_{count}" for count in itertools.count(2))
    return next(each for each in itertools.chain([name], numbered) if each not in taken)


def takes_integers(model):
    """Whether the model's images are integers, as those of `keras.Input(..., dtype="uint8")`."""
    return keras.backend.is_int_dtype(model.inputs[0].dtype)


def is_of_any_size(model):
    """Whether the height or the width of the images is open."""
    return None in image_shape(model)


def own_sides(model, preprocessing):
    """(H, W) of the images that a network for any size was made for, by its preprocessing; None if
    nothing tells.
    """
    size = getattr(preprocessing or getattr(model, "preprocessing", None), "size", None)
    return None if size is None else sides(size)


def with_sides(model, missing):
    """The shape of an image in the model's layout, of (H, W) where the model leaves them open."""
    height, width, channels = image_shape(model)
    size = (height or missing[0], width or missing[1])
    return (
        (*size, channels)
        if keras.config.image_data_format() == "channels_last"
        else (channels, *size)
    )


def is_taken(model, shape):
    """Whether a model can compute images of a shape: some want sides that their strides divide."""
    try:
        model(np.zeros((1, *shape), "float32"), training=False)
    except Exception:  # each backend has its own errors for shapes that do not fit
        return False
    return True


def of_shape(model, shape):
    """A copy of a model for images of any size that takes those of one shape."""
    model = with_plain_ends(model)
    copy = keras.models.clone_model(
        model, keras.Input(shape, name="images"), clone_function=with_config
    )
    set_weights(copy, model.get_weights())
    return _like(model, copy)


def image_shape(model):
    """(H, W, C) of the images that the model takes, in either layout."""
    shape = tuple(model.inputs[0].shape[1:])
    return shape if keras.config.image_data_format() == "channels_last" else (*shape[1:], shape[0])


def in_float32(model):
    """The model itself, or with layers of mixed precision a copy that computes in float32, the
    variables' dtype.
    """
    if all(layer.compute_dtype == "float32" for layer in flat_layers(model)):
        return model

    def clone(layer):
        computes = isinstance(layer, keras.Layer) and not isinstance(layer, keras.layers.InputLayer)
        return with_config(
            layer, **FLOAT32 if computes else {}
        )  # operations of `keras.ops` follow their inputs

    return copy_with(model, clone)


def copy_with(model, clone):
    """A copy with `clone(layer)` in place of each layer, nested ones too, and the model's weights."""
    copy = keras.models.clone_model(model, clone_function=clone, recursive=True)
    set_weights(copy, model.get_weights())
    return _like(model, copy)


def prediction_function(model, preprocessing, names=None):
    """The outputs by name of a batch of images: 0..255 RGB with `preprocessing`, else as the model
    takes them.
    """
    names = names or output_names(model)

    def predictions(images):
        if preprocessing is not None:
            images = preprocessing.normalize(images)
        return dict(zip(names, keras.tree.flatten(model(images, training=False)), strict=True))

    return predictions


def predict(function, images, batch_size=16):
    """What a function like `prediction_function` computes of all images, a batch at a time: float32
    by name.
    """
    parts = np.split(images, range(batch_size, len(images), batch_size))
    outputs = [function(part) for part in parts]
    return {
        name: np.concatenate([keras.ops.convert_to_numpy(each[name]) for each in outputs]).astype(
            "float32"
        )
        for name in outputs[0]
    }


def serving_function(model, preprocessing, batch=None):
    """A tf.function from `images` (batch, H, W, C) float32 to float32 outputs by name; None is a
    dynamic batch.
    """
    predictions = prediction_function(model, preprocessing)
    images = tf.TensorSpec((batch, *model.inputs[0].shape[1:]), tf.float32, name="images")

    @tf.function(input_signature=[images])
    def serve(images):
        return {name: tf.cast(value, tf.float32) for name, value in predictions(images).items()}

    return serve


def traced(function):
    """The concrete function of a tf.function with an `input_signature`, without calls that XLA must
    compile.

    Keras makes such calls of grouped convolutions, whose gradient TensorFlow's CPU kernels lack.
    ONNX has none, and a SavedModel would compile again for each size of a batch, and run only where
    XLA is. What TensorFlow cannot trace without them keeps them.
    """
    concrete = function.get_concrete_function()
    if not _calls_xla(concrete):
        return concrete
    inlined = tf.function(function.python_function, input_signature=function.input_signature)
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(
        True
    )  # functions within a function that is traced become part of it
    try:
        return inlined.get_concrete_function()
    except (
        ValueError,
        TypeError,
    ):  # such as a tensor in an `if`, which only a function of its own can have
        return concrete
    finally:
        tf.config.run_functions_eagerly(before)


def _calls_xla(concrete):
    """Whether it calls a function that XLA must compile; of a 3D convolution with groups TensorFlow
    has no other.
    """
    compiled = [
        each
        for each in concrete.graph.as_graph_def().library.function
        if each.attr["_XlaMustCompile"].b
    ]
    return any("Conv3D" not in {node.op for node in each.node_def} for each in compiled)


def frozen_graph(function):
    """(GraphDef, {`images` and each output's name: its tensor}) of a `serving_function`, with
    constants in its place.

    Variables become constants, and so do tensors that were computed where the model was built, such
    as the mean of a `Normalization` or the numbers in `x / 127.5 - 1`: to TensorFlow these are
    further inputs.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    concrete = traced(function)
    assigning = [
        each.name for each in concrete.graph.get_operations() if each.type.startswith("Assign")
    ]
    if assigning:
        raise ValueError(
            "`model` must leave its variables as they are, which are constants in the file. "
            f"Received: a model with {assigning[0]!r}"
        )
    captured = {
        placeholder.op.name: tensor.numpy()
        for tensor, placeholder in concrete.graph.captures
        if tensor.dtype != tf.resource
    }
    frozen = convert_variables_to_constants_v2(
        concrete, lower_control_flow=False, aggressive_inlining=True
    )
    content = frozen.graph.as_graph_def(add_shapes=True)
    for node in content.node:
        if node.name in captured:
            constant = tf.make_tensor_proto(captured[node.name])
            node.op = "Const"
            node.attr.clear()
            node.attr["dtype"].type = constant.dtype
            node.attr["value"].tensor.CopyFrom(constant)
    # TensorFlow has the values of a dictionary in the order of its keys.
    outputs = dict(
        zip(
            sorted(concrete.structured_outputs), (each.name for each in frozen.outputs), strict=True
        )
    )
    return content, {"images": "images:0"} | outputs


def write_saved_model(model, functions, folder):
    """Writes tf.functions by the names of their signatures, and the model's variables, as a
    SavedModel.

    `keras.export.ExportArchive` would write each variable twice: as Keras' object and as
    TensorFlow's within it.
    """
    functions = {name: traced(function) for name, function in functions.items()}
    module = tf.Module()
    module.tensors = [variable.value for variable in model.variables]
    module.functions = functions
    tf.saved_model.save(module, str(folder), signatures=functions)
