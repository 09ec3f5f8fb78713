"""SavedModels have batch normalisation inside their convolutions: who knows what runs them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from settled import build
from tiny import TINY, randomize

import keras_senet
from keras_senet import export


def normalizations(path):
    """The names of the fused operations in the graph that a SavedModel serves."""
    definition = tf.saved_model.load(path).signatures["serving_default"].graph.as_graph_def()
    nodes = [*definition.node, *(node for f in definition.library.function for node in f.node_def)]
    return [node.name for node in nodes if node.op == "FusedBatchNormV3"]


def test_no_convolution_is_followed_by_batch_normalisation(tmp_path):
    """One of each kind; that all families are folded is in test_folding.py."""
    x = images = keras.Input((8, 8, 3))
    for convolution in (
        keras.layers.Conv2D(8, 3, use_bias=False),
        keras_senet.layers.GroupedConv2D(8, 3, groups=2, padding="same"),
        keras.layers.DepthwiseConv2D(3),
    ):
        x = keras_senet.layers.BatchNormalization()(convolution(x))
    model = randomize(keras.Model(images, keras.layers.GlobalAveragePooling2D()(x)))
    report = export.to_saved_model(model, tmp_path / "saved")
    assert report.relative_error < 1e-4  # folding rounds the kernels again
    assert not normalizations(tmp_path / "saved")


@pytest.mark.parametrize(
    "policy",
    [
        "mixed_bfloat16",
        "float64",
        *(pytest.param(p, marks=pytest.mark.slow) for p in ("mixed_float16", "float16")),
    ],
)
def test_networks_of_other_precisions_are_folded_in_float32(tmp_path, policy):
    """The file computes in float32: it agrees with a float32 network of the same weights, not with
    rounded kernels.
    """
    keras.config.set_dtype_policy(policy)
    model = build(TINY["basic"].spec)
    keras.config.set_dtype_policy("float32")
    reference = build(TINY["basic"].spec)
    reference.set_weights(model.get_weights())
    images = np.random.default_rng(0).normal(size=(3, 32, 32, 3)).astype("float32")
    export.to_saved_model(model, tmp_path / "saved", images=images)
    assert not normalizations(tmp_path / "saved")
    served = tf.saved_model.load(tmp_path / "saved").signatures["serving_default"]
    assert all(
        tensor.dtype == "float32"
        for tensor in served.captured_inputs
        if tensor.dtype != tf.resource
    )
    found = served(images=tf.constant(images))["predictions"]
    np.testing.assert_allclose(found, reference(images, training=False), atol=1e-5)


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
