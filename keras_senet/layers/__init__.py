"""SqueezeExcite, drop-in layers for what Keras computes slowly on TensorFlow, and what single
families need.
"""

from keras_senet.layers.batch_normalization import BatchNormalization
from keras_senet.layers.channels import PadChannels, ShuffleChannels
from keras_senet.layers.grouped_conv import GroupedConv2D
from keras_senet.layers.shake_shake import ShakeShake
from keras_senet.layers.squeeze_excite import SqueezeExcite

__all__ = [
    "BatchNormalization",
    "GroupedConv2D",
    "PadChannels",
    "ShakeShake",
    "ShuffleChannels",
    "SqueezeExcite",
]
