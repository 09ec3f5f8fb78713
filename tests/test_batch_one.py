"""Inference on CPUs where TensorFlow's fusion of convolution and batch normalisation has no fast code for one image."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_senet_cli
from keras_senet import cpu
from keras_senet.layers import BatchNormalization, batch_normalization


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


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float16", 1e-3), ("mixed_bfloat16", 1e-2)])
@pytest.mark.parametrize("axis", [-1, 1])
def test_the_plain_operations_give_the_formula(slow_fusion, axis, dtype, tolerance):
    layer = BatchNormalization(axis=axis, dtype=dtype)
    random = np.random.default_rng(0)
    x = random.normal(size=(1, 5, 5, 5)).astype("float16")
    layer.build(x.shape)
    layer.set_weights(random.uniform(0.5, 2, size=(4, 5)).astype("float16"))
    shape = (1, 5, 1, 1) if axis == 1 else (1, 1, 1, 5)
    weights = [np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(w, "float32"))) for w in layer.weights]
    gamma, beta, mean, variance = (w.astype("float64").reshape(shape) for w in weights)
    expected = (x.astype("float64") - mean) / np.sqrt(variance + layer.epsilon) * gamma + beta
    found = np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(layer(x), "float32")))
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


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
