"""Inference on CPUs where TensorFlow's fusion of convolution and batch normalisation has no fast
code for one image.
"""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_senet_cli
from keras_senet import cpu
from keras_senet.layers import BatchNormalization, GroupedConv2D, batch_normalization


@pytest.fixture
def slow_fusion(monkeypatch):
    monkeypatch.setattr(batch_normalization, "_is_fused_slowly", lambda: True)


def fused_operations(function, *shape):
    graph = tf.function(function).get_concrete_function(tf.TensorSpec(shape)).graph
    return [op.name for op in graph.get_operations() if op.type == "FusedBatchNormV3"]


@pytest.mark.parametrize("batch", [None, 1, 2])
def test_there_is_nothing_to_fuse_where_that_is_slow(slow_fusion, batch):
    images = keras.Input((6, 6, 3))
    model = keras.Model(images, BatchNormalization()(keras.layers.Conv2D(4, 3)(images)))
    assert not fused_operations(lambda x: model(x, training=False), batch, 6, 6, 3)
    assert fused_operations(lambda x: model(x, training=True), batch, 6, 6, 3)


def test_elsewhere_it_is_fused(monkeypatch):
    monkeypatch.setattr(batch_normalization, "_is_fused_slowly", lambda: False)
    layer = BatchNormalization()
    layer.build((None, 6, 6, 3))
    assert fused_operations(lambda x: layer(x, training=False), None, 6, 6, 3)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-6), ("float16", 1e-3), ("mixed_bfloat16", 1e-2)]
)
@pytest.mark.parametrize("axis", [-1, 1])
def test_the_plain_operations_give_the_formula(slow_fusion, axis, dtype, tolerance):
    layer = BatchNormalization(axis=axis, dtype=dtype)
    random = np.random.default_rng(0)
    x = random.normal(size=(1, 5, 5, 5)).astype("float16")
    layer.build(x.shape)
    layer.set_weights(random.uniform(0.5, 2, size=(4, 5)).astype("float16"))
    shape = (1, 5, 1, 1) if axis == 1 else (1, 1, 1, 5)
    weights = [
        np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(w, "float32"))) for w in layer.weights
    ]
    gamma, beta, mean, variance = (w.astype("float64").reshape(shape) for w in weights)
    expected = (x.astype("float64") - mean) / np.sqrt(variance + layer.epsilon) * gamma + beta
    found = np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(layer(x), "float32")))
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


LAYERS = {
    "strided": lambda **options: keras.layers.Conv2D(
        6, 3, strides=2, padding="same", use_bias=False, **options
    ),
    "dilated": lambda **options: keras.layers.Conv2D(
        6, 3, dilation_rate=2, use_bias=False, **options
    ),
    "grouped": lambda **options: GroupedConv2D(6, 3, groups=2, use_bias=False, **options),
    "depthwise": lambda **options: keras.layers.DepthwiseConv2D(
        3, depth_multiplier=2, use_bias=False, **options
    ),
    "with bias": lambda **options: keras.layers.Conv2D(
        6, 3, bias_initializer="he_normal", **options
    ),
    "large kernel": lambda **options: keras.layers.Conv2D(
        6, 9, padding="same", use_bias=False, **options
    ),
}
IN_KERNEL = (
    "strided",
    "grouped",
    "depthwise",
)  # the scale is; Keras rearranges images around dilated ones


def convolution_and_normalization(kind, dtype="float32", data_format="channels_last"):
    convolution = LAYERS[kind](dtype=dtype, data_format=data_format)
    layer = BatchNormalization(axis=-1 if data_format == "channels_last" else 1, dtype=dtype)
    shape = (2, 12, 12, 4) if data_format == "channels_last" else (2, 4, 12, 12)
    random = np.random.default_rng(0)
    x = tf.constant(random.normal(size=shape), convolution.compute_dtype)
    layer(convolution(x))
    layer.set_weights(random.uniform(0.5, 2, size=(4, layer.gamma.shape[0])))
    return x, convolution, layer


def formula(x, layer):
    """Batch normalisation in float64."""
    shape = (1, -1, 1, 1) if layer.axis == 1 else (1, 1, 1, -1)
    gamma, beta, mean, variance = (
        np.asarray(w, "float64").reshape(shape) for w in layer.get_weights()
    )
    return (np.asarray(tf.cast(x, "float64")) - mean) / np.sqrt(
        variance + layer.epsilon
    ) * gamma + beta


@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize(
    "data_format",
    [
        "channels_last",
        pytest.param(
            "channels_first",
            marks=pytest.mark.skipif(
                os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0", reason="needs oneDNN on a CPU"
            ),
        ),
    ],
)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_graph_has_the_scale_in_the_kernel(slow_fusion, kind, data_format, batch):
    if kind == "depthwise" and data_format == "channels_first":
        pytest.skip("TensorFlow has no such operation on a CPU")
    x, convolution, layer = convolution_and_normalization(kind, data_format=data_format)
    run = tf.function(lambda x: layer(convolution(x), training=False)).get_concrete_function(
        tf.TensorSpec((batch, *x.shape[1:]))
    )
    found, expected = run(x), formula(convolution(x), layer)
    assert np.abs(found - expected).max() <= 2e-6 * np.abs(expected).max()
    last = run.outputs[0]
    while last.op.type in ("Identity", "IdentityN"):
        last = last.op.inputs[last.value_index]
    assert (last.op.type == "BiasAdd") == (kind in IN_KERNEL)


def test_a_kernel_of_unknown_shape_is_left_as_it_is(slow_fusion):
    """One that a network computes for each of its images may have no shape in the graph."""
    layer = BatchNormalization(epsilon=0.0)
    layer.build((None, 6, 6, 4))

    def normalize(images, kernel):
        maps = tf.raw_ops.Conv2D(input=images, filter=kernel, strides=[1] * 4, padding="SAME")
        maps.set_shape((None, 6, 6, 4))
        return layer(maps, training=False)

    images, kernel = tf.ones((2, 6, 6, 3)), tf.ones((1, 1, 3, 4))
    specs = tf.TensorSpec((None, 6, 6, 3)), tf.TensorSpec((1, 1, 3, None))
    found = tf.function(normalize, input_signature=specs)(images, kernel)
    np.testing.assert_allclose(found, np.full((2, 6, 6, 4), 3.0), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "mixed_bfloat16"])
def test_half_precision_rounds_no_kernel_again(slow_fusion, dtype):
    x, convolution, layer = convolution_and_normalization("strided", dtype)
    found = tf.function(lambda x: layer(convolution(x), training=False))(x)
    expected = formula(convolution(x), layer)
    unit = {"float16": 2.0**-11, "mixed_bfloat16": 2.0**-8}[dtype]
    assert (
        np.abs(np.asarray(tf.cast(found, "float64")) - expected).max()
        <= 1.01 * unit * np.abs(expected).max()
    )


@pytest.mark.parametrize("tape", ["within", "outside", "none: tf.gradients"])
def test_gradients_in_inference(slow_fusion, tape):
    """By the images and gamma and, within a graph, by what is normalised, as Grad-CAM asks for."""
    x, convolution, layer = convolution_and_normalization("strided")
    gamma, beta, mean, variance = (tf.constant(w, "float64") for w in layer.get_weights())
    variables = [convolution.kernel.value, layer.gamma.value]

    def gradients(x, run=lambda f: f):
        if tape == "none: tf.gradients":
            features, loss = inference(x)
            return tf.gradients(loss, [x, *variables, features])
        with tf.GradientTape() as recorded:
            recorded.watch(x)
            features, loss = run(inference)(x)
        return recorded.gradient(loss, [x, *variables, *([features] if tape == "within" else [])])

    def inference(x):
        features = convolution(x)
        return features, tf.reduce_sum(layer(features, training=False) ** 3)

    found = gradients(x, tf.function) if tape == "outside" else tf.function(gradients)(x)
    x, kernel = tf.cast(x, "float64"), tf.cast(convolution.kernel, "float64")
    with tf.GradientTape() as recorded:
        recorded.watch([x, kernel, gamma])
        features = tf.nn.conv2d(x, kernel, 2, "SAME")
        loss = tf.reduce_sum(
            ((features - mean) * tf.math.rsqrt(variance + layer.epsilon) * gamma + beta) ** 3
        )
    expected = recorded.gradient(loss, [x, kernel, gamma, features])
    for value, right in zip(found, expected, strict=tape != "outside"):
        right = np.asarray(right)
        assert np.abs(value - right).max() <= 5e-6 * np.abs(right).max()


@pytest.mark.parametrize(
    ("limit", "flags", "expected"),
    [
        ("", "fma avx2 avx512f avx512dq", True),
        ("AVX512_CORE", "fma avx2 avx512f avx512dq", True),
        ("AVX2", "fma avx2 avx512f avx512dq", False),
        ("avx2_vnni", "fma avx2 avx512f avx512dq", False),
        ("", "fma avx2 avx_vnni", False),
        ("", None, False),
    ],
)
def test_the_instructions_that_onednn_may_use(monkeypatch, tmp_path, limit, flags, expected):
    file = tmp_path / "cpuinfo"
    if flags is not None:
        file.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    monkeypatch.setattr(keras_senet_cli, "CPUINFO", str(file))
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit or "ALL")
    assert cpu.has_avx512() is expected
