"""Where the channels are."""

import keras

TF_FORMATS = {"channels_last": "NHWC", "channels_first": "NCHW"}


def resolve_data_format(data_format):
    """The data format, or Keras' own for None. Raises ValueError for another."""
    if data_format is None:
        return keras.config.image_data_format()
    if data_format not in TF_FORMATS:
        raise ValueError(
            f"`data_format` must be one of {list(TF_FORMATS)}. "
            f"Received: data_format={data_format!r}"
        )
    return data_format
