"""One training step of a grouped convolution, 8x56x56x128 with 32 groups: Keras' Conv2D over
GroupedConv2D.
"""

import keras
import tensorflow as tf
from ratio import measure

from keras_senet.layers import GroupedConv2D


def step(layer, images):
    """Forward and both gradients, in a tf.function."""
    layer.build(images.shape)

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.reduce_sum(layer(images) ** 2)
        return tape.gradient(loss, [images, layer.kernel.value])

    return lambda: [gradient.numpy() for gradient in run()]


if __name__ == "__main__":
    images = tf.random.stateless_normal((8, 56, 56, 128), (0, 0))
    arguments = {
        "filters": 128,
        "kernel_size": 3,
        "groups": 32,
        "padding": "same",
        "use_bias": False,
    }
    layers = (keras.layers.Conv2D(**arguments), GroupedConv2D(**arguments))
    measure(
        ("keras.layers.Conv2D", "keras_senet GroupedConv2D"),
        [step(layer, images) for layer in layers],
        3,
    )
