"""The bytes of a TFLite file, by TensorFlow's converter."""

import contextlib
import re
import tempfile
import warnings
from collections.abc import Collection
from typing import Any

import keras
import tensorflow as tf

from keras_senet.extras import require
from keras_senet.graphs import flat_layers

from .formats import names_within
from .gates import gate_layers
from .serving import write_frozen_model

INT16X8 = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
OPERATORS = {"int8": tf.lite.OpsSet.TFLITE_BUILTINS_INT8, "int16x8": INT16X8}


def convert(model, serve, options, common) -> bytes:
    """The file's bytes, by the `TFLite` options and the `Common` arguments, of a tf.function of
    the model's.

    Raises:
        ValueError: for a model with something that TFLite lacks.
    """
    # Through a SavedModel, whose signature the file has, without variables: converting a concrete
    # function of a Keras model can leave them unfrozen.
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), _short_errors(model):
        # The converter's own calibrator uses the class that TensorFlow tells others to leave.
        warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter is deprecated")
        write_frozen_model(serve, folder)
        converter = _make_converter(folder, options, common)
        names = [*options.float_layers, *(gate_layers(model) if options.float_gates else ())]
        if not names:
            return converter.convert()
        plain: Any = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
        return _with_float_layers(converter, find_operations(model, names, plain))


def _make_converter(folder, options, common) -> Any:
    builtins = tf.lite.OpsSet.TFLITE_BUILTINS
    converter: Any = tf.lite.TFLiteConverter.from_saved_model(folder)
    converter.target_spec.supported_ops = [OPERATORS.get(options.quantization, builtins)]
    if options.quantization is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if options.quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if options.chosen.calibrates:
        (images,) = common.representative_images
        converter.representative_dataset = lambda: ({"images": image[None]} for image in images)
        dtype = tf.dtypes.as_dtype(options.io_dtype)
        converter.inference_input_type = converter.inference_output_type = dtype
    return converter


def _with_float_layers(converter, operations):
    """The converter's file with some operations in float32."""
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_nodes=operations)
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=converter.representative_dataset, debug_options=options
    )
    return debugger.get_nondebug_quantized_model()


@contextlib.contextmanager
def _short_errors(model):
    """Raises ValueError with the operations that TFLite lacks, in place of the converter's page."""
    from tensorflow.lite.python.convert_phase import ConverterError

    try:
        yield
    except ConverterError as error:
        lacking = dict.fromkeys(re.findall(r"'tf\.(\w+)' op is neither", str(error)))
        reason = ", ".join(lacking) or str(error).strip().splitlines()[0]
        raise ValueError(f"{model.name!r} has something that TFLite has not: {reason}") from error


def find_operations(model: keras.Model, names: Collection[str], content: bytes) -> list[str]:
    """The operations of a float file that compute these layers of a model and those within them, by
    the names of their outputs.

    These are paths through the layers' names, to which TensorFlow may have added a number each; of
    operations in one there are several, with semicolons.
    """
    interpreter = require("ai_edge_litert.interpreter", "export").Interpreter(model_content=content)
    paths = {
        tensor["name"]: re.split("[/;]", tensor["name"])
        for tensor in interpreter.get_tensor_details()
    }
    known = {layer.name for layer in flat_layers(model)}
    parts = {part for path in paths.values() for part in path}
    is_numbered = any(_without_number(part) in known for part in parts - known)
    wanted = names_within(model, names)
    return [
        name
        for name, path in paths.items()
        if any((_without_number(part) if is_numbered else part) in wanted for part in path)
    ]


def _without_number(part):
    return re.sub(r"_\d+$", "", part)
