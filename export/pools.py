"""Means over the image as average pooling, for accelerators that lack TFLite's MEAN."""

import keras
from keras import ops

from keras_senet.copying import rebuild, with_config
from keras_senet.layers import SqueezeExcite


class PooledSqueezeExcite(SqueezeExcite):
    """An SE block whose squeeze is one window of average pooling."""

    def pool(self, x):
        return _mean(x)


class PooledAverage(keras.layers.GlobalAveragePooling2D):
    """The global average by one window of average pooling."""

    def call(self, inputs):
        mean = _mean(inputs)
        return mean if self.keepdims else ops.reshape(mean, (-1, inputs.shape[-1]))


def _mean(x):
    size = x.shape[1:3]
    if None in size:  # of a nested model, whose size only its call determines
        return ops.mean(x, axis=(1, 2), keepdims=True)
    return ops.average_pool(x, size, padding="valid")


def with_average_pooling(model):
    """A copy of a model in channels_last without MEAN: squeezes, and global averages."""

    def clone(layer):
        if isinstance(layer, SqueezeExcite) and layer.squeeze == "avg":
            return PooledSqueezeExcite.from_config(layer.get_config())
        if type(layer) is keras.layers.GlobalAveragePooling2D:
            return PooledAverage.from_config(layer.get_config())
        return with_config(layer)

    return rebuild(model, {}, clone=clone)
