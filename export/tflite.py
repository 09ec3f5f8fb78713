"""TFLite, for LiteRT on phones."""

import contextlib
import re
import tempfile
import warnings
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_senet.extras import require

from .conditioning import FLOAT16, FLOAT32, INTEGERS, Precision
from .gates import fix_idle_gates, gate_layers
from .graph import (
    check_exportable,
    check_tensorflow,
    checked_class_names,
    image_shape,
    is_of_any_size,
    is_taken,
    of_shape,
    own_sides,
    serving_function,
    with_sides,
    write_saved_model,
)
from .parity import checked_images, export
from .pools import with_average_pooling
from .tflite_metadata import with_metadata

SQUEEZE_OPS = ("mean", "avg_pool")
IO_DTYPES = {"float32": tf.float32, "int8": tf.int8, "uint8": tf.uint8, "int16": tf.int16}


class Quantization(NamedTuple):
    """One way to make a file smaller.

    io_dtypes    what its input and output may be
    calibrates   whether it needs images for the ranges of activations
    precision    what it may differ by
    operators    the set of TFLite's operators that it may use
    weights      the dtype of the weights, where it is not the one that TFLite chooses
    """

    io_dtypes: tuple[str, ...] = ("float32",)
    calibrates: bool = False
    precision: Precision = INTEGERS
    operators: tf.lite.OpsSet = tf.lite.OpsSet.TFLITE_BUILTINS
    weights: tf.DType | None = None


QUANTIZATIONS = {
    None: Quantization(precision=FLOAT32),
    "float16": Quantization(precision=FLOAT16, weights=tf.float16),
    "dynamic": Quantization(),
    "int8": Quantization(
        ("float32", "int8", "uint8"), calibrates=True, operators=tf.lite.OpsSet.TFLITE_BUILTINS_INT8
    ),
    "int16x8": Quantization(
        ("float32", "int16"),
        calibrates=True,
        operators=tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
    ),
}


def to_tflite(
    model,
    path,
    *,
    quantization=None,
    representative_images=None,
    io_dtype="float32",
    squeeze_op="mean",
    float_gates=False,
    input_size=None,
    images=None,
    preprocessing=None,
    class_names=None,
    overwrite=False,
):
    """Writes a TFLite file of built-in operators alone, run by LiteRT and compared with the model.

    Its signature maps `images` (1, H, W, C) to `predictions`; several outputs have the names that
    the model has for them, those of a dict or of layers. It computes in float32, or in integers,
    also where the model trains in mixed precision. Its metadata, which LiteRT's tools read, has the
    class names and what is known of the normalisation (`keras_senet.export.tflite_metadata`).

    Args:
        model: a functional Keras model with one input, for images, in channels_last.
        path: the file to write.
        quantization: None; "float16": weights in 16 bits, computed with in float32; "dynamic":
        weights in 8 bits,
            activations quantised as they come; "int8": weights (a channel each) and activations in
            8 bits; "int16x8": weights in 8 bits and activations in 16, exact and slow on a CPU.
        representative_images: (N, H, W, C) to calibrate the activations' ranges on, as the exported
        model takes
            them; a hundred of the training set are usual. Needed for "int8" and "int16x8".
        io_dtype: of the file's input and output: "float32"; with "int8" also "int8" or "uint8",
        with "int16x8" "int16". squeeze_op: what computes the means over the image: "mean", or
        "avg_pool" for accelerators that lack MEAN. float_gates: with "int8", whether the two
        convolutions and the sigmoid of each SE block stay in float32. They
            are a small part of the work; their results are rounded to 8 bits where they rescale the
            channels.
        input_size: of the file's images, (H, W) or a number for both, where the model takes images
        of any size; None
            is the size of its preprocessing.
        images: (N, H, W, C) to compare on, as the exported model takes them; None makes seeded
        synthetic ones. preprocessing: a `Preprocessing` to put into the graph: the exported model
        then takes 0..255 RGB. class_names: the names of the classes, in the order of the model's
        output. overwrite: whether to replace what is at `path`.

    Returns:
        An `ExportReport`. Integer arithmetic has no fixed bound on its error: such files must be
        finite, and the report says how far they are off.

    Raises:
        ParityError: if float outputs are not within 1e-4 of the largest one, or 1e-2 with
        "float16", and further off
            than rounding moves the model's own; nothing is left at `path`.
        MissingExtraError: if LiteRT is not installed.
        ValueError, OSError: for a wrong argument, another backend than TensorFlow, a path that
        exists or cannot be
            written.
    """
    require("ai_edge_litert.interpreter", "export")
    _check_arguments(quantization, representative_images, io_dtype, squeeze_op, float_gates)
    check_tensorflow("A TFLite file")
    check_exportable(model, preprocessing)
    class_names = checked_class_names(model, class_names)
    model = _of_one_size(model, input_size, preprocessing)
    chosen = QUANTIZATIONS[quantization]
    calibration = ()
    if chosen.calibrates:
        (calibration,) = checked_images("representative_images", representative_images, model)

    def write(model, target):
        if squeeze_op == "avg_pool":
            model = with_average_pooling(model)
        if chosen.calibrates and not float_gates:
            model = fix_idle_gates(model, preprocessing, calibration)
        in_float = gate_layers(model) if float_gates else ()
        content = _converted(
            model, preprocessing, chosen, calibration, IO_DTYPES[io_dtype], in_float
        )
        target.write_bytes(
            with_metadata(
                content, name=model.name, preprocessing=preprocessing, class_names=class_names
            )
        )

    return export(
        write,
        model,
        path,
        kind="tflite",
        quantization=quantization,
        images=images,
        preprocessing=preprocessing,
        overwrite=overwrite,
        precision=chosen.precision,
    )


def _of_one_size(model, input_size, preprocessing):
    """The model, for images of one size."""
    size = (input_size, input_size) if _is_integer(input_size) else input_size
    is_size = (
        isinstance(size, list | tuple)
        and len(size) == 2
        and all(_is_integer(n) and n > 0 for n in size)
    )
    if input_size is not None and not is_size:
        raise ValueError(
            "`input_size` must be (H, W), or a number of pixels for both, of at least 1. "
            f"Received: input_size={input_size!r}"
        )
    if not is_of_any_size(model):
        given = image_shape(model)[:2]
        if input_size is not None and tuple(size) != given:
            raise ValueError(
                f"`input_size` is for models that take images of any size; {model.name!r} takes {given}. "
                f"Received: input_size={input_size!r}"
            )
        return model
    size = size or own_sides(model, preprocessing)
    if size is None:
        raise ValueError(
            f"TFLite files take images of one size: pass `input_size`, such as 224 or (H, W), for {model.name!r}, "
            "which takes any"
        )
    shape = with_sides(model, [int(side) for side in size])
    if not is_taken(model, shape):
        raise ValueError(
            f"`input_size` must be a size that {model.name!r} takes. Received: {tuple(size)}"
        )
    return of_shape(model, shape)


def _is_integer(value):
    """Whether this is a whole number, NumPy's too."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _check_arguments(quantization, representative_images, io_dtype, squeeze_op, float_gates):
    if not isinstance(quantization, str | None) or quantization not in QUANTIZATIONS:
        accepted = ", ".join(map(repr, QUANTIZATIONS))
        raise ValueError(
            f"`quantization` must be one of {accepted}. Received: quantization={quantization!r}"
        )
    chosen = QUANTIZATIONS[quantization]
    if io_dtype not in chosen.io_dtypes:
        raise ValueError(
            f"With quantization={quantization!r}, `io_dtype` must be one of {chosen.io_dtypes}. "
            f"Received: io_dtype={io_dtype!r}"
        )
    if chosen.calibrates != (representative_images is not None):
        calibrated = " and ".join(
            repr(name) for name, each in QUANTIZATIONS.items() if each.calibrates
        )
        raise ValueError(
            f"`representative_images` calibrate {calibrated}, and nothing else. Received: "
            f"quantization={quantization!r}, representative_images of {type(representative_images)}"
        )
    if squeeze_op not in SQUEEZE_OPS:
        raise ValueError(
            f"`squeeze_op` must be one of {SQUEEZE_OPS}. Received: squeeze_op={squeeze_op!r}"
        )
    if float_gates and quantization != "int8":
        raise ValueError(
            f"`float_gates` is of quantization='int8'. Received: quantization={quantization!r}"
        )


def _converted(model, preprocessing, chosen, calibration, io_dtype, in_float):
    """The bytes of a TFLite file; `in_float` are names of layers that stay in float32."""
    # Through a SavedModel: converting a concrete function of a Keras model can leave variables
    # unfrozen.
    with (
        tempfile.TemporaryDirectory() as folder,
        warnings.catch_warnings(),
        _errors_in_a_line(model),
    ):
        # The converter's own calibrator uses the class that TensorFlow tells others to leave.
        warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter is deprecated")
        serve = serving_function(model, preprocessing, batch=1)
        write_saved_model(model, {"serving_default": serve}, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [chosen.operators]
        if chosen is not QUANTIZATIONS[None]:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if chosen.weights is not None:
            converter.target_spec.supported_types = [chosen.weights]
        if chosen.calibrates:
            converter.representative_dataset = lambda: (
                {"images": image[None]} for image in calibration
            )
            converter.inference_input_type = converter.inference_output_type = io_dtype
        if not in_float:
            return converter.convert()
        plain = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
        options = tf.lite.experimental.QuantizationDebugOptions(
            denylisted_nodes=_operations_of(in_float, plain)
        )
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=converter,
            debug_dataset=converter.representative_dataset,
            debug_options=options,
        )
        return debugger.get_nondebug_quantized_model()


@contextlib.contextmanager
def _errors_in_a_line(model):
    """Raises ValueError with the names of operations that TFLite lacks, for which the converter has
    a page.
    """
    from tensorflow.lite.python.convert_phase import ConverterError

    try:
        yield
    except ConverterError as error:
        lacking = dict.fromkeys(re.findall(r"'tf\.(\w+)' op is neither", str(error)))
        reason = ", ".join(lacking) or str(error).strip().splitlines()[0]
        raise ValueError(f"{model.name!r} has something that TFLite has not: {reason}") from error


def _operations_of(layer_names, content):
    """The operations of a float file that compute these layers, by the names of their outputs."""
    interpreter = require("ai_edge_litert.interpreter", "export").Interpreter(model_content=content)
    names = [tensor["name"] for tensor in interpreter.get_tensor_details()]
    return [
        name
        for name in names
        if any(f"/{layer}_" in name or f"/{layer}/" in name for layer in layer_names)
    ]
