"""ONNX by tf2onnx, of models with layers that have no emitter."""

import contextlib
import logging
from typing import Any

import numpy as np

from keras_senet.extras import require
from keras_senet.layers.data_format import image_shape

from ..model import check_tensorflow, output_names
from . import ONNX
from .graph import name_sides


def convert_by_tf2onnx(model, options: ONNX, preprocessing=None) -> Any:
    """The ModelProto of a model that TensorFlow computes."""
    check_tensorflow(f"ONNX of {model.name!r}, which has layers that tf2onnx must convert,")
    tf2onnx = require("tf2onnx", "export")
    from ..serving import frozen_graph, serving_function

    graph = frozen_graph(serving_function(model, preprocessing))
    tensors = {name: each.name for name, each in (graph.inputs | graph.outputs).items()}
    names = output_names(model)
    is_map = {
        name: len(output.shape) == 4 for name, output in zip(names, model.outputs, strict=True)
    }
    channels_first = {
        "inputs_as_nchw": ["images"],
        "outputs_as_nchw": [name for name in names if is_map[name]],
    }
    with _without_advice(), _short_errors(model):
        proto, _ = tf2onnx.convert.from_graph_def(
            graph.content,
            name=model.name,
            input_names=[tensors["images"]],
            output_names=[tensors[name] for name in names],
            tensors_to_rename={tensor: name for name, tensor in tensors.items()},
            opset=options.opset,
            custom_op_handlers={"Erfc": (_convert_erfc, [])},
            **channels_first if options.layout == "nchw" else {},
        )
    ends = {"images": (None, *image_shape(model.inputs[0]))}
    ends |= {name: output.shape for name, output in zip(names, model.outputs, strict=True)}
    for value in (*proto.graph.input, *proto.graph.output):
        prefix = "" if value.name == "images" else f"{value.name}_"
        _set_shape(value, name_sides(ends[value.name], options.layout, prefix))
    return proto


def _convert_erfc(graph, node, name, _):
    """erfc(x), of which Keras' gelu is made and which ONNX lacks, as 1 - erf(x), for tf2onnx."""
    source, result = node.input[0], node.output[0]
    one = graph.make_const(f"{name}/one", np.ones((), "float32")).output[0]
    dtypes, shapes = [graph.get_dtype(result)], [graph.get_shape(result)]
    graph.remove_node(node.name)
    erf = graph.make_node("Erf", [source], dtypes=dtypes, shapes=shapes).output[0]
    graph.make_node("Sub", [one, erf], name=name, outputs=[result], dtypes=dtypes, shapes=shapes)


@contextlib.contextmanager
def _without_advice():
    """Silences what TensorFlow logs about functions of its first version, which tf2onnx calls."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _short_errors(model):
    """Raises ValueError in place of what tf2onnx raises, such as KeyError for a type of numbers."""
    try:
        yield
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"{model.name!r} has something that tf2onnx has not: {reason}") from error


def _set_shape(value, dims):
    shape = value.type.tensor_type.shape
    del shape.dim[:]
    for dim in dims:
        shape.dim.add(**{"dim_param" if isinstance(dim, str) else "dim_value": dim})
