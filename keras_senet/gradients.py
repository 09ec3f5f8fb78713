"""Gradients on TensorFlow that keep less in memory, and go through it less often, than those it derives."""

import tensorflow as tf


def remember(tensor, compute):
    """Notes that `compute()` gives the tensor anew from others that training keeps anyway."""
    tensor.computed_anew = compute
    return tensor


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

    The gradient by the gates needs x. Where `remember` was told how to compute that anew, x is not kept for it.
    """
    compute = getattr(origin, "computed_anew", None)
    if compute is None:
        return x * gates

    @tf.custom_gradient
    def product(x, gates):
        def gradient(upstream):
            axes = [i for i, size in enumerate(gates.shape) if size == 1]
            with tf.control_dependencies([upstream]):  # else it would run at once, and wait for the gradient
                anew = compute()
            return upstream * gates, tf.reduce_sum(upstream * anew, axes, keepdims=True)

        return x * gates, gradient

    return product(x, gates)
