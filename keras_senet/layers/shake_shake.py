"""Shake-Shake regularisation."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_senet")
class ShakeShake(keras.layers.Layer):
    """Two equal tensors -> one, (N, H, W, C): alpha * a + (1 - alpha) * b with a random alpha for
    each image.

    In training alpha is uniform in 0..1, and the gradients are mixed by another, independent
    coefficient. In inference, and while `trainable` is False, it is 0.5.

    Args:
        forward: whether alpha is random in training; else 0.5.
        backward: whether the gradients' coefficient is random; else 0.5 ("Shake-Even").
        seed: an integer, or None for a random one.

    Source: Gastaldi, arXiv 1705.07485, at the level of images.
    """

    def __init__(self, forward=True, backward=True, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.random_forward = forward  # `forward` is what torch calls on its backend
        self.random_backward = backward
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs, training=None):
        a, b = inputs
        if not (training and self.trainable):
            return 0.5 * (a + b)
        alpha, beta = (
            self._coefficients(a, is_random)
            for is_random in (self.random_forward, self.random_backward)
        )
        # The second term is what alpha changes; no gradient goes through it, so that the gradients'
        # mixture is beta's.
        return beta * a + (1 - beta) * b + ops.stop_gradient((alpha - beta) * (a - b))

    def _coefficients(self, x, is_random):
        shape = (ops.shape(x)[0], 1, 1, 1)
        if not is_random:
            return ops.full(shape, 0.5, x.dtype)
        return ops.cast(
            keras.random.uniform(shape, seed=self.seed_generator, dtype="float32"), x.dtype
        )

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self):
        return super().get_config() | {
            "forward": self.random_forward,
            "backward": self.random_backward,
            "seed": self.seed,
        }
