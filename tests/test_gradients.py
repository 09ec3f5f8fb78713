"""First and second derivatives in training, against their formulas in float64, wherever a gradient may be taken.

The formulas are TensorFlow's plain operations. Keras' own layers are no reference for second derivatives: Keras takes
moments by `tf.nn.moments`, which stops the gradient from the variance to the mean (see the finite differences below).
"""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_senet.layers import BatchNormalization, GroupedConv2D, SqueezeExcite

CHANNELS = 6
TOLERANCE = {"float32": 5e-6, "mixed_float16": 1e-2, "mixed_bfloat16": 6e-2}  # the largest error over the largest value


class Network:
    """Images (N, H, W, 6) -> the same shape by batch normalisation and an SE block, and by their formulas in float64."""

    def __init__(self, normalization="batch statistics", dtype="float32", squeeze="avg", data_format="channels_last"):
        random = np.random.default_rng(0)
        self.is_last = data_format == "channels_last"
        self.norm = BatchNormalization(axis=-1 if self.is_last else 1, dtype=dtype)
        self.gate = SqueezeExcite(2, squeeze, dtype=dtype, data_format=data_format)
        self.norm.trainable = normalization == "batch statistics"
        for layer in (self.norm, self.gate):
            layer.build((None, None, None, CHANNELS) if self.is_last else (None, CHANNELS, None, None))
            layer.built = True
            low = 0.5 if layer is self.norm else -1.5  # a gate of positive weights alone is 1 everywhere
            # Of eighths, which float16 and bfloat16 have, so that only the arithmetic rounds.
            layer.set_weights([np.round(8 * random.uniform(low, 1.5, w.shape)) / 8 for w in layer.get_weights()])
        self.variables = [self.norm.gamma, self.norm.beta, *self.gate.trainable_variables]

    def __call__(self, x):
        x = x if self.is_last else tf.transpose(x, (0, 3, 1, 2))
        x = self.gate(self.norm(tf.cast(x, self.norm.compute_dtype), training=True), training=True)
        return tf.cast(x if self.is_last else tf.transpose(x, (0, 2, 3, 1)), "float32")

    def values(self):
        """The layers' variables, float64, in the order of `variables`, then the moving mean and variance."""
        weights = [*self.variables, self.norm.moving_mean, self.norm.moving_variance]
        return [tf.constant(w.numpy(), "float64") for w in weights]

    def formula(self, x, values):
        gamma, beta, k1, b1, k2, b2, mean, variance = values
        if self.norm.trainable:
            mean = tf.reduce_mean(x, (0, 1, 2))
            variance = tf.reduce_mean((x - mean) ** 2, (0, 1, 2))
        y = (x - mean) / tf.sqrt(variance + self.norm.epsilon) * gamma + beta
        squeezed = {"avg": tf.reduce_mean, "max": tf.reduce_max}[self.gate.squeeze](y, (1, 2), keepdims=True)
        return y * tf.sigmoid(tf.nn.relu(squeezed @ k1[0] + b1) @ k2[0] + b2)


def images(*shape, seed=1):
    return np.round(8 * np.random.default_rng(seed).normal(size=shape)) / 8


def loss(y, upstream):
    return tf.reduce_sum(tf.tanh(y) * tf.cast(upstream, y.dtype))


def first(f, x, variables):
    """Gradients of the loss of f(x) by the variables and x."""
    with tf.GradientTape() as tape:
        tape.watch([x, *variables])
        value = f(x)
    return tape.gradient(value, [*variables, x])


def penalty(f, x, variables):
    """Gradients of a penalty on the gradient by x: a second tape around the first."""
    with tf.GradientTape() as outer:
        outer.watch([x, *variables])
        value = tf.reduce_sum(first(f, x, [])[0] ** 2)
    return outer.gradient(value, [*variables, x])


def hessian_by_forward(f, x, variables):
    """The Hessian's product with a vector, forward over reverse."""
    with tf.autodiff.ForwardAccumulator(x, tf.cast(images(*x.shape, seed=4), x.dtype)) as accumulator:
        gradients = first(f, x, variables)
    return [accumulator.jvp(g) for g in gradients]


ORDERS = {"first": first, "penalty": penalty, "forward over reverse": hessian_by_forward}

# Ways to call a function of images.
WAYS = {
    "plain": lambda f, x: f(x),
    "siamese": lambda f, x: f(x) - f(2 * x[::-1] + 1),
    "twice": lambda f, x: f(f(x)),
    "function": lambda f, x: tf.function(f, autograph=False)(x),
    "xla": lambda f, x: tf.function(f, autograph=False, jit_compile=True)(x),
    "recompute_grad": lambda f, x: tf.recompute_grad(lambda x: f(x))(x),
    "map_fn": lambda f, x: tf.map_fn(f, tf.stack([x, 2 * x]))[1],
    "while_loop": lambda f, x: tf.while_loop(
        lambda i, _: i < 2, lambda i, y: (i + 1, f(y)), (0, x), maximum_iterations=2
    )[1],
    "cond": lambda f, x: tf.cond(tf.reduce_sum(x**2) > 0, lambda: f(x), lambda: x),
}


def check(found, expected, tolerance):
    assert len(found) == len(expected)
    for value, right in zip(found, expected, strict=True):
        value, right = np.asarray(tf.cast(value, "float64")), np.asarray(right)
        assert np.abs(value - right).max() <= tolerance * np.abs(right).max()


def compare(network, x, order, way=WAYS["plain"], run=lambda f: f, dtype="float32", **given):
    """Derivatives of the network against those of its formula, which is called in the plain way unless another is given."""
    upstream, values = tf.constant(images(*x.shape, seed=2)), network.values()
    variables = [v.value for v in network.variables]
    found = run(lambda x: ORDERS[order](lambda x: loss(way(network, x), upstream), x, variables))(tf.constant(x, "float32"))
    by_formula = given.get("expected", way)

    def formula(x):
        return loss(by_formula(lambda x: network.formula(x, values), x), upstream)

    check(found, ORDERS[order](formula, tf.constant(x), values[:6]), TOLERANCE[dtype])


RUNS = {
    "eager": lambda f: f,
    "graph": lambda f: tf.function(f, autograph=False),
    "xla": lambda f: tf.function(f, autograph=False, jit_compile=True),
}
