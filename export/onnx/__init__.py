"""ONNX, for ONNX Runtime and whatever reads it."""

from dataclasses import dataclass
from typing import ClassVar

import keras

from keras_senet.extras import require
from keras_senet.fields import check_choice, check_field, check_flag, is_integer
from keras_senet.layers.data_format import channel_axis

from ..conditioning import FLOAT16, FLOAT32, INTEGERS
from ..formats import (
    Common,
    FormatOptions,
    Quantization,
    check_float_layers,
    check_layer_names,
    export_model,
)
from ..parity import ExportReport

LAYOUTS = ("nhwc", "nchw")
OPSETS = range(13, 19)
QUANTIZATIONS: dict[str | None, Quantization] = {
    None: Quantization(FLOAT32),
    "float16": Quantization(FLOAT16),
    "int8": Quantization(INTEGERS, calibrates=True),
}


@dataclass(frozen=True)
class ONNX(FormatOptions):
    """Options of `to_onnx`, where they are described."""

    layout: str = "nhwc"
    opset: int = 18
    quantization: str | None = None
    gates: bool = False
    float_layers: tuple[str, ...] = ()

    kind: ClassVar[str] = "onnx"
    QUANTIZATIONS: ClassVar = QUANTIZATIONS

    def __post_init__(self):
        check_choice("layout", self.layout, LAYOUTS)
        holds = is_integer(self.opset) and self.opset in OPSETS
        check_field(self, "opset", holds, f"an integer from {OPSETS[0]} to {OPSETS[-1]}")
        object.__setattr__(self, "opset", int(self.opset))
        check_flag("gates", self.gates)
        self.check_quantization()
        object.__setattr__(self, "float_layers", check_float_layers(self))

    def adapt(self, model, common):
        if channel_axis() != -1:
            raise ValueError(
                "An ONNX file needs a model in channels_last, of which layout='nchw' makes one in "
                "channels first. Received: Keras' image_data_format 'channels_first'"
            )
        check_layer_names(model, self.float_layers)
        return model

    def check_installed(self):
        require("onnx", "export")
        require("onnxruntime", "export")

    def write(self, model, target, common):
        from .writer import write_onnx

        write_onnx(model, target, self, common)

    def write_detector(self, detector, canvases, about, target):
        from ..detector.onnx import write_onnx

        write_onnx(detector, canvases, about, target)


def to_onnx(
    model: keras.Model,
    path,
    *,
    layout: str = "nhwc",
    opset: int = 18,
    quantization: str | None = None,
    representative_images=None,
    gates: bool = False,
    float_layers=(),
    images=None,
    preprocessing=None,
    class_names=None,
    overwrite: bool = False,
    evaluation=None,
    canvas=None,
) -> ExportReport:
    """Writes an ONNX file from `images` to `predictions` with a dynamic `batch`, run by ONNX
    Runtime and compared.

    Several outputs have the names that the model has for them, those of a dict or of layers.
    `height` and `width` are dynamic, too, where the model leaves them open.

    It computes in float32, also where the model trains in mixed precision, on channels first, with
    batch normalisation inside the convolutions. Its metadata has `source`, and, where they are
    given, `preprocessing` (the fields, as JSON) and `class_names` (a list, as JSON). A model with
    layers that this module does not know goes through tf2onnx.

    The file of a `Detector` maps `images`, float32 (1, H, W, C), normalised and padded with zeros,
    and `size`, int32 (2,), their height and width without that border, to `boxes` (most, 4), x1,
    y1, x2, y2 in pixels of the canvas, `scores`, `classes` and `count`; it needs opset 18.

    Args:
        model: a functional Keras model with one input, for images, in channels_last, or a
            `Detector`.
        path: the file to write.
        layout: of the file's input, and of its output if that is a map: "nhwc", as the model, or
            "nchw".
        opset: of ONNX' operators, 13 to 18.
        quantization: None; "float16": weights and arithmetic in 16 bits, input and output in
            float32; "int8": weights (per channel) and activations in 8 bits, by ONNX Runtime's
            static quantiser as pairs of QuantizeLinear and DequantizeLinear; a softmax stays in
            float.
        representative_images: (N, H, W, C) to calibrate "int8" on, as the exported model takes
            them.
        gates: whether there is an output `gates/NAME` (batch, C) for each SE block, too; without a
            squeeze, its mean. Where a name comes again, as of a block that is called twice, it is
            `gates/NAME_2`.
        float_layers: with "int8", names of layers that stay in float32: those that `rank_layers`
            names where the file loses accuracy.
        images, preprocessing, class_names, overwrite, evaluation, canvas: as `Common` has them.

    Returns:
        An `ExportReport`. Integer arithmetic has no fixed bound on its error: such files must be
        finite, and the report says how far they are off.

    Raises:
        ParityError: if the outputs are not within 1e-4 of the largest one, or 1e-2 with "float16",
            and further off than rounding moves the model's own, or another detection than the
            `Detector` makes; nothing is left at `path`.
        MissingExtraError: if onnx or onnxruntime are not installed, or tf2onnx where it is needed.
        ValueError, OSError: for a wrong argument, a path that exists or cannot be written.
    """
    common = Common(
        images, preprocessing, class_names, overwrite, representative_images, evaluation, canvas
    )
    return export_model(model, path, ONNX(layout, opset, quantization, gates, float_layers), common)
