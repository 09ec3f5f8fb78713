"""Parts of encoded images to uint8 tensors, in a graph; and what is wrong with an image that fails."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_senet.decoding import decode, reason_of

MARGIN = 4  # pixels


class Corrupt(NamedTuple):
    """An image that cannot be used: its index in the dataset, its name, and why."""

    index: int
    name: str
    reason: str

    def __str__(self):
        return f"{self.name} cannot be used: {self.reason}"


class CorruptImageError(ValueError):
    """An image cannot be decoded, or its label is none; the message names the file and the reason."""


def decode_crop(raw, channels, choose):
    """The part of an encoded image that `choose(height, width)` names as (top, left, height, width): uint8 (h, w, C).

    Of a JPEG no more is decoded than that needs. It is the same as that part of the whole.
    """

    def part():
        shape = tf.image.extract_jpeg_shape(raw)
        box, size = choose(shape[0], shape[1]), shape[:2]
        # Colours, of half the resolution, are interpolated with their neighbours: a margin keeps these.
        begin = tf.maximum(box[:2] - MARGIN, 0)
        end = tf.minimum(box[:2] + box[2:] + MARGIN, size)
        window = tf.concat([begin, end - begin], 0)
        image = tf.io.decode_and_crop_jpeg(raw, window, channels, dct_method="INTEGER_ACCURATE")
        return crop(image, tf.concat([box[:2] - begin, box[2:]], 0))

    def whole():
        image = decode(raw, channels)
        return crop(image, choose(tf.shape(image)[0], tf.shape(image)[1]))

    # A truncated file must fail whatever the crop, so one without an end is decoded as a whole.
    last = tf.strings.substr(raw, tf.maximum(tf.strings.length(raw) - 2, 0), 2)
    image = tf.cond(tf.io.is_jpeg(raw) & (last == b"\xff\xd9"), part, whole)
    return tf.ensure_shape(image, (None, None, channels))


def crop(image, box):
    """The box (top, left, height, width) of an image (H, W, C)."""
    top, left, height, width = tf.unstack(box)
    return image[top : top + height, left : left + width]


def checked(labels, classes):
    """Labels (n,); the graph fails if one is none of 0..classes - 1."""
    outside = (labels < 0) | (labels >= classes)
    message = tf.strings.format("labels that are no class of the dataset: {}", tf.boolean_mask(labels, outside))
    with tf.control_dependencies([tf.debugging.Assert(~tf.reduce_any(outside), [message])]):
        return tf.identity(labels)


def why_corrupt(dataset, index):
    """`Corrupt` if an image of a dataset cannot be read or decoded, or has a label that is no class; else None."""
    try:
        images, labels = dataset.fetch(np.array([index], "int64"))
        dataset.decode(tf.constant(images[0]))
    except (tf.errors.OpError, ValueError, OSError) as error:
        return Corrupt(int(index), dataset.name_of(index), reason_of(error))
    if not 0 <= labels[0] < len(dataset.class_names):
        reason = f"its label {labels[0]} is none of 0..{len(dataset.class_names) - 1}"
        return Corrupt(int(index), dataset.name_of(index), reason)
    return None
