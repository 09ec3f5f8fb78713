"""Batch normalisation by TensorFlow's fused operation."""

import functools
from typing import Any

import keras
from keras import ops

from keras_senet.cpu import has_avx512, has_gpu, uses_onednn


@keras.saving.register_keras_serializable("keras_senet")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` by TensorFlow's fused operation: same arguments, variables
    and numbers.

    Keras computes moments, then an affine map, in separate operations. The fused one is faster, and
    the only one that TensorFlow and TFLite fold into a convolution. It serves what these networks
    use (rank 4, over the channels, centred and scaled, float16, bfloat16 or float32); anything
    else, and other backends, is Keras' own path. On TensorFlow second derivatives in training are
    exact, where Keras leaves a part of them out. Forward mode is too, but not with the accumulator
    outside of a `tf.function` that the layer is within: there TensorFlow takes the derivative of
    its operation for 0 or None, without an error. An accumulator within the function is right.
    In a graph TensorFlow raises AssertionError for second derivatives through `tf.cond`.
    """

    def call(self, inputs, training=None, mask=None):
        if mask is not None or not self._is_fusible(inputs):
            return super().call(inputs, training=training, mask=mask)
        # Read here, and only here: when a backward pass runs, they may have changed.
        gamma, beta = ops.cast(self.gamma, "float32"), ops.cast(self.beta, "float32")
        if training and self.trainable:
            outputs, mean, variance = self._normalize(inputs, gamma, beta)
            mean, variance = self._with_gradients(
                inputs, mean, self._biased_variance(variance, inputs)
            )
            self._update_moving_statistics(mean, variance)
        else:
            mean, variance = (
                ops.cast(self.moving_mean, "float32"),
                ops.cast(self.moving_variance, "float32"),
            )
            if training or _is_recorded(inputs, gamma, beta):
                # The gradient of the fused operation keeps the inputs, that of this one nothing.
                outputs = self._affine(inputs, gamma, beta, mean, variance)
            elif not _is_fused_slowly():
                outputs, _, _ = self._normalize(inputs, gamma, beta, mean, variance)
            elif self._is_convolved(inputs):
                outputs = self._convolve(inputs, gamma, beta, mean, variance)
            else:
                outputs = self._affine(inputs, gamma, beta, mean, variance)
        outputs = ops.cast(outputs, self.compute_dtype)
        if not training:
            return outputs
        from keras_senet.layers.recompute import tag_recompute

        # An SE block that follows need not keep the outputs for its gradient.
        return tag_recompute(outputs, self._affine, inputs, gamma, beta, mean, variance)

    @property
    def _tf_format(self):
        return "NCHW" if self.axis == 1 else "NHWC"

    def _is_fusible(self, inputs):
        return (
            keras.backend.backend() == "tensorflow"
            and len(inputs.shape) == 4
            and self.axis in (1, -1, 3)
            and self.center
            and self.scale
            and not self.synchronized
            and not getattr(self, "renorm", False)  # Keras 3.12 has none
            and keras.backend.standardize_dtype(inputs.dtype) in ("float16", "bfloat16", "float32")
        )

    def _normalize(self, inputs, gamma, beta, mean=(), variance=()):
        """(outputs, mean, variance), by the batch's statistics unless others are given."""
        import tensorflow as tf

        # tf.compat.v1.nn.fused_batch_norm would raise epsilon to 1.001e-5, which cuDNN no longer
        # asks for.
        return tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=gamma,
            offset=beta,
            mean=mean,
            variance=variance,
            epsilon=self.epsilon,
            data_format=self._tf_format,
            is_training=isinstance(mean, tuple),
        )[:3]

    def _is_convolved(self, inputs):
        """Whether the inputs come from a convolution whose kernel is smaller than they are."""
        import tensorflow as tf

        if tf.executing_eagerly() or inputs.graph is not tf.compat.v1.get_default_graph():
            return False
        convolution = inputs.op
        return (
            convolution.type in ("Conv2D", "DepthwiseConv2dNative")
            and convolution.get_attr("data_format").decode() == self._tf_format
            and inputs.dtype == tf.float32  # half precision would round the scaled kernel
            and inputs.shape[1:].is_fully_defined()
            and convolution.inputs[1].shape.is_fully_defined()
            and convolution.inputs[1].shape.num_elements() <= inputs.shape[1:].num_elements()
        )

    def _convolve(self, inputs, gamma, beta, mean, variance):
        """The outputs by the convolution that the inputs come from, with a scaled kernel and a
        bias; their gradient is that of `_affine`, by the inputs.

        TensorFlow removes that convolution where nothing else reads it.
        """
        import tensorflow as tf

        convolution = inputs.op
        images, kernel = convolution.inputs
        names = ("strides", "padding", "explicit_paddings", "data_format", "dilations")
        options = {name: convolution.get_attr(name) for name in names}
        operation = getattr(tf.raw_ops, convolution.type)
        shape = kernel.shape[2:] if convolution.type == "DepthwiseConv2dNative" else (-1,)
        axes = [axis for axis in range(4) if axis != self.axis % 4]

        @tf.custom_gradient
        def convolved(inputs, scale, shift):
            def gradient(upstream):
                of_scale = tf.reduce_sum(upstream * inputs, axes)
                return upstream * self._wide(scale), of_scale, tf.reduce_sum(upstream, axes)

            outputs = operation(input=images, filter=kernel * tf.reshape(scale, shape), **options)
            return tf.nn.bias_add(outputs, shift, data_format=self._tf_format), gradient

        return convolved(inputs, *self._scale_and_shift(gamma, beta, mean, variance))

    def _scale_and_shift(self, gamma, beta, mean, variance):
        scale = gamma * ops.rsqrt(variance + self.epsilon)
        return scale, beta - mean * scale

    def _affine(self, inputs, gamma, beta, mean, variance):
        """The outputs by given statistics and plain operations."""
        scale, shift = map(self._wide, self._scale_and_shift(gamma, beta, mean, variance))
        return ops.cast(ops.cast(inputs, "float32") * scale + shift, self.compute_dtype)

    def _wide(self, values):
        """Those of the channels, in the shape that the inputs are multiplied by."""
        return ops.reshape(values, (1, -1, 1, 1) if self.axis == 1 else (1, 1, 1, -1))

    def _biased_variance(self, variance, inputs):
        """The variance that Keras averages, of the fused operation's Bessel-corrected one."""
        import tensorflow as tf

        count = tf.cast(tf.size(inputs, out_type=tf.int64) // self.moving_mean.shape[0], "float32")
        return variance * (count - 1.0) / count

    def _update_moving_statistics(self, mean, variance):
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(
                ops.cast(moving, "float32") * self.momentum + batch * (1.0 - self.momentum)
            )

    def _moments(self, inputs, mask):
        moments: Any = super()._moments(inputs, mask)
        mean, variance = moments
        if mask is not None or self.synchronized or keras.backend.backend() != "tensorflow":
            return mean, variance
        return self._with_gradients(inputs, mean, variance)

    def _with_gradients(self, inputs, mean, variance):
        """The batch's mean and variance as functions of the inputs, with all of their gradient."""
        from keras_senet.layers.recompute import differentiate_moments

        axes = [axis for axis in range(len(inputs.shape)) if axis != self.axis % len(inputs.shape)]
        return differentiate_moments(inputs, mean, variance, axes)


def _is_recorded(*tensors):
    """Whether a tape here records what is computed from these tensors."""
    from tensorflow.python.eager import record  # pyright: ignore[reportMissingImports]

    return record.should_record_backprop(tensors)


@functools.cache
def _is_fused_slowly():
    """Whether this machine should not run a convolution and batch normalisation as one operation,
    in inference.

    TensorFlow makes one of them where it finds both. For a batch of 1, oneDNN has fast code for it
    only where the CPU has AVX-512: with AVX2 it takes 15 times the time of both.
    """
    return uses_onednn() and not has_gpu() and not has_avx512()
