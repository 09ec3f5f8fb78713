"""TFLite, for LiteRT on phones."""

from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np

from keras_senet.extras import require
from keras_senet.fields import check_choice, check_flag, is_integer
from keras_senet.graphs import has_logits
from keras_senet.layers.data_format import image_shape

from .conditioning import FLOAT16, FLOAT32, INTEGERS
from .formats import (
    Common,
    FormatOptions,
    Quantization,
    check_float_layers,
    check_layer_names,
    export_model,
)
from .gates import fix_constant_gates
from .model import (
    check_tensorflow,
    is_of_any_size,
    is_taken,
    of_shape,
    own_sides,
    with_sides,
)
from .parity import ExportReport
from .pools import with_average_pooling
from .tflite_metadata import with_metadata

SQUEEZE_OPS = ("mean", "avg_pool")
QUANTIZATIONS: dict[str | None, Quantization] = {
    None: Quantization(FLOAT32),
    "float16": Quantization(FLOAT16),
    "dynamic": Quantization(INTEGERS),
    "int8": Quantization(INTEGERS, calibrates=True, io_dtypes=("float32", "int8", "uint8")),
    "int16x8": Quantization(INTEGERS, calibrates=True, io_dtypes=("float32", "int16")),
}


@dataclass(frozen=True)
class TFLite(FormatOptions):
    """Options of `to_tflite`, where they are described."""

    quantization: str | None = None
    io_dtype: str = "float32"
    squeeze_op: str = "mean"
    float_gates: bool = False
    input_size: Any = None
    float_layers: tuple[str, ...] = ()

    kind: ClassVar[str] = "tflite"
    QUANTIZATIONS: ClassVar = QUANTIZATIONS
    DETECTOR_QUANTIZATIONS: ClassVar = (None, "float16")

    def __post_init__(self):
        self.check_quantization()
        if self.io_dtype not in self.chosen.io_dtypes:
            raise ValueError(
                f"With quantization={self.quantization!r}, `io_dtype` must be one of "
                f"{self.chosen.io_dtypes}. Received: io_dtype={self.io_dtype!r}"
            )
        check_choice("squeeze_op", self.squeeze_op, SQUEEZE_OPS)
        check_flag("float_gates", self.float_gates)
        if self.float_gates and self.quantization != "int8":
            raise ValueError(
                "`float_gates` must be False unless quantization='int8'. Received: "
                f"float_gates={self.float_gates!r}, quantization={self.quantization!r}"
            )
        _read_size(self.input_size)
        object.__setattr__(self, "float_layers", check_float_layers(self))

    def check_installed(self):
        require("ai_edge_litert.interpreter", "export")
        check_tensorflow("A TFLite file")

    def adapt(self, model, common):
        check_layer_names(model, self.float_layers)
        return _fix_size(model, self.input_size, common.preprocessing)

    def write(self, model, target, common):
        from .serving import serving_function
        from .tflite_converter import convert

        if self.squeeze_op == "avg_pool":
            model = with_average_pooling(model)
        if self.chosen.calibrates:
            (images,) = common.representative_images
            if not self.float_gates:
                model = fix_constant_gates(model, common.preprocessing, images)
        serve = serving_function(model, common.preprocessing, batch=1)
        content = convert(model, serve, self, common)
        known = {"preprocessing": common.preprocessing, "class_names": common.class_names}
        logits = has_logits(model)
        target.write_bytes(with_metadata(content, name=model.name, logits=logits, **known))

    def write_detector(self, detector, canvases, about, target):
        from .detector.tflite import write_tflite

        write_tflite(detector, canvases, self, about, target)


def to_tflite(
    model: keras.Model,
    path,
    *,
    quantization: str | None = None,
    representative_images=None,
    io_dtype: str = "float32",
    squeeze_op: str = "mean",
    float_gates: bool = False,
    float_layers=(),
    input_size=None,
    images=None,
    preprocessing=None,
    class_names=None,
    overwrite: bool = False,
    evaluation=None,
    canvas=None,
) -> ExportReport:
    """Writes a TFLite file of built-in operators only, run by LiteRT and compared with the model.

    Its signature maps `images` (1, H, W, C) to `predictions`; several outputs have the names that
    the model has for them, those of a dict or of layers. It computes in float32, or in integers,
    also where the model trains in mixed precision. Its metadata, which LiteRT's tools read, has the
    class names and what is known of the normalisation (`keras_senet.export.tflite_metadata`).

    The file of a `Detector` maps `images`, float32 (1, H, W, C), normalised and padded with zeros,
    and `size`, int32 (2,), their height and width without that border, to `boxes` (most, 4), x1,
    y1, x2, y2 in pixels of the canvas, `classes`, `scores` and `count`, in this order.

    Args:
        model: a functional Keras model with one input, for images, in channels_last, or a
            `Detector`.
        path: the file to write.
        quantization: None; "float16": weights in 16 bits, computed with in float32; "dynamic":
            weights in 8 bits, activations quantised as they come; "int8": weights (per channel) and
            activations in 8 bits; "int16x8": weights in 8 bits and activations in 16, exact and
            slow on a CPU.
        representative_images: (N, H, W, C) to calibrate the activations' ranges on, as the exported
            model takes them; a hundred of the training set are usual. Needed for "int8" and
            "int16x8".
        io_dtype: of the file's input and output: "float32"; with "int8" also "int8" or "uint8",
            with "int16x8" "int16".
        squeeze_op: what computes the means over the image: "mean", or "avg_pool" for accelerators
            that lack MEAN.
        float_gates: with "int8", whether the two convolutions and the sigmoid of each SE block stay
            in float32. They are a small fraction of the work; their results are rounded to 8 bits
            where they rescale the channels.
        float_layers: with "int8", names of layers that stay in float32: those that `rank_layers`
            names where the file loses accuracy.
        input_size: of the file's images, (H, W) or a number for both, where the model takes images
            of any size; None is the size of its preprocessing.
        images, preprocessing, class_names, overwrite, evaluation, canvas: as `Common` has them.

    Returns:
        An `ExportReport`. Integer arithmetic has no fixed bound on its error: such files must be
        finite, and the report says how far they are off.

    Raises:
        ParityError: if float outputs are not within 1e-4 of the largest one, or 1e-2 with
            "float16", and further off than rounding moves the model's own, or another detection
            than the `Detector` makes; nothing is left at `path`.
        MissingExtraError: if LiteRT is not installed.
        ValueError, OSError: for a wrong argument, another backend than TensorFlow, a path that
            exists or cannot be written.
    """
    options = TFLite(quantization, io_dtype, squeeze_op, float_gates, input_size, float_layers)
    common = Common(
        images, preprocessing, class_names, overwrite, representative_images, evaluation, canvas
    )
    return export_model(model, path, options, common)


def _read_size(value):
    """(H, W) of an `input_size`, or None."""
    if value is None:
        return None
    size = (value, value) if is_integer(value) else value
    is_pair = isinstance(size, list | tuple | np.ndarray) and len(size) == 2
    if not is_pair or not all(is_integer(side) and side > 0 for side in size):
        raise ValueError(
            "`input_size` must be (H, W), or a number of pixels for both, of at least 1. "
            f"Received: input_size={value!r}"
        )
    return tuple(map(int, size))


def _fix_size(model, input_size, preprocessing):
    size = _read_size(input_size)
    if not is_of_any_size(model):
        given = image_shape(model.inputs[0])[:2]
        if size not in (None, given):
            raise ValueError(
                f"`input_size` is for models that take images of any size; {model.name!r} takes "
                f"{given}. Received: input_size={input_size!r}"
            )
        return model
    size = size or own_sides(model, preprocessing)
    if size is None:
        raise ValueError(
            "TFLite files take images of one size: pass `input_size`, such as 224 or (H, W), for "
            f"{model.name!r}, which takes any"
        )
    shape = with_sides(model, [int(side) for side in size])
    if not is_taken(model, shape):
        raise ValueError(
            f"`input_size` must be a size that {model.name!r} takes. Received: {tuple(size)}"
        )
    return of_shape(model, shape)
