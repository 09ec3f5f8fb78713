"""Models that have more than Keras' own layers: in mixed precision, and in each format."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_senet import export
from keras_senet.export.model import in_float32

RANDOM = np.random.default_rng(0)


class Scaled(layers.Layer):
    """A layer of another library: Keras cannot copy it."""

    def __init__(self, factors, **options):
        super().__init__(**options)
        self.factors = self.add_weight(
            shape=(len(factors),), initializer=keras.initializers.Constant(factors)
        )

    def call(self, x):
        return x * self.factors


def scaled(**options):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3)(Scaled(np.arange(3.0), name="scaled", **options)(inputs))
    return keras.Model(
        inputs, layers.GlobalAveragePooling2D()(layers.BatchNormalization()(x)), name="custom"
    )


@pytest.mark.parametrize("write", [export.to_saved_model, export.to_tflite, export.to_onnx])
def test_a_layer_of_another_library(write, tmp_path):
    assert write(scaled(), tmp_path / "file").relative_error <= 1e-4


def test_one_that_cannot_be_copied_into_float32(tmp_path):
    for write in (export.to_saved_model, export.to_tflite, export.to_onnx):
        with pytest.raises(
            ValueError, match="'scaled' of Scaled cannot be copied: its `get_config`"
        ) as caught:
            write(scaled(dtype="mixed_float16"), tmp_path / "file")
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_operations_that_tflite_has_not_are_named(tmp_path):
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, ops.erfinv(ops.qr(inputs)[0]), name="inverse")
    with pytest.raises(
        ValueError, match="^'inverse' has something that TFLite has not: Qr, Erfinv$"
    ):
        export.to_tflite(model, tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_operations_in_mixed_precision_become_float32():
    """As the same model of float32 layers computes."""

    def build(dtype):
        inputs = keras.Input((8, 8, 3))
        return keras.Model(
            inputs, ops.relu(ops.multiply(2.0, layers.Conv2D(4, 3, dtype=dtype)(inputs)))
        )

    plain, mixed = build("float32"), build("mixed_float16")
    mixed.set_weights(plain.get_weights())
    images = RANDOM.normal(size=(2, 8, 8, 3)).astype("float32")
    found = in_float32(mixed)(images)
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, plain(images), rtol=1e-5, atol=1e-6)
