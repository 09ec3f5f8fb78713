"""Shared fixtures: every test starts with Keras' defaults."""

import os

# TensorFlow takes oneDNN by itself on some CPUs alone, and channels_first needs it; must be said before it is imported.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import pytest
import tensorflow as tf

# Two replicas, for the tests of MirroredStrategy; must be said before TensorFlow starts.
(CPU,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(CPU, [tf.config.LogicalDeviceConfiguration()] * 2)


@pytest.fixture(autouse=True)
def keras_defaults():
    yield
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("float32")
    keras.backend.clear_session()


@pytest.fixture
def channels_first():
    keras.config.set_image_data_format("channels_first")
