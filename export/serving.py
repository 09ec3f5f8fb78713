"""The TensorFlow functions that SavedModel, TFLite and tf2onnx are made from."""

from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from .model import prediction_function


def serving_function(model: keras.Model, preprocessing: Any, batch: int | None = None) -> Any:
    """A tf.function: `images` (batch, H, W, C) float32 -> float32 by name; None: any batch."""
    predictions = prediction_function(model, preprocessing)
    images = tf.TensorSpec((batch, *model.inputs[0].shape[1:]), tf.float32, name="images")

    @tf.function(input_signature=[images], autograph=False)
    def serve(images):
        return {name: tf.cast(value, tf.float32) for name, value in predictions(images).items()}

    return serve


def trace(function: Any) -> Any:
    """The concrete function of a tf.function with an `input_signature`, without calls that XLA must
    compile.

    Keras makes such calls of grouped convolutions, whose gradient TensorFlow's CPU kernels lack.
    ONNX has none, and a SavedModel would compile again for each size of a batch, and run only where
    XLA is. What TensorFlow cannot trace without them keeps them.
    """
    concrete = function.get_concrete_function()
    if not _calls_xla(concrete):
        return concrete
    inlined = tf.function(
        function.python_function, input_signature=function.input_signature, autograph=False
    )
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)  # a function within one that is traced becomes part of it
    try:
        return inlined.get_concrete_function()
    except (ValueError, TypeError):  # such as a tensor in an `if`, for which AutoGraph is needed
        return concrete
    finally:
        tf.config.run_functions_eagerly(before)


def _calls_xla(concrete):
    """Whether it calls a function that XLA must compile; 3D grouped convolutions have no other."""
    compiled = [
        each
        for each in concrete.graph.as_graph_def().library.function
        if each.attr["_XlaMustCompile"].b
    ]
    return any("Conv3D" not in {node.op for node in each.node_def} for each in compiled)


class FrozenGraph(NamedTuple):
    """A GraphDef with constants in place of variables, and its ends by their names."""

    content: Any
    inputs: dict[str, Any]
    outputs: dict[str, Any]


def frozen_graph(function: Any) -> FrozenGraph:
    """The graph of a tf.function with an `input_signature` that returns a dictionary.

    Variables become constants, and so do tensors that were computed where the model was built, such
    as the mean of a `Normalization` or the numbers in `x / 127.5 - 1`: to TensorFlow these are
    further inputs.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    concrete = trace(function)
    operations = concrete.graph.get_operations()
    assigning = [each.name for each in operations if each.type.startswith("Assign")]
    if assigning:
        raise ValueError(
            "`model` must leave its variables as they are, which are constants in the file. "
            f"Received: a model with {assigning[0]!r}"
        )
    frozen = convert_variables_to_constants_v2(
        concrete, lower_control_flow=False, aggressive_inlining=True
    )
    content = frozen.graph.as_graph_def(add_shapes=True)
    captured = _fill_captured(content, concrete.graph.captures)
    inputs = {each.op.name: each for each in frozen.inputs if each.op.name not in captured}
    # TensorFlow has the values of a dictionary in the order of its keys.
    names = sorted(concrete.structured_outputs)
    return FrozenGraph(content, inputs, dict(zip(names, frozen.outputs, strict=True)))


def _fill_captured(content, captures):
    """Makes constants of a graph's placeholders for captured tensors; returns their names."""
    captured = {
        placeholder.op.name: tensor.numpy()
        for tensor, placeholder in captures
        if tensor.dtype != tf.resource
    }
    for node in content.node:
        if node.name in captured:
            constant = tf.make_tensor_proto(captured[node.name])
            node.op = "Const"
            node.attr.clear()
            node.attr["dtype"].type = constant.dtype
            node.attr["value"].tensor.CopyFrom(constant)
    return captured.keys()


def write_saved_model(model: keras.Model, functions: dict[str, Any], folder: Any) -> None:
    """Writes tf.functions by the names of their signatures, and the model's variables, as a
    SavedModel.

    `keras.export.ExportArchive` would write each variable twice: as Keras' object and as
    TensorFlow's within it.
    """
    functions = {name: trace(function) for name, function in functions.items()}
    module = tf.Module()
    module.tensors = [variable.value for variable in model.variables]
    module.functions = functions
    tf.saved_model.save(module, str(folder), signatures=functions)


def write_frozen_model(function: Any, folder: Any) -> None:
    """Writes a tf.function as a SavedModel with constants in place of variables, which TensorFlow's
    converter reads in half the time.
    """
    from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    graph = frozen_graph(function)
    model = SavedModel(saved_model_schema_version=1)
    meta = model.meta_graphs.add(graph_def=graph.content)
    meta.meta_info_def.tags.append("serve")
    signature = meta.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    for ends, tensors in ((signature.inputs, graph.inputs), (signature.outputs, graph.outputs)):
        for name, tensor in tensors.items():
            dtype, shape = tensor.dtype.as_datatype_enum, tensor.shape.as_proto()
            ends[name].CopyFrom(TensorInfo(name=tensor.name, dtype=dtype, tensor_shape=shape))
    Path(folder, "saved_model.pb").write_bytes(model.SerializeToString())
