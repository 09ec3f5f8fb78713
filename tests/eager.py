"""Functions that TensorFlow would trace, run as Python."""

import contextlib
import warnings

import tensorflow as tf


@contextlib.contextmanager
def run_eagerly():
    """Within, and in a function that it decorates, a `tf.function` runs as Python: tracing takes
    seconds, and a few steps of a little network less. What must be equal to the last bit is to be
    trained within, or must not.
    """
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        with warnings.catch_warnings():
            # Those of a pipeline are traced all the same.
            warnings.filterwarnings("ignore", "Even though the `tf.config")
            yield
    finally:
        tf.config.run_functions_eagerly(before)
