"""Layers that rearrange channels."""

import keras
from keras import ops

from keras_senet.layers.data_format import resolve_data_format


class ChannelLayer(keras.layers.Layer):
    """A layer that rearranges channels, whose place is that of its `data_format`."""

    def __init__(self, *, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.data_format = resolve_data_format(data_format)
        self.channel_axis = 3 if self.data_format == "channels_last" else 1
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def get_config(self):
        return super().get_config() | {"data_format": self.data_format}


@keras.saving.register_keras_serializable("keras_senet")
class PadChannels(ChannelLayer):
    """(N, H, W, C) -> (N, H, W, channels): zeros after the channels of the input."""

    def __init__(self, channels, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels

    def call(self, x):
        missing = self.channels - x.shape[self.channel_axis]
        return ops.pad(x, [(0, missing if axis == self.channel_axis else 0) for axis in range(4)])

    def compute_output_shape(self, input_shape):
        return tuple(
            self.channels if axis == self.channel_axis else n for axis, n in enumerate(input_shape)
        )

    def get_config(self):
        return super().get_config() | {"channels": self.channels}


@keras.saving.register_keras_serializable("keras_senet")
class ShuffleChannels(ChannelLayer):
    """(N, H, W, C) -> the same shape: channel i of group g becomes channel g of group i.

    Source: Zhang et al., arXiv 1707.01083, Figure 1.
    """

    def __init__(self, groups, **kwargs):
        super().__init__(**kwargs)
        self.groups = groups

    def call(self, x):
        axis = self.channel_axis
        shape = list(ops.shape(x))
        split = [*shape[:axis], self.groups, x.shape[axis] // self.groups, *shape[axis + 1 :]]
        order = list(range(5))
        order[axis], order[axis + 1] = order[axis + 1], order[axis]
        return ops.reshape(ops.transpose(ops.reshape(x, split), order), shape)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {"groups": self.groups}
