"""Export options are data: they compare, print and refuse wrong values; to_* pass them on."""

import dataclasses

import keras
import numpy as np
import pytest

import keras_senet
from keras_senet import export

IMAGES = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = keras_senet.SqueezeExcite(2)(keras.layers.Conv2D(4, 3)(inputs))
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x), name="small")


@pytest.mark.parametrize("options", [export.SavedModel, export.TFLite, export.ONNX])
def test_options_are_frozen_and_compare(options):
    assert options() == options()
    (field, *_) = dataclasses.fields(options)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(options(), field.name, None)


def test_they_print_their_fields():
    text = "ONNX(layout='nchw', opset=13, quantization=None, gates=False, float_layers=())"
    assert repr(export.ONNX(layout="nchw", opset=np.int64(13))) == text


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: export.TFLite(quantization="int4"), "`quantization` must be one of.*'int4'"),
        (lambda: export.TFLite(io_dtype="int8"), "`io_dtype` must be one of.*io_dtype='int8'"),
        (lambda: export.TFLite(squeeze_op="max"), "`squeeze_op` must be one of.*'max'"),
        (lambda: export.TFLite(float_gates=True), "`float_gates` must be False unless.*None"),
        (lambda: export.TFLite(input_size=(8, 0)), r"`input_size` must be.*\(8, 0\)"),
        (lambda: export.ONNX(opset=12), "`opset` must be.*opset=12"),
        (lambda: export.ONNX(layout="hwc"), "`layout` must be one of.*'hwc'"),
        (lambda: export.ONNX(quantization="dynamic"), "`quantization` must be.*'dynamic'"),
        (lambda: export.SavedModel(features="all"), "`features` must be True or False.*'all'"),
    ],
)
def test_a_wrong_value_is_refused_without_a_model(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("write", "options", "arguments"),
    [
        (export.to_onnx, export.ONNX("nchw", 13), {"layout": "nchw", "opset": 13}),
        (export.to_tflite, export.TFLite("float16"), {"quantization": "float16"}),
    ],
)
def test_the_functions_write_what_the_options_say(write, options, arguments, model, tmp_path):
    names = list("abcd")
    write(model, tmp_path / "named", class_names=names, **arguments)
    report = export.export_model(
        model, tmp_path / "given", options, export.Common(class_names=names)
    )
    assert (tmp_path / "named").read_bytes() == (tmp_path / "given").read_bytes()
    assert (report.format, report.quantization) == (options.kind, options.quantization)


@pytest.mark.parametrize("options", [export.SavedModel(), export.TFLite(), export.ONNX()])
def test_images_to_calibrate_on_are_refused_where_nothing_calibrates(options, model, tmp_path):
    common = export.Common(representative_images=IMAGES)
    with pytest.raises(ValueError, match="`representative_images` must be None with quantization"):
        export.export_model(model, tmp_path / "file", options, common)
    assert not list(tmp_path.iterdir())
