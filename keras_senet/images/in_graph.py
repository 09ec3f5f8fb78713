"""The bytes of an image file in TensorFlow's graph: what the decoders there share."""

import numpy as np
import tensorflow as tf

from keras_senet.images import headers


class InGraph:
    """The bytes of a file, a scalar string tensor, as `headers.parse` reads them."""

    def __init__(self, raw):
        self.raw, self.length = raw, tf.strings.length(raw)

    least, choose = staticmethod(tf.minimum), staticmethod(tf.where)

    @tf.autograph.experimental.do_not_convert
    def number(self, at, count, little=False):
        """See `headers.Content.number`; int32."""
        part = tf.strings.substr(self.raw, tf.minimum(at, self.length), count)
        values = tf.cast(tf.io.decode_raw(part, tf.uint8, fixed_length=count), tf.int64)
        factors = np.array([256**k for k in range(count)])
        if tf.is_tensor(little):
            factors = tf.where(little, factors, factors[::-1])
        elif not little:
            factors = factors[::-1]
        return tf.cast(tf.minimum(tf.reduce_sum(values * factors), headers.LARGEST), tf.int32)


def ensure_rgb(image: tf.Tensor) -> tf.Tensor:
    """The image with the static shape (None, None, 3), which all branches of a graph return."""
    return tf.ensure_shape(image, (None, None, 3))


def assert_in_graph(holds, message):
    """An operation that fails with the message unless `holds` is true."""
    return tf.raw_ops.Assert(condition=holds, data=[tf.convert_to_tensor(message)], summarize=10)


def to_bytes(raw):
    """The bytes of a file: uint8 (n,)."""
    return tf.io.decode_raw(raw, tf.uint8)
