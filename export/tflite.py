"""TFLite, for LiteRT on phones."""

import math
import tempfile
import warnings

import tensorflow as tf

from keras_senet.extras import require

from .gates import fix_idle_gates
from .graph import check_exportable, serving_function, write_saved_model
from .parity import FLOAT_TOLERANCE, checked_images, export

QUANTIZATIONS = (None, "int8")
IO_DTYPES = {"float32": tf.float32, "int8": tf.int8, "uint8": tf.uint8}


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
        quantization: None, or "int8": weights (a channel each) and activations in 8 bits.
        representative_images: (N, H, W, C) to calibrate the activations' ranges on, as the exported model takes
            them; a hundred of the training set are usual. Needed for "int8".
        io_dtype: of the file's input and output: "float32"; with "int8" also "int8" or "uint8".
        images: (N, H, W, C) to compare on, as the exported model takes them; None makes seeded synthetic ones.
        preprocessing: a `Preprocessing` to put into the graph: the exported model then takes 0..255 RGB.
        overwrite: whether to replace what is at `path`.

    Returns:
        An `ExportReport`. Integer arithmetic has no fixed bound on its error: "int8" must be finite, and the
        report says how far it is off.

    Raises:
        ParityError: if float outputs are not within 1e-4 of the largest one; nothing is left at `path`.
        MissingExtraError: if LiteRT is not installed.
        ValueError, OSError: for a wrong argument, a path that exists or cannot be written.
    """
    require("ai_edge_litert.interpreter", "export")
    if quantization not in QUANTIZATIONS:
        raise ValueError(f"`quantization` must be one of {QUANTIZATIONS}. Received: quantization={quantization!r}")
    accepted = tuple(IO_DTYPES) if quantization == "int8" else ("float32",)
    if io_dtype not in accepted:
        raise ValueError(
            f"With quantization={quantization!r}, `io_dtype` must be one of {accepted}. Received: io_dtype={io_dtype!r}"
        )
    if (quantization == "int8") != (representative_images is not None):
        raise ValueError(
            "`representative_images` calibrate quantization='int8', and nothing else. Received: "
            f"quantization={quantization!r}, representative_images of {type(representative_images)}"
        )
    check_exportable(model, preprocessing)
    calibration = checked_images("representative_images", representative_images, model) if quantization else ()

    def write(model, target):
        source = model if quantization is None else fix_idle_gates(model, preprocessing, calibration)
        with tempfile.TemporaryDirectory() as folder:
            # Through a SavedModel: converting a concrete function of a Keras model can leave variables unfrozen.
            serve = serving_function(source, preprocessing, batch=1)
            write_saved_model(source, {"serving_default": serve}, folder)
            converter = tf.lite.TFLiteConverter.from_saved_model(folder)
            if quantization == "int8":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
                converter.representative_dataset = lambda: ({"images": image[None]} for image in calibration)
                converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
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
        tolerance=FLOAT_TOLERANCE if quantization is None else math.inf,
    )
