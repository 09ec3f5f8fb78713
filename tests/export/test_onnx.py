"""What is in an ONNX file: its graph, its metadata, what each layer becomes, and the smaller kinds
of file.
"""

import json
from collections import Counter
from unittest import mock

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import shallow
from keras import layers, ops
from settled import network
from tiny import TINY

import keras_senet
from keras_senet import analysis, export
from keras_senet.export.onnx import writer
from keras_senet.export.onnx.graph import UnsupportedLayerError
from keras_senet.layers import PadChannels, ShakeShake, ShuffleChannels
from keras_senet.models.resnet import ResNet, SmallResNet, resnext
from keras_senet.se import GATES, SE

RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def model():
    return network()


def operators(path):
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def run(path, images):
    session = onnxruntime.InferenceSession(str(path))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": images}), strict=True))


@pytest.mark.parametrize("spec", [SmallResNet((1, 1)), ResNet((1, 1)), resnext((1, 1))])
@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_the_graph_is_as_small_as_it_can_be(spec, layout, tmp_path):
    """No batch normalisation, no padding of its own, and one transposition, of an input that needs
    it.
    """
    export.to_onnx(network(spec), tmp_path / "file", layout=layout)
    found = operators(tmp_path / "file")
    assert found["Transpose"] == (1 if layout == "nhwc" else 0)
    assert not {"BatchNormalization", "Pad", "Reshape", "Cast", "Identity", "Unsqueeze"} & set(
        found
    )
    assert found["Conv"] > 0


@pytest.mark.parametrize(
    ("se", "pooled"),
    [
        (SE(), 64),  # the input of the last 1x1 convolution, not its 256 outputs
        (SE(use_bias=False), 64),
        (SE(squeeze="max"), 256),
        (SE(position="post"), 256),
        (SE(position="conv3x3"), 64),
    ],
)
def test_the_mean_of_a_1x1_convolution_is_taken_before_it(se, pooled, tmp_path):
    model = network(ResNet((1, 1), se=se))
    export.to_onnx(model, tmp_path / "file", gates=True)  # runs the file beside Keras
    graph = onnx.load(tmp_path / "file").graph
    shapes = {constant.name: tuple(constant.dims) for constant in graph.initializer}
    reduce = next(node for node in graph.node if node.name == "stage2_block1_se_reduce")
    assert shapes[reduce.input[1]][1] == pooled


def test_whole_networks_have_no_stray_operators(tmp_path):
    constructor = TINY["shufflenet"].constructor
    report = export.to_onnx(constructor(weights=None, include_top=False), tmp_path / "file")
    found = operators(tmp_path / "file")
    assert (
        found["Transpose"] == 1 + found["Reshape"] // 2 + 1
    )  # the input's, a shuffle's, and the result's
    assert not {"BatchNormalization", "Pad"} & set(found)
    assert report.relative_error <= 1e-4


def test_metadata(model, tmp_path):
    names = ["déjà vu", "b", *"cdefghij"]
    preprocessing = keras_senet.Preprocessing.scaled(32)
    export.to_onnx(model, tmp_path / "file", preprocessing=preprocessing, class_names=names)
    found = onnxruntime.InferenceSession(str(tmp_path / "file")).get_modelmeta()
    assert found.producer_name == "keras_senet"
    properties = found.custom_metadata_map
    assert json.loads(properties["class_names"]) == names
    fields = json.loads(properties["preprocessing"])
    assert (
        keras_senet.Preprocessing(**fields | {n: tuple(fields[n]) for n in ("mean", "std")})
        == preprocessing
    )
    assert properties["source"] == f"keras_senet {keras_senet.__version__}, tiny"
    export.to_onnx(model, tmp_path / "plain")
    assert set(
        onnxruntime.InferenceSession(str(tmp_path / "plain")).get_modelmeta().custom_metadata_map
    ) == {"source"}


@pytest.mark.parametrize("squeeze", ["avg", "max", None])
def test_gates_are_outputs(squeeze, tmp_path):
    model = network(SmallResNet((1, 1), se=SE(squeeze=squeeze, reduction=2)))
    export.to_onnx(model, tmp_path / "file", gates=True)
    images = RANDOM.normal(size=(3, 32, 32, 3)).astype("float32")
    found = run(tmp_path / "file", images)
    expected = analysis.gates(model)(images)
    assert set(found) == {"predictions", *(f"gates/{name}" for name in expected)}
    for name, gate in expected.items():
        np.testing.assert_allclose(found[f"gates/{name}"], np.mean(gate, axis=(1, 2)), atol=1e-5)


@pytest.mark.parametrize("gate", GATES)
def test_each_gate(gate, tmp_path):
    model = network(SmallResNet((1, 1), se=SE(gate=gate, use_bias=False, position="pre")))
    assert export.to_onnx(model, tmp_path / "file").relative_error <= 1e-4


@pytest.mark.parametrize("quantization", ["float16", "int8"])
def test_smaller_files(quantization, model, tmp_path):
    images = RANDOM.normal(size=(8, 32, 32, 3)).astype("float32")
    calibration = {"representative_images": images} if quantization == "int8" else {}
    report = export.to_onnx(
        model, tmp_path / "file", quantization=quantization, images=images, **calibration
    )
    assert report.quantization == quantization
    kinds = {
        entry.data_type for entry in onnx.load(tmp_path / "file").graph.initializer if entry.dims
    }
    wanted = {"float16": onnx.TensorProto.FLOAT16, "int8": onnx.TensorProto.UINT8}[quantization]
    assert wanted in kinds
    assert 0 < report.relative_error < {"float16": 1e-2, "int8": 0.2}[quantization]
    session = onnxruntime.InferenceSession(str(tmp_path / "file"))
    assert [each.type for each in (*session.get_inputs(), *session.get_outputs())] == [
        "tensor(float)"
    ] * 2


def test_float16_takes_half(tmp_path):
    model = network(ResNet((1, 1)))
    report = export.to_onnx(model, tmp_path / "file", quantization="float16")
    assert report.bytes < 0.6 * 4 * model.count_params()


# Each layer for itself, in an input of odd height and even width


def _max(x):
    return layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))


# Each may be the gate of an SE block.
ACTIVATIONS = (
    *("elu", "exponential", "hard_sigmoid", "hard_silu", "leaky_relu", "mish"),
    *("selu", "softplus", "softsign"),
)
LAYERS = {
    "same": lambda x: layers.Conv2D(4, 3, strides=2, padding="same")(x),
    "rectangle": lambda x: layers.Conv2D(4, (1, 7), padding="same", activation="tanh")(x),
    "dilated": lambda x: layers.Conv2D(4, 3, dilation_rate=2, padding="same", activation="silu")(x),
    "padded": lambda x: layers.Conv2D(4, 3, strides=2, activation="relu6")(
        layers.ZeroPadding2D(((0, 1), (2, 0)))(x)
    ),
    "depthwise": lambda x: layers.DepthwiseConv2D(3, depth_multiplier=2, strides=2, padding="same")(
        x
    ),
    "maximum": lambda x: layers.MaxPooling2D(3, 2, padding="same")(x),
    "maximum of zeros": _max,  # negative inputs: the border of zeros is the largest
    "maximum after a ReLU": lambda x: _max(layers.ReLU()(x)),
    "maximum after half a ReLU": lambda x: _max(ShakeShake()([layers.ReLU()(x), x])),
    "mean": lambda x: layers.AveragePooling2D(3, 2, padding="same")(x),
    "mean with zeros": lambda x: layers.AveragePooling2D(3, 1)(layers.ZeroPadding2D(1)(x)),
    "wide border": lambda x: layers.AveragePooling2D(2, 1)(layers.ZeroPadding2D(3)(x)),
    "zeros read twice": lambda x: (lambda y: layers.Add()([layers.Conv2D(4, 1)(y), y]))(
        layers.ZeroPadding2D(1)(x)
    ),
    "zeros at the end": lambda x: layers.ZeroPadding2D(2)(x),
    "zeros twice": lambda x: layers.ZeroPadding2D(1)(layers.ZeroPadding2D(2)(x)),
    "global maximum": lambda x: layers.GlobalMaxPooling2D()(x),
    "kept": lambda x: layers.GlobalAveragePooling2D(keepdims=True)(x),
    "crop": lambda x: layers.Cropping2D(((1, 0), (0, 2)))(x),
    "flat": lambda x: layers.Dense(3)(layers.Flatten()(x)),
    "flat twice": lambda x: layers.Flatten()(layers.Flatten()(x)),
    "gelu": lambda x: layers.Activation("gelu")(x),
    **{name: layers.Activation(name) for name in ACTIVATIONS},
    "softmax": lambda x: layers.Softmax()(layers.GlobalAveragePooling2D()(x)),
    "dropout": lambda x: layers.Dropout(0.5)(x),
    "scale": lambda x: layers.Rescaling(0.5, 3.0)(x),
    "sum": lambda x: layers.Add()([x, layers.Activation("sigmoid")(x), x]),
    "product": lambda x: layers.Multiply()([x, layers.GlobalAveragePooling2D(keepdims=True)(x)]),
    "joined": lambda x: layers.Concatenate()([x, layers.ReLU(max_value=6)(x)]),
    "joined features": lambda x: layers.Concatenate()(
        [layers.Flatten()(x), layers.GlobalMaxPooling2D()(x)]
    ),
    "joined rows": lambda x: layers.Concatenate(1)([layers.Reshape((-1, 2))(x)] * 2),
    "rows": lambda x: layers.Reshape((-1, 4, 3))(layers.ZeroPadding2D(((0, 0), (1, 0)))(x)),
    "a map of features": lambda x: layers.Conv2D(2, 3)(
        layers.Reshape((6, 12, 4))(layers.Flatten()(x))
    ),
    "enlarged": lambda x: layers.UpSampling2D((2, 3))(layers.ZeroPadding2D(1)(x)),
    "each second pixel": lambda x: layers.MaxPooling2D(1, 2)(x),
    "more channels": lambda x: PadChannels(7)(x),
    "shuffled": lambda x: ShuffleChannels(2)(x),
    "shaken": lambda x: ShakeShake()([x, layers.ReLU()(x)]),
    "normalised": lambda x: keras_senet.layers.BatchNormalization()(x),
    "nested": lambda x: keras.Sequential([keras.Input(x.shape[1:]), layers.ZeroPadding2D(1)])(
        layers.ReLU()(x)
    ),
    "nothing": lambda x: x,
}


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("build", LAYERS.values(), ids=LAYERS)
def test_a_layer(build, layout, tmp_path, monkeypatch):
    monkeypatch.setattr(
        writer, "convert_by_tf2onnx", lambda *_: pytest.fail("a layer that is not known")
    )
    keras.utils.set_random_seed(0)
    inputs = keras.Input((9, 8, 4))
    model = keras.Model(inputs, build(inputs))
    images = RANDOM.normal(size=(3, 9, 8, 4)).astype("float32") - 1
    assert largest_error(model, tmp_path / "file", layout, images) <= 1e-5


def largest_error(model, path, layout, images):
    """Relative, as the exporter's own, but in this process."""
    proto = writer.make_proto(model, export.ONNX(layout))
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, str(path))
    found = run(path, images if layout == "nhwc" else images.transpose(0, 3, 1, 2))["predictions"]
    expected = np.asarray(model(images, training=False))
    if layout == "nchw" and expected.ndim == 4:
        expected = expected.transpose(0, 3, 1, 2)
    assert found.shape == expected.shape
    return np.abs(found - expected).max() / np.abs(expected).max()


def test_a_layer_that_is_called_twice_has_one_kernel(tmp_path):
    x = keras.Input((8, 8, 4))
    convolve = layers.Conv2D(4, 3)
    model = keras.Model(x, convolve(convolve(x)))
    images = RANDOM.normal(size=(3, 8, 8, 4)).astype("float32")
    assert largest_error(model, tmp_path / "file", "nhwc", images) <= 1e-5
    kernels = [
        each for each in onnx.load(tmp_path / "file").graph.initializer if len(each.dims) > 1
    ]
    assert len(kernels) == 1


@pytest.mark.parametrize(
    "build",
    [
        lambda x: layers.Conv2DTranspose(2, 3)(x),
        lambda x: layers.Activation("squareplus")(x),
        lambda x: layers.LeakyReLU()(x),
        lambda x: layers.ReLU(threshold=1.0)(x),
        lambda x: layers.Dense(3)(x),
        lambda x: layers.UpSampling2D(interpolation="bilinear")(x),
        lambda x: 2 * x,
        lambda x: layers.Concatenate(axis=1)([x, x]),
    ],
    ids=[
        "transposed",
        "squareplus",
        "leaky",
        "threshold",
        "dense",
        "upsampling",
        "operation",
        "axis",
    ],
)
def test_other_layers_go_through_tf2onnx(build, tmp_path):
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, build(inputs))
    with pytest.raises(UnsupportedLayerError):
        writer.convert_by_layers(model, export.ONNX())
    for layout in ("nhwc", "nchw"):
        assert export.to_onnx(model, tmp_path / layout, layout=layout).relative_error <= 1e-4
    with pytest.raises(ValueError, match="`gates` cannot be written"):
        export.to_onnx(model, tmp_path / "other", gates=True)


def test_each_call_of_a_block_has_its_gates(tmp_path):
    inputs, block = keras.Input((4, 4, 4)), keras_senet.SqueezeExcite(2, name="se")
    export.to_onnx(keras.Model(inputs, block(block(inputs))), tmp_path / "file", gates=True)
    outputs = run(tmp_path / "file", RANDOM.normal(size=(2, 4, 4, 4)).astype("float32"))
    assert set(outputs) == {"predictions", "gates/se", "gates/se_2"}


@pytest.mark.parametrize("quantization", [None, "int8"])
def test_what_onnx_cannot_compute(quantization, tmp_path):
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, layers.Conv2DTranspose(4, 3, 2, output_padding=1)(inputs))
    given = {"quantization": quantization, "representative_images": np.zeros((1, 8, 8, 4))}
    with pytest.raises(ValueError, match="has something that ONNX has not: .*ConvTranspose.*$"):
        export.to_onnx(model, tmp_path / "file", **(given if quantization else {}))


def test_an_error_of_tf2onnx_is_one_line(tmp_path, monkeypatch):
    """Such as KeyError('tf.float8_e4m3fn') of weights in 8 bits."""
    error = mock.Mock(side_effect=KeyError("tf.float8_e4m3fn"))
    monkeypatch.setattr("tf2onnx.convert.from_graph_def", error)
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, layers.LeakyReLU()(layers.Softmax(axis=1)(inputs)))
    with pytest.raises(ValueError, match=r"has something that tf2onnx has not: KeyError: .*float8"):
        export.to_onnx(model, tmp_path / "file")


def test_a_model_in_channels_first_is_refused(tmp_path):
    keras.config.set_image_data_format("channels_first")
    try:
        inputs = keras.Input((4, 4, 4))
        with pytest.raises(ValueError, match="needs a model in channels_last"):
            export.to_onnx(keras.Model(inputs, layers.ReLU()(inputs)), tmp_path / "file")
    finally:
        keras.config.set_image_data_format("channels_last")


def of_two_outputs(x):
    y = keras.Input(x.shape[1:])
    return keras.Model(y, [layers.ReLU()(y), layers.Activation("tanh")(y)])(x)[1]


def of_two_inputs(x):
    a, b = keras.Input(x.shape[1:]), keras.Input(x.shape[1:])
    return keras.Model([a, b], layers.Add()([layers.ReLU()(a), b]))(
        [x, layers.Activation("tanh")(x)]
    )


CALLS = {
    "split": lambda x: ops.split(x, 2, axis=-1)[1],
    "two outputs": of_two_outputs,
    "two inputs": of_two_inputs,
    "training": lambda x: layers.BatchNormalization()(x, training=True),
    "dropout": lambda x: layers.Dropout(0.5)(x, training=True),
    "model": lambda x: keras.Sequential([keras.Input(x.shape[1:]), layers.Dropout(0.5)])(
        x, training=True
    ),
}


@pytest.mark.parametrize("build", CALLS.values(), ids=CALLS)
def test_other_calls_go_through_tf2onnx(build, tmp_path):
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, build(inputs))
    with pytest.raises(UnsupportedLayerError):
        writer.convert_by_layers(model, export.ONNX())
    assert (
        largest_error(
            model, tmp_path / "file", "nhwc", RANDOM.normal(size=(3, 8, 8, 4)).astype("float32")
        )
        <= 1e-5
    )


def test_what_onnx_has_not_is_one_clear_error(tmp_path):
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, ops.erfinv(inputs), name="inverse")
    with pytest.raises(ValueError, match="'inverse' has something that ONNX has not") as caught:
        export.to_onnx(model, tmp_path / "file")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_se_blocks_in_a_network_of_keras(tmp_path, monkeypatch):
    """ResNet-50 with one unit in each of its four stages."""
    monkeypatch.setattr(
        writer, "convert_by_tf2onnx", lambda *_: pytest.fail("a layer that is not known")
    )
    shallow.cut_keras_resnets(monkeypatch)
    plain = keras.applications.ResNet50(
        weights=None, input_shape=(32, 32, 3), classes=5, classifier_activation=None
    )
    model = keras_senet.add_se(plain, after=r"conv\d_block\d+_3_bn")
    assert export.to_onnx(model, tmp_path / "file", gates=True).relative_error <= 1e-4
    assert operators(tmp_path / "file")["Conv"] == 17 + 2 * 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantization": "int4"}, "quantization='int4'"),
        ({"quantization": "int8"}, "representative_images"),
        ({"representative_images": np.zeros((1, 32, 32, 3))}, "quantization=None"),
        ({"quantization": "int8", "representative_images": []}, "representative_images"),
        ({"class_names": ["cat"]}, "class_names.*1 names"),
        ({"opset": True}, "opset=True"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_wrong_argument_is_named(arguments, message, model, tmp_path):
    with pytest.raises(ValueError, match=message):
        export.to_onnx(model, tmp_path / "file", **arguments)
    assert not list(tmp_path.iterdir())


def test_a_weight_that_is_changed_after_conversion_is_found(model, tmp_path, monkeypatch):
    save = onnx.save

    def changed(proto, path):
        for entry in proto.graph.initializer:
            if entry.name.endswith("conv1/kernel"):
                value = onnx.numpy_helper.to_array(entry).copy()
                value.flat[:9] += 0.5
                entry.CopyFrom(onnx.numpy_helper.from_array(value, entry.name))
                break
        save(proto, path)

    monkeypatch.setattr(onnx, "save", changed)
    with pytest.raises(export.ParityError, match="differs from Keras"):
        export.to_onnx(model, tmp_path / "file")
    assert not list(tmp_path.iterdir())
