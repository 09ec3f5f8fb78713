"""Networks in which one layer is hostile to integers, and the same in float.

A channel of a convolution that is followed by ReLU is multiplied by a number, and the weights of
the next convolution for it are divided: the network computes the same in float. In integers a large
number takes the range of the first one's output, a small one that of the next one's weights.
"""

import little
import numpy as np
import report_runs

FACTOR = 1000.0
FIRST, SECOND = "stage2_block1_conv1", "stage2_block1_conv2"


def rescaled(factor, channel=0):
    """The network of `report_runs` with one channel between two convolutions multiplied, and
    divided again.
    """
    model = report_runs.network(little.DEEPER)
    norm = model.get_layer(f"{FIRST}_bn")
    for variable in (norm.gamma, norm.beta):
        values = np.array(variable)
        values[channel] *= factor
        variable.assign(values)
    kernel = np.array(model.get_layer(SECOND).kernel)
    kernel[:, :, channel] /= factor
    model.get_layer(SECOND).kernel.assign(kernel)
    return model


def random_images(count=100):
    """Images of which int8 has most right, and less if a layer is hostile."""
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), "uint8")


def predictions(model, images):
    """The classes that Keras predicts."""
    return np.argmax(model(model.preprocessing.normalize(images)), axis=-1)
