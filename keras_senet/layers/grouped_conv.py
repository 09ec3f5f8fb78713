"""Grouped convolutions that are fast on TensorFlow."""

import functools

import keras
from keras import ops

from keras_senet.cpu import has_gpu
from keras_senet.layers.data_format import TF_FORMATS


@keras.saving.register_keras_serializable("keras_senet")
class GroupedConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` whose groups are fast on TensorFlow: same arguments, variables,
    configuration and numbers.

    Keras compiles each grouped convolution with XLA, because TensorFlow's kernels for a CPU do not
    cover every case. Here TensorFlow's kernel is used where it can also compute the gradients; else
    one convolution a group where that can; else Keras' own path. Other backends are Keras' own
    path.
    """

    def convolution_op(self, inputs, kernel):
        if self.groups == 1 or keras.backend.backend() != "tensorflow":
            return super().convolution_op(inputs, kernel)
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        properties = {"data_format": self.data_format, "dilated": max(self.dilation_rate) > 1}
        if (dtype != "float16" or has_gpu()) and _can_differentiate(
            self.groups, dtype, **properties
        ):
            return self._convolve(inputs, kernel)
        # Without oneDNN a CPU sums half-precision products in half precision: compute in float32
        # and round once.
        compute = "float64" if dtype == "float64" else "float32"
        inputs, kernel = ops.cast(inputs, compute), ops.cast(kernel, compute)
        if _can_differentiate(self.groups, compute, **properties):
            outputs = self._convolve(inputs, kernel)
        elif _can_differentiate(1, compute, **properties):
            outputs = self._convolve_by_group(inputs, kernel)
        else:
            outputs = super().convolution_op(inputs, kernel)
        return ops.cast(outputs, dtype)

    def _convolve(self, inputs, kernel):
        import tensorflow as tf

        return tf.nn.conv2d(
            inputs,
            kernel,
            strides=self.strides,
            padding=self.padding.upper(),
            data_format=TF_FORMATS[self.data_format],
            dilations=self.dilation_rate,
        )

    def _convolve_by_group(self, inputs, kernel):
        import tensorflow as tf

        channel_axis = -1 if self.data_format == "channels_last" else 1
        pairs = zip(
            tf.split(inputs, self.groups, axis=channel_axis),
            tf.split(kernel, self.groups, axis=-1),
            strict=True,
        )
        return tf.concat([self._convolve(x, k) for x, k in pairs], axis=channel_axis)


@functools.cache
def _can_differentiate(groups, dtype, data_format, dilated):
    """Whether TensorFlow computes a convolution with these properties, and its gradient, on this
    machine's device.

    Asked of the kernels themselves: which there are depends on the device, on oneDNN, and on the
    CPU.
    """
    import tensorflow as tf

    dilation = 2 if dilated else 1
    dilations = (
        (1, dilation, dilation, 1) if data_format == "channels_last" else (1, 1, dilation, dilation)
    )
    with tf.init_scope():  # run at once, also while a graph is being traced
        channels = 2 * groups
        images = tf.ones(
            (1, 4, 4, channels) if data_format == "channels_last" else (1, channels, 4, 4), dtype
        )
        kernel = tf.ones((3, 3, channels // groups, channels), dtype)
        conv = {
            "strides": (1, 1, 1, 1),
            "padding": "SAME",
            "data_format": TF_FORMATS[data_format],
            "dilations": dilations,
        }
        try:
            tf.raw_ops.Conv2D(input=images, filter=kernel, **conv)
            tf.raw_ops.Conv2DBackpropInput(
                input_sizes=images.shape, filter=kernel, out_backprop=images, **conv
            )
            tf.raw_ops.Conv2DBackpropFilter(
                input=images, filter_sizes=kernel.shape, out_backprop=images, **conv
            )
        except (
            tf.errors.InvalidArgumentError,
            tf.errors.UnimplementedError,
            tf.errors.NotFoundError,
        ):
            return False
    return True
