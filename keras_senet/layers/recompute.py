"""Gradients on TensorFlow that keep less in memory, and go through it less often, than those it
derives.
"""

import tensorflow as tf
from tensorflow.python.eager import forwardprop_util  # pyright: ignore[reportMissingImports]


def tag_recompute(tensor, function, *arguments):
    """The tensor, with a note that `function(*arguments)` computes it again from tensors that
    training keeps anyway.

    It runs in the backward pass, when weights may have changed: `function` must not read variables.
    """
    tensor.recompute = function, arguments
    return tensor


def differentiate_moments(x, mean, variance, axes):
    """(mean, variance) of x over `axes`, without these axes, as functions of x whose gradients are
    exact.

    TensorFlow has no gradient through the moments of FusedBatchNormV3, and `tf.nn.moments` stops
    the one that the variance has through the mean: it is 0, but its derivatives are not, and second
    derivatives need them.
    """

    @tf.custom_gradient
    def moments(x):
        def gradient(of_mean, of_variance):
            wide = tf.cast(x, mean.dtype)
            # Again from x: `mean` would be a constant here
            average = tf.reduce_mean(wide, axes, keepdims=True)
            of_mean, of_variance = (
                tf.reshape(g, tf.shape(average)) for g in (of_mean, of_variance)
            )
            count = _values_per_mean(x, average)
            return tf.cast((of_mean + 2 * of_variance * (wide - average)) / count, x.dtype)

        return (tf.identity(mean), tf.identity(variance)), gradient

    return moments(x)


def split_mean(x, axes, dtype):
    """(x, its mean over `axes` in `dtype`, with these axes of size 1).

    The gradients of both meet here in one addition. TensorFlow would first spread the mean's to the
    size of x, divide that, and then add.
    """

    @tf.custom_gradient
    def both(x):
        def gradient(of_x, of_mean):
            return of_x + tf.cast(of_mean / _values_per_mean(x, of_mean), x.dtype)

        return (tf.identity(x), tf.reduce_mean(tf.cast(x, dtype), axes, keepdims=True)), gradient

    return both(x)


def _values_per_mean(x, mean):
    return tf.cast(tf.size(x, tf.int64) // tf.size(mean, tf.int64), mean.dtype)


def scale_by(x, gates, origin):
    """x * gates, for gates of size 1 along some axes; `origin` is x itself, or the tensor that x is
    identical to.

    The gradient by the gates needs x. Where `tag_recompute` was told how to compute that again, x
    is not kept for it.
    """
    function, arguments = getattr(origin, "recompute", (None, ()))
    if function is None or forwardprop_util.pack_tangents([x]).tangents:
        # Forward mode within a graph goes by the operations within a custom gradient, not by the
        # gradient.
        return x * gates
    # identity: within a branch of `tf.cond`, its gradient has no access to tensors from outside
    arguments = [tf.identity(each) for each in arguments]

    @tf.custom_gradient
    def product(x, gates):
        def gradient(upstream):
            axes = [i for i, size in enumerate(gates.shape) if size == 1]
            # Else it would run at once, and wait for the gradient
            with tf.control_dependencies([upstream]):
                again = function(*arguments)
            return upstream * gates, tf.reduce_sum(upstream * again, axes, keepdims=True)

        return x * gates, gradient

    return product(x, gates)
