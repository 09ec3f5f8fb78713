"""Gradients of a layer's sum by its inputs, on the current backend."""

import keras
import numpy as np


def value_and_gradients(layer, inputs, **call):
    """The output, and the gradients of its sum by each input, as NumPy arrays."""
    value, gradients = globals()[f"_{keras.backend.backend()}"](layer, inputs, **call)
    return keras.ops.convert_to_numpy(value), [keras.ops.convert_to_numpy(g) for g in gradients]


def _tensorflow(layer, inputs, **call):
    import tensorflow as tf

    inputs = [tf.constant(x) for x in inputs]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value = layer(inputs, **call)
        total = tf.reduce_sum(value)
    return value, tape.gradient(total, inputs)


def _torch(layer, inputs, **call):
    inputs = [keras.ops.convert_to_tensor(x).requires_grad_() for x in inputs]
    value = layer(inputs, **call)
    value.sum().backward()
    return value.detach(), [x.grad for x in inputs]


def _jax(layer, inputs, **call):
    import jax

    layer.build([x.shape for x in inputs])
    state = [v.value for v in layer.non_trainable_variables]

    def total(inputs):
        value, _ = layer.stateless_call([], state, inputs, **call)
        return value.sum(), value

    gradients, value = jax.grad(total, has_aux=True)([np.asarray(x) for x in inputs])
    return value, gradients
