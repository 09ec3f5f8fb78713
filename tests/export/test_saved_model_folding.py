"""SavedModels have batch normalisation inside their convolutions, as the machine that runs them is not known."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from settled import build
from tiny import TINY

from keras_senet import export


def normalizations(path):
    """The names of the fused operations in the graph that a SavedModel serves."""
    definition = tf.saved_model.load(path).signatures["serving_default"].graph.as_graph_def()
    nodes = [*definition.node, *(node for f in definition.library.function for node in f.node_def)]
    return [node.name for node in nodes if node.op == "FusedBatchNormV3"]


@pytest.mark.parametrize("family", ["basic", "resnext", "mobilenet"])
def test_no_convolution_is_followed_by_batch_normalisation(tmp_path, family):
    model = build(TINY[family].spec)
    report = export.to_saved_model(model, tmp_path / "saved")
    assert report.relative_error < 1e-4  # folding rounds the kernels again
    assert not normalizations(tmp_path / "saved")


def test_half_precision_is_left_as_it_is(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = build(TINY["basic"].spec)
    images = np.random.default_rng(0).normal(size=(3, 32, 32, 3)).astype("float32")
    export.to_saved_model(model, tmp_path / "saved", images=images)
    saved = tf.saved_model.load(tmp_path / "saved")
    assert [v.shape for v in saved.tensors] == [v.shape for v in model.variables]
    served = saved.signatures["serving_default"](images=tf.constant(images))["predictions"]
    np.testing.assert_allclose(served, model(images, training=False), atol=1e-2)


@keras.saving.register_keras_serializable(package="test")
class Unclonable(keras.layers.Layer):
    def __init__(self, factor, **options):
        super().__init__(**options)
        self.factor = factor

    def call(self, x):
        return x * self.factor


def test_a_layer_that_cannot_be_copied_is_served_as_it_is(tmp_path):
    images = keras.Input((8, 8, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(images))
    model = keras.Model(images, keras.layers.GlobalAveragePooling2D()(Unclonable(2.0)(x)))
    assert export.to_saved_model(model, tmp_path / "saved").relative_error < 1e-6
