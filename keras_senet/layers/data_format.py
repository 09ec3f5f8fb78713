"""Where the channels are."""

import keras

from keras_senet.fields import check_choice

TF_FORMATS = {"channels_last": "NHWC", "channels_first": "NCHW"}


def resolve_data_format(data_format):
    """The data format, or Keras' own for None. Raises ValueError for another."""
    if data_format is None:
        return keras.config.image_data_format()
    check_choice("data_format", data_format, TF_FORMATS)
    return data_format
