"""Gradients on TensorFlow that keep less in memory, and go through it less often, than those it derives."""

import tensorflow as tf
from tensorflow.python.eager import forwardprop_util


def tag_recompute(tensor, recompute):
    """The tensor, with a note that `recompute()` gives it again from others that training keeps anyway.

    `recompute` runs in the backward pass, when weights may have changed: it must read tensors, never variables.
    """
    tensor.recompute = recompute
    return tensor


def normalize_batch(x, gamma, beta, epsilon, data_format):
    """(outputs, mean, Bessel-corrected variance) of batch normalisation by TensorFlow's fused operations.

    Its gradient is the fused one, whose own gradient here is that of plain operations: TensorFlow's is wrong forward
    over reverse through a `tf.function`. No gradient goes through mean and variance: see `with_moments`.
    """
    options = {"epsilon": epsilon, "data_format": data_format, "is_training": True}

    @tf.custom_gradient
    def outputs(x, gamma, beta):
        y, mean, variance, *reserved = tf.raw_ops.FusedBatchNormV3(
            x=x, scale=gamma, offset=beta, mean=[], variance=[], **options
        )
        reserved = {f"reserve_space_{i}": tf.stop_gradient(value) for i, value in enumerate(reserved, 1)}

        @tf.custom_gradient
        def gradients(of_y, x, gamma):
            first = tf.raw_ops.FusedBatchNormGradV3(y_backprop=of_y, x=x, scale=gamma, **reserved, **options)[:3]

            def second(*of_first):
                with tf.GradientTape() as tape:
                    tape.watch([of_y, x, gamma])
                    plain = _normalization_gradients(of_y, x, gamma, epsilon, data_format)
                return tape.gradient(plain, [of_y, x, gamma], of_first)

            return first, second

        return (y, mean, variance), lambda of_y, *_: gradients(of_y, x, gamma)

    return outputs(x, gamma, beta)


def _normalization_gradients(of_y, x, gamma, epsilon, data_format):
    """Gradients of batch normalisation by x, gamma and beta, of operations that can be differentiated again."""
    axes, shape = ([0, 2, 3], (1, -1, 1, 1)) if data_format == "NCHW" else ([0, 1, 2], (1, 1, 1, -1))
    dtype, of_y, x = x.dtype, tf.cast(of_y, gamma.dtype), tf.cast(x, gamma.dtype)
    centred = x - tf.reduce_mean(x, axes, keepdims=True)
    rate = tf.math.rsqrt(tf.reduce_mean(centred**2, axes, keepdims=True) + epsilon)
    y = centred * rate
    of_x = of_y - tf.reduce_mean(of_y, axes, keepdims=True) - y * tf.reduce_mean(of_y * y, axes, keepdims=True)
    of_x *= tf.reshape(gamma, shape) * rate
    return tf.cast(of_x, dtype), tf.reduce_sum(of_y * y, axes), tf.reduce_sum(of_y, axes)


def with_moments(x, mean, variance, axes):
    """(mean, variance) of x over `axes`, without these axes, as functions of x whose gradients are exact.

    TensorFlow has no gradient through the moments of FusedBatchNormV3, and `tf.nn.moments` stops the one that the
    variance has through the mean: it is 0, but its derivatives are not, and second derivatives need them.
    """
    count = tf.cast(tf.reduce_prod([tf.shape(x)[axis] for axis in axes]), mean.dtype)

    @tf.custom_gradient
    def moments(x):
        def gradient(of_mean, of_variance):
            wide = tf.cast(x, mean.dtype)
            average = tf.reduce_mean(wide, axes, keepdims=True)  # again from x: `mean` would be a constant here
            of_mean, of_variance = (tf.reshape(g, tf.shape(average)) for g in (of_mean, of_variance))
            return tf.cast((of_mean + 2 * of_variance * (wide - average)) / count, x.dtype)

        return (tf.identity(mean), tf.identity(variance)), gradient

    return moments(x)


def with_mean(x, axes, dtype):
    """(x, its mean over `axes` in `dtype`, with these axes of size 1).

    The gradients of both meet here in one addition. TensorFlow would first spread the mean's to the size of x, divide
    that, and then add.
    """
    count = tf.cast(tf.reduce_prod([tf.shape(x)[axis] for axis in axes]), dtype)

    @tf.custom_gradient
    def both(x):
        def gradient(of_x, of_mean):
            return of_x + tf.cast(of_mean / count, x.dtype)

        return (tf.identity(x), tf.reduce_mean(tf.cast(x, dtype), axes, keepdims=True)), gradient

    return both(x)


def scaled(x, gates, origin):
    """x * gates, for gates of size 1 along some axes; `origin` is x itself, or the tensor that x is identical to.

    The gradient by the gates needs x. Where `tag_recompute` was told how to compute that again, x is not kept for it.
    """
    recompute = getattr(origin, "recompute", None)
    if recompute is None or forwardprop_util.pack_tangents([x]).tangents:
        # Forward mode within a graph goes by the operations within a custom gradient, not by the gradient.
        return x * gates

    @tf.custom_gradient
    def product(x, gates):
        def gradient(upstream):
            axes = [i for i, size in enumerate(gates.shape) if size == 1]
            with tf.control_dependencies([upstream]):  # else it would run at once, and wait for the gradient
                again = recompute()
            return upstream * gates, tf.reduce_sum(upstream * again, axes, keepdims=True)

        return x * gates, gradient

    return product(x, gates)
