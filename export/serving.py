"""The TensorFlow functions that SavedModel, TFLite and tf2onnx are made from."""

import tensorflow as tf

from .model import prediction_function


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
