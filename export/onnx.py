"""ONNX, for ONNX Runtime and whatever reads it."""

import contextlib
import dataclasses
import json
import logging
from typing import NamedTuple

import numpy as np

from keras_senet.extras import require
from keras_senet.fields import is_integer
from keras_senet_cli import __version__

from .conditioning import FLOAT16, FLOAT32, INTEGERS, Precision
from .folding import fold
from .graph import (
    check_exportable,
    check_tensorflow,
    checked_class_names,
    frozen_graph,
    image_shape,
    output_names,
    serving_function,
    takes_integers,
)
from .onnx_graph import Graph, Tensor, UnsupportedLayerError, check_supported, emit_model
from .parity import checked_images, export, laid_out

LAYOUTS = ("nhwc", "nchw")
OPSETS = range(13, 19)


class Quantization(NamedTuple):
    """One way to make a file smaller: what it may differ by, and whether it is calibrated on
    images.
    """

    precision: Precision
    calibrates: bool = False


QUANTIZATIONS = {
    None: Quantization(FLOAT32),
    "float16": Quantization(FLOAT16),
    "int8": Quantization(INTEGERS, calibrates=True),
}


def to_onnx(
    model,
    path,
    *,
    layout="nhwc",
    opset=18,
    quantization=None,
    representative_images=None,
    gates=False,
    images=None,
    preprocessing=None,
    class_names=None,
    overwrite=False,
):
    """Writes an ONNX file from `images` to `predictions` with a dynamic `batch`, run by ONNX
    Runtime and compared.

    Several outputs have the names that the model has for them, those of a dict or of layers.
    `height` and `width` are dynamic, too, where the model leaves them open.

    It computes in float32, also where the model trains in mixed precision, on channels first, with
    batch normalisation inside the convolutions. Its metadata has `source`, and, where they are
    given, `preprocessing` (the fields, as JSON) and `class_names` (a list, as JSON). A model with
    layers that this module does not know goes through tf2onnx.

    Args:
        model: a functional Keras model with one input, for images, in channels_last.
        path: the file to write.
        layout: of the file's input, and of its output if that is a map: "nhwc", as the model, or
        "nchw". opset: of ONNX' operators, 13 to 18. quantization: None; "float16": weights and
        arithmetic in 16 bits, input and output in float32; "int8": weights
            (a channel each) and activations in 8 bits, by ONNX Runtime's static quantiser as pairs
            of QuantizeLinear and DequantizeLinear; a softmax stays in float.
        representative_images: (N, H, W, C) to calibrate "int8" on, as the exported model takes
        them. gates: whether there is an output `gates/NAME` (batch, C) for each SE block, too;
        without a squeeze, its mean. images: (N, H, W, C) to compare on, as the exported model takes
        them; None makes seeded synthetic ones. preprocessing: a `Preprocessing` to put into the
        graph: the exported model then takes 0..255 RGB. class_names: the names of the classes, in
        the order of the model's output. overwrite: whether to replace what is at `path`.

    Returns:
        An `ExportReport`. Integer arithmetic has no fixed bound on its error: such files must be
        finite, and the report says how far they are off.

    Raises:
        ParityError: if the outputs are not within 1e-4 of the largest one, or 1e-2 with "float16",
        and further off
            than rounding moves the model's own; nothing is left at `path`.
        MissingExtraError: if onnx or onnxruntime are not installed, or tf2onnx where it is needed.
        ValueError, OSError: for a wrong argument, a path that exists or cannot be written.
    """
    onnx = require("onnx", "export")
    require("onnxruntime", "export")
    if layout not in LAYOUTS:
        raise ValueError(f"`layout` must be one of {LAYOUTS}. Received: layout={layout!r}")
    if not is_integer(opset) or opset not in OPSETS:
        raise ValueError(
            f"`opset` must be an integer from {OPSETS[0]} to {OPSETS[-1]}. Received: opset={opset!r}"
        )
    opset = int(opset)
    if not isinstance(quantization, str | None) or quantization not in QUANTIZATIONS:
        raise ValueError(
            f"`quantization` must be one of {tuple(QUANTIZATIONS)}. Received: quantization={quantization!r}"
        )
    if QUANTIZATIONS[quantization].calibrates != (representative_images is not None):
        raise ValueError(
            "`representative_images` calibrate 'int8', and nothing else. Received: "
            f"quantization={quantization!r}, representative_images of {type(representative_images)}"
        )
    check_exportable(model, preprocessing)
    class_names = checked_class_names(model, class_names)
    calibration = representative_images
    if calibration is not None:
        calibration = [
            laid_out(batch, layout)
            for batch in checked_images("representative_images", calibration, model)
        ]

    def write(model, target):
        proto = _proto(model, preprocessing, layout, opset, gates)
        if quantization == "float16":
            proto = _in_float16(proto)
        elif quantization == "int8":
            proto = _in_int8(proto, calibration, target)
        onnx.helper.set_model_props(proto, _properties(model, preprocessing, class_names))
        proto.producer_name, proto.producer_version = "keras_senet", __version__
        _check(proto, model)
        onnx.save(proto, str(target))

    return export(
        write,
        model,
        path,
        kind="onnx",
        quantization=quantization,
        images=images,
        preprocessing=preprocessing,
        overwrite=overwrite,
        precision=QUANTIZATIONS[quantization].precision,
        layout=layout,
    )


def _check(proto, model):
    """Raises ValueError for a graph that is not valid, as tf2onnx makes of operations that ONNX
    lacks.
    """
    onnx = require("onnx", "export")
    try:
        onnx.checker.check_model(proto, full_check=True)
    except onnx.checker.ValidationError as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{model.name!r} has something that ONNX has not: {reason}") from error


def _properties(model, preprocessing, class_names):
    found = {"source": f"keras_senet {__version__}, {model.name}"}
    if preprocessing is not None:
        found["preprocessing"] = json.dumps(dataclasses.asdict(preprocessing))
    if class_names is not None:
        found["class_names"] = json.dumps(class_names, ensure_ascii=False)
    return found


def _proto(model, preprocessing, layout, opset, gates):
    try:
        return _by_layers(model, preprocessing, layout, opset, gates)
    except UnsupportedLayerError as error:
        if gates:
            raise ValueError(f"`gates` cannot be written for {model.name!r}: {error}") from error
        return _by_tf2onnx(model, preprocessing, layout, opset)


def _by_layers(model, preprocessing, layout, opset, gates):
    check_supported(
        model
    )  # before `fold`, which copies layers, as those of other libraries may not allow
    from onnx import TensorProto

    names = output_names(model)
    graph = Graph(opset, names)
    given = (None, *image_shape(model))
    images = "images"
    if layout == "nhwc":
        images = graph.add("Transpose", images, perm=(0, 3, 1, 2), name="channels_first")
    if preprocessing is not None:
        for operator, value in (("Sub", preprocessing.mean), ("Div", preprocessing.std)):
            constant = graph.constant(np.reshape(value, (1, -1, 1, 1)), f"preprocessing/{operator}")
            images = graph.add(operator, images, constant, name=f"preprocessing/{operator.lower()}")
    if takes_integers(model):  # as Keras does with images of float32
        for kind in (TensorProto.INT32, TensorProto.FLOAT):
            images = graph.add("Cast", images, to=kind, name="integers")
    shapes = {}
    outputs = emit_model(graph, fold(model), Tensor(images, given))
    for name, output in zip(names, outputs, strict=True):
        result = output.name
        if len(output.shape) == 4 and layout == "nhwc":
            result = graph.add("Transpose", result, perm=(0, 2, 3, 1), name=f"{name}/channels_last")
        graph.result(result, name)
        shapes[name] = _dims(output.shape, layout, f"{name}_")
    if gates:
        shapes |= graph.gate_outputs()
    return graph.proto(model.name, {"images": _dims(given, layout)}, shapes)


def _dims(shape, layout, prefix=""):
    """A shape of Keras' in a layout, with names for the batch and for open sides."""
    if len(shape) != 4:
        return ["batch", *shape[1:]]
    height, width = (
        f"{prefix}{name}" if side is None else side
        for side, name in zip(shape[1:3], ("height", "width"), strict=True)
    )
    return (
        ["batch", height, width, shape[3]]
        if layout == "nhwc"
        else ["batch", shape[3], height, width]
    )


def _by_tf2onnx(model, preprocessing, layout, opset):
    check_tensorflow(f"ONNX of {model.name!r}, which has layers that tf2onnx must convert,")
    tf2onnx = require("tf2onnx", "export")
    content, tensors = frozen_graph(serving_function(model, preprocessing))
    names = output_names(model)
    is_map = {
        name: len(output.shape) == 4 for name, output in zip(names, model.outputs, strict=True)
    }
    channels_first = {
        "inputs_as_nchw": ["images"],
        "outputs_as_nchw": [name for name in names if is_map[name]],
    }
    with _without_advice():
        proto, _ = tf2onnx.convert.from_graph_def(
            content,
            name=model.name,
            input_names=[tensors["images"]],
            output_names=[tensors[name] for name in names],
            tensors_to_rename={tensor: name for name, tensor in tensors.items()},
            opset=opset,
            custom_op_handlers={"Erfc": (_convert_erfc, [])},
            **channels_first if layout == "nchw" else {},
        )
    ends = {"images": (None, *image_shape(model))}
    ends |= {name: output.shape for name, output in zip(names, model.outputs, strict=True)}
    for value in (*proto.graph.input, *proto.graph.output):
        _set_shape(
            value,
            _dims(ends[value.name], layout, "" if value.name == "images" else f"{value.name}_"),
        )
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
    """Holds back what TensorFlow logs on functions of its first version, which tf2onnx calls."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _set_shape(value, dims):
    """Gives an input or output of a graph these sizes and names."""
    shape = value.type.tensor_type.shape
    del shape.dim[:]
    for dim in dims:
        shape.dim.add(**{"dim_param" if isinstance(dim, str) else "dim_value": dim})


def _in_float16(proto):
    from onnxruntime.transformers.float16 import convert_float_to_float16

    proto = convert_float_to_float16(proto, keep_io_types=True)
    # It puts the conversion of the input last, and ONNX asks for nodes in the order of their use.
    nodes = sorted(proto.graph.node, key=lambda node: "images" not in node.input)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return proto


def _in_int8(proto, calibration, target):
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.images = (image for batch in calibration for image in batch)

        def get_next(self):
            image = next(self.images, None)
            return None if image is None else {"images": image[None]}

    # Both unsigned: with signed weights ONNX Runtime adds pairs of products in 16 bits on CPUs
    # without VNNI, and these overflow. A network trained on CIFAR-10 then agreed with itself for
    # 93% of the images, with these for 99%.
    options = {
        "activation_type": QuantType.QUInt8,
        "weight_type": QuantType.QUInt8,
        "per_channel": True,
    }
    # In 8 bits a probability is a multiple of 1/256: of a thousand classes nearly all would be 0,
    # or equal.
    options["nodes_to_exclude"] = [
        node.name for node in proto.graph.node if node.op_type == "Softmax"
    ]
    quantize_static(onnx.shape_inference.infer_shapes(proto), target, Reader(), **options)
    return onnx.load(str(target))
