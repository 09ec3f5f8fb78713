"""TFLite, for LiteRT on phones."""

import math
import tempfile
import warnings
from typing import NamedTuple

import tensorflow as tf

from keras_senet.extras import require

from .gates import fix_idle_gates
from .graph import check_exportable, serving_function, write_saved_model
from .parity import FLOAT_TOLERANCE, checked_images, export

IO_DTYPES = {"float32": tf.float32, "int8": tf.int8, "uint8": tf.uint8, "int16": tf.int16}
HALF_TOLERANCE = 1e-2  # relative; float16 has 11 bits


class Quantization(NamedTuple):
    """One way to make a file smaller.

    io_dtypes    what its input and output may be
    calibrates   whether it needs images for the ranges of activations
    tolerance    the largest relative error; integer arithmetic has no bound of its own
    operators    the set of TFLite's operators that it may use
    weights      the dtype of the weights, where it is not the one that TFLite chooses
    """

    io_dtypes: tuple[str, ...] = ("float32",)
    calibrates: bool = False
    tolerance: float = math.inf
    operators: tf.lite.OpsSet = tf.lite.OpsSet.TFLITE_BUILTINS
    weights: tf.DType | None = None


QUANTIZATIONS = {
    None: Quantization(tolerance=FLOAT_TOLERANCE),
    "float16": Quantization(tolerance=HALF_TOLERANCE, weights=tf.float16),
    "dynamic": Quantization(),
    "int8": Quantization(("float32", "int8", "uint8"), calibrates=True, operators=tf.lite.OpsSet.TFLITE_BUILTINS_INT8),
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
    images=None,
    preprocessing=None,
    overwrite=False,
):
    """Writes a TFLite file of built-in operators alone, run by LiteRT and compared with the model.

    Its signature maps `images` (1, H, W, C) to `predictions`. It computes in float32, or in integers, also where the
    model trains in mixed precision.

    Args:
        model: a functional Keras model with one input and one output, in channels_last.
        path: the file to write.
        quantization: None; "float16": weights in 16 bits, computed with in float32; "dynamic": weights in 8 bits,
            activations quantised as they come; "int8": weights (a channel each) and activations in 8 bits; "int16x8":
            weights in 8 bits and activations in 16, exact and slow on a CPU.
        representative_images: (N, H, W, C) to calibrate the activations' ranges on, as the exported model takes
            them; a hundred of the training set are usual. Needed for "int8" and "int16x8".
        io_dtype: of the file's input and output: "float32"; with "int8" also "int8" or "uint8", with "int16x8" "int16".
        images: (N, H, W, C) to compare on, as the exported model takes them; None makes seeded synthetic ones.
        preprocessing: a `Preprocessing` to put into the graph: the exported model then takes 0..255 RGB.
        overwrite: whether to replace what is at `path`.

    Returns:
        An `ExportReport`. Integer arithmetic has no fixed bound on its error: such files must be finite, and the
        report says how far they are off.

    Raises:
        ParityError: if float outputs are not within 1e-4 of the largest one, or 1e-2 with "float16"; nothing is left
            at `path`.
        MissingExtraError: if LiteRT is not installed.
        ValueError, OSError: for a wrong argument, a path that exists or cannot be written.
    """
    require("ai_edge_litert.interpreter", "export")
    if quantization not in QUANTIZATIONS:
        accepted = ", ".join(map(repr, QUANTIZATIONS))
        raise ValueError(f"`quantization` must be one of {accepted}. Received: quantization={quantization!r}")
    chosen = QUANTIZATIONS[quantization]
    if io_dtype not in chosen.io_dtypes:
        raise ValueError(
            f"With quantization={quantization!r}, `io_dtype` must be one of {chosen.io_dtypes}. "
            f"Received: io_dtype={io_dtype!r}"
        )
    if chosen.calibrates != (representative_images is not None):
        calibrated = " and ".join(repr(name) for name, each in QUANTIZATIONS.items() if each.calibrates)
        raise ValueError(
            f"`representative_images` calibrate {calibrated}, and nothing else. Received: "
            f"quantization={quantization!r}, representative_images of {type(representative_images)}"
        )
    check_exportable(model, preprocessing)
    calibration = checked_images("representative_images", representative_images, model) if chosen.calibrates else ()

    def write(model, target):
        source = fix_idle_gates(model, preprocessing, calibration) if chosen.calibrates else model
        with tempfile.TemporaryDirectory() as folder:
            # Through a SavedModel: converting a concrete function of a Keras model can leave variables unfrozen.
            serve = serving_function(source, preprocessing, batch=1)
            write_saved_model(source, {"serving_default": serve}, folder)
            converter = tf.lite.TFLiteConverter.from_saved_model(folder)
            converter.target_spec.supported_ops = [chosen.operators]
            if quantization is not None:
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            if chosen.weights is not None:
                converter.target_spec.supported_types = [chosen.weights]
            if chosen.calibrates:
                converter.representative_dataset = lambda: ({"images": image[None]} for image in calibration)
                converter.inference_input_type = converter.inference_output_type = IO_DTYPES[io_dtype]
            with warnings.catch_warnings():
                # The converter's own calibrator uses the class that TensorFlow tells others to leave.
                warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter is deprecated")
                target.write_bytes(converter.convert())

    return export(
        write,
        model,
        path,
        kind="tflite",
        quantization=quantization,
        images=images,
        preprocessing=preprocessing,
        overwrite=overwrite,
        tolerance=chosen.tolerance,
    )
