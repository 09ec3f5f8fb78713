"""ONNX, for ONNX Runtime and whatever reads it."""

import dataclasses
import json
import math
from typing import NamedTuple

import numpy as np

from keras_senet.extras import require
from keras_senet.fields import is_integer
from keras_senet_cli import __version__

from .folding import fold
from .graph import check_exportable, check_tensorflow, checked_class_names, image_shape, serving_function
from .onnx_graph import Graph, Tensor, UnsupportedLayerError, check_supported, emit_model
from .parity import FLOAT_TOLERANCE, HALF_TOLERANCE, checked_images, export, laid_out

LAYOUTS = ("nhwc", "nchw")
OPSETS = range(13, 19)


class Quantization(NamedTuple):
    """One way to make a file smaller: its largest relative error, and whether it is calibrated on images."""

    tolerance: float
    calibrates: bool = False


QUANTIZATIONS = {
    None: Quantization(FLOAT_TOLERANCE),
    "float16": Quantization(HALF_TOLERANCE),
    "int8": Quantization(math.inf, calibrates=True),
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
    """Writes an ONNX file from `images` to `predictions` with a dynamic `batch`, run by ONNX Runtime and compared.

    It computes in float32, also where the model trains in mixed precision, on channels first, with batch normalisation
    inside the convolutions. Its metadata has `source`, and, where they are given, `preprocessing` (the fields, as JSON)
    and `class_names` (a list, as JSON). A model with layers that this module does not know goes through tf2onnx.

    Args:
        model: a functional Keras model with one input and one output, in channels_last.
        path: the file to write.
        layout: of the file's input, and of its output if that is a map: "nhwc", as the model, or "nchw".
        opset: of ONNX' operators, 13 to 18.
        quantization: None; "float16": weights and arithmetic in 16 bits, input and output in float32; "int8": weights
            (a channel each) and activations in 8 bits, by ONNX Runtime's static quantiser as pairs of QuantizeLinear
            and DequantizeLinear; a softmax stays in float.
        representative_images: (N, H, W, C) to calibrate "int8" on, as the exported model takes them.
        gates: whether there is an output `gates/NAME` (batch, C) for each SE block, too; without a squeeze, its mean.
        images: (N, H, W, C) to compare on, as the exported model takes them; None makes seeded synthetic ones.
        preprocessing: a `Preprocessing` to put into the graph: the exported model then takes 0..255 RGB.
        class_names: the names of the classes, in the order of the model's output.
        overwrite: whether to replace what is at `path`.

    Returns:
        An `ExportReport`. Integer arithmetic has no fixed bound on its error: such files must be finite, and the
        report says how far they are off.

    Raises:
        ParityError: if the outputs are not within 1e-4 of the largest one, or 1e-2 with "float16"; nothing is left at
            `path`.
        MissingExtraError: if onnx or onnxruntime are not installed, or tf2onnx where it is needed.
        ValueError, OSError: for a wrong argument, a path that exists or cannot be written.
    """
    onnx = require("onnx", "export")
    require("onnxruntime", "export")
    if layout not in LAYOUTS:
        raise ValueError(f"`layout` must be one of {LAYOUTS}. Received: layout={layout!r}")
    if not is_integer(opset) or opset not in OPSETS:
        raise ValueError(f"`opset` must be an integer from {OPSETS[0]} to {OPSETS[-1]}. Received: opset={opset!r}")
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
        calibration = laid_out(checked_images("representative_images", calibration, model), layout)

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
        tolerance=QUANTIZATIONS[quantization].tolerance,
        layout=layout,
    )


def _check(proto, model):
    """Raises ValueError for a graph that is not valid, as tf2onnx makes of operations that ONNX lacks."""
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
    check_supported(model)  # before `fold`, which copies layers, as those of other libraries may not allow
    graph = Graph(opset)
    height, width, channels = image_shape(model)
    name = "images"
    if layout == "nhwc":
        name = graph.add("Transpose", name, perm=(0, 3, 1, 2), name="channels_first")
    if preprocessing is not None:
        for operator, value in (("Sub", preprocessing.mean), ("Div", preprocessing.std)):
            constant = graph.constant(np.reshape(value, (1, -1, 1, 1)), f"preprocessing/{operator}")
            name = graph.add(operator, name, constant, name=f"preprocessing/{operator.lower()}")
    output = emit_model(graph, fold(model), Tensor(name, (None, height, width, channels)))
    result = output.name
    if len(output.shape) == 4 and layout == "nhwc":
        result = graph.add("Transpose", result, perm=(0, 2, 3, 1), name="channels_last")
    graph.result(result, "predictions")
    shapes = {"predictions": _dims(output.shape, layout)}
    if gates:
        shapes |= graph.gate_outputs()
    return graph.proto(model.name, {"images": _dims((None, height, width, channels), layout)}, shapes)


def _dims(shape, layout):
    """A shape of Keras' as ONNX has it, with the dynamic batch's name."""
    rest = shape[1:] if layout == "nhwc" or len(shape) != 4 else (shape[3], *shape[1:3])
    return ["batch", *rest]


def _by_tf2onnx(model, preprocessing, layout, opset):
    check_tensorflow(f"ONNX of {model.name!r}, which has layers that tf2onnx must convert,")
    tf2onnx = require("tf2onnx", "export")
    serve = serving_function(model, preprocessing)
    maps = ["predictions"] if len(model.outputs[0].shape) == 4 else []
    channels_first = {"inputs_as_nchw": ["images"], "outputs_as_nchw": maps} if layout == "nchw" else {}
    proto, _ = tf2onnx.convert.from_function(
        serve, input_signature=serve.input_signature, opset=opset, **channels_first
    )
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return proto


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
            self.images = iter(calibration)

        def get_next(self):
            image = next(self.images, None)
            return None if image is None else {"images": image[None]}

    # Both unsigned: with signed weights ONNX Runtime adds pairs of products in 16 bits on CPUs without VNNI, and these
    # overflow. A network trained on CIFAR-10 then agreed with itself for 93% of the images, with these for 99%.
    options = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QUInt8, "per_channel": True}
    # In 8 bits a probability is a multiple of 1/256: of a thousand classes nearly all would be 0, or equal.
    options["nodes_to_exclude"] = [node.name for node in proto.graph.node if node.op_type == "Softmax"]
    quantize_static(onnx.shape_inference.infer_shapes(proto), target, Reader(), **options)
    return onnx.load(str(target))
