"""Shared fixtures: every test starts with Keras' defaults."""

import gc
import os
import sys
import threading
import time

# TensorFlow takes oneDNN by itself on some CPUs alone, and channels_first needs it; must be said
# before it is imported.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Each worker has a core: with more threads they would only wait for each other.
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
# Little networks take XLA longer to compile than to run.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)

import keras
import pytest
from keras.src.backend.common import global_state

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    # Two replicas, for the tests of MirroredStrategy; must be said before TensorFlow starts.
    (CPU,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(CPU, [tf.config.LogicalDeviceConfiguration()] * 2)
else:
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_num_cpu_devices", 8)  # before JAX starts, too
    sys.modules["tensorflow"] = None  # an import fails, as where it is not installed


def pytest_collection_finish():
    """What is imported by now stays: the garbage collector need not look through all of TensorFlow
    again and again, nor at each 700 of the many objects that a network is made of.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def collect_garbage(every):
    """Tests leave networks and what TensorFlow keeps of them, but a collection takes up to 1 s: one
    after `every` seconds of this process' time.
    """
    last = time.process_time()
    while True:
        if time.process_time() - last > every:
            keras.backend.clear_session()
            last = time.process_time()
        yield


garbage = collect_garbage(every=90)


@pytest.fixture(autouse=True)
def keras_defaults():
    yield
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("float32")
    # As `clear_session`, which makes TensorFlow forget its kernels and optimized graphs, too: after
    # it the next call of a network that tests share takes up to 1 s.
    global_state.GLOBAL_STATE_TRACKER = threading.local()
    global_state.GLOBAL_SETTINGS_TRACKER = threading.local()
    next(garbage)


@pytest.fixture
def eagerly():
    """See `little.eagerly`. Pipelines are traced all the same: TensorFlow then warns."""
    import little

    with little.eagerly():
        yield


@pytest.fixture
def channels_first():
    keras.config.set_image_data_format("channels_first")
