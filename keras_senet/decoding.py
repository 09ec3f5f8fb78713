"""Encoded images (JPEG, PNG, BMP, GIF, WebP) to uint8 tensors, in TensorFlow's graph or eagerly."""

import tensorflow as tf


def decode(raw, channels):
    """An encoded image -> uint8 (H, W, channels) of 0..255; of an animation the first picture."""
    image = tf.cond(
        tf.io.is_jpeg(raw),
        lambda: tf.io.decode_jpeg(raw, channels, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_image(_without_palette(raw), channels, expand_animations=False),
    )
    return tf.ensure_shape(image, (None, None, channels))


def _without_palette(raw):
    """The same; the graph fails for a BMP whose bytes are not plain colours: TensorFlow would take them as such."""
    header = tf.strings.substr(raw, 0, 34)
    fields = tf.io.decode_raw(header, tf.uint8, fixed_length=34)
    plain = tf.reduce_any(fields[28] == (24, 32)) & tf.reduce_all(fields[29:] == 0)  # bits a pixel; compression
    message = "the BMP has a palette or is compressed, which is not decoded"
    with tf.control_dependencies([tf.debugging.Assert((tf.strings.substr(raw, 0, 2) != b"BM") | plain, [message])]):
        return tf.identity(raw)


def reason_of(error):
    """One line of an error, without TensorFlow's place in a graph."""
    message = error.message if isinstance(error, tf.errors.OpError) else str(error)
    return message.split("}} ")[-1].split(" [Op:")[0].partition("\n")[0][:200]
