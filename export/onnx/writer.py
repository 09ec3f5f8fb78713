"""The ONNX file of a Keras model: by its layers, or by tf2onnx where one of them is not known."""

import dataclasses
import json
from typing import Any

import numpy as np

from keras_senet.extras import require
from keras_senet.graphs import has_logits
from keras_senet.layers.data_format import image_shape
from keras_senet_cli import __version__

from ..folding import fold_if_possible
from ..formats import Common, names_within
from ..model import output_names, takes_integers
from . import ONNX, activations, convolutions, layers  # noqa: F401 -- these register emitters
from .by_tf2onnx import convert_by_tf2onnx
from .emitters import check_supported, emit_model
from .graph import OnnxGraph, UnsupportedLayerError, Value, name_sides
from .quantization import quantize_to_int8, round_to_float16


def write_onnx(model, target, options: ONNX, common: Common) -> None:
    """Writes the file; the images that it is calibrated on are in the model's layout.

    Raises:
        ValueError: for a model with something that ONNX lacks.
    """
    onnx = require("onnx", "export")
    proto = make_proto(model, options, common.preprocessing)
    _check(proto, model)  # before tools that take it for valid
    if options.quantization == "float16":
        proto = round_to_float16(proto)
    elif options.quantization == "int8":
        floats = names_within(model, options.float_layers)
        images = common.representative_images
        proto = quantize_to_int8(proto, images, options.layout, target, floats)
    onnx.helper.set_model_props(proto, _properties(model, common))
    proto.producer_name, proto.producer_version = "keras_senet", __version__
    onnx.save(proto, str(target))


def _check(proto, model):
    """Raises ValueError for an invalid graph, as tf2onnx makes of operations that ONNX lacks."""
    onnx = require("onnx", "export")
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{model.name!r} has something that ONNX has not: {reason}") from error


def _properties(model, common):
    found = {"source": f"keras_senet {__version__}, {model.name}"}
    if common.preprocessing is not None:
        found["preprocessing"] = json.dumps(dataclasses.asdict(common.preprocessing))
    if common.class_names is not None:
        found["class_names"] = json.dumps(common.class_names, ensure_ascii=False)
    if has_logits(model):
        found["logits"] = "true"
    return found


def make_proto(model, options: ONNX, preprocessing=None) -> Any:
    """The ModelProto in float32."""
    try:
        return convert_by_layers(model, options, preprocessing)
    except UnsupportedLayerError as error:
        if options.gates:
            raise ValueError(f"`gates` cannot be written for {model.name!r}: {error}") from error
        return convert_by_tf2onnx(model, options, preprocessing)


def convert_by_layers(model, options: ONNX, preprocessing=None) -> Any:
    """The ModelProto of a model whose layers all have emitters.

    Raises:
        UnsupportedLayerError: for another model.
    """
    check_supported(model)  # before `fold`, which copies layers: those of others may not allow it
    names = output_names(model)
    graph = OnnxGraph(options.opset, names)
    given = (None, *image_shape(model.inputs[0]))
    images = _prepare_images(graph, model, options.layout, preprocessing)
    shapes = {}
    outputs = emit_model(graph, fold_if_possible(model), Value(images, given))
    for name, output in zip(names, outputs, strict=True):
        result = output.name
        if len(output.shape) == 4 and options.layout == "nhwc":
            result = graph.add("Transpose", result, perm=(0, 2, 3, 1), name=f"{name}/channels_last")
        graph.set_result(result, name)
        shapes[name] = name_sides(output.shape, options.layout, f"{name}_")
    if options.gates:
        shapes |= graph.add_gate_outputs()
    return graph.to_proto(model.name, {"images": name_sides(given, options.layout)}, shapes)


def _prepare_images(graph, model, layout, preprocessing):
    """The name of the images (N, C, H, W) as the model takes them."""
    kinds = require("onnx", "export").TensorProto
    images = "images"
    if layout == "nhwc":
        images = graph.add("Transpose", images, perm=(0, 3, 1, 2), name="channels_first")
    if preprocessing is not None:
        mean, std = (np.reshape(v, (1, -1, 1, 1)) for v in (preprocessing.mean, preprocessing.std))
        images = graph.compute(images, [("Sub", mean), ("Div", std)], "preprocessing")
    if takes_integers(model):  # as Keras does with images of float32
        for kind in (kinds.INT32, kinds.FLOAT):
            images = graph.add("Cast", images, to=kind, name="integers")
    return images
