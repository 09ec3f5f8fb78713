"""ONNX, for ONNX Runtime and whatever reads it."""

from keras_senet.extras import require

from .graph import serving_function
from .parity import FLOAT_TOLERANCE, export

LAYOUTS = ("nhwc", "nchw")
OPSETS = range(13, 19)


def to_onnx(model, path, *, layout="nhwc", opset=18, images=None, preprocessing=None, overwrite=False):
    """Writes an ONNX file from `images` to `predictions` with a dynamic `batch`, run by ONNX Runtime and compared.

    It computes in float32, also where the model trains in mixed precision.

    Args:
        model: a functional Keras model with one input and one output, in channels_last.
        path: the file to write.
        layout: of the file's input: "nhwc", as the model, or "nchw".
        opset: of ONNX' operators, 13 to 18.
        images: (N, H, W, C) to compare on, as the model takes them; None makes seeded synthetic ones.
        preprocessing: a `Preprocessing` to put into the graph: the exported model then takes 0..255 RGB.
        overwrite: whether to replace what is at `path`.

    Returns:
        An `ExportReport`.

    Raises:
        ParityError: if the outputs are not within 1e-4 of the largest one; nothing is left at `path`.
        MissingExtraError: if tf2onnx, onnx or onnxruntime are not installed.
        ValueError, OSError: for a wrong argument, a path that exists or cannot be written.
    """
    tf2onnx = require("tf2onnx", "export")
    onnx = require("onnx", "export")
    require("onnxruntime", "export")
    if layout not in LAYOUTS:
        raise ValueError(f"`layout` must be one of {LAYOUTS}. Received: layout={layout!r}")
    if not isinstance(opset, int) or opset not in OPSETS:
        raise ValueError(f"`opset` must be an integer from {OPSETS[0]} to {OPSETS[-1]}. Received: opset={opset!r}")

    def write(model, target):
        serve = serving_function(model, preprocessing)
        proto, _ = tf2onnx.convert.from_function(
            serve,
            input_signature=serve.input_signature,
            opset=opset,
            inputs_as_nchw=["images"] if layout == "nchw" else None,
        )
        for value in (*proto.graph.input, *proto.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
        onnx.checker.check_model(proto, full_check=True)
        onnx.save(proto, str(target))

    return export(
        write,
        model,
        path,
        kind="onnx",
        quantization=None,
        images=images,
        preprocessing=preprocessing,
        overwrite=overwrite,
        tolerance=FLOAT_TOLERANCE,
        layout=layout,
    )
