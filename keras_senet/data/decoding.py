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


def jpeg_sizes(encoded):
    """(height, width) of images as their files begin: int32 (n, 2); 0, 0 of what is not an ordinary, whole JPEG."""
    return np.array([_jpeg_size(one) for one in encoded], "int32").reshape(-1, 2)


def _jpeg_size(encoded):
    """Goes from segment to segment up to the frame header. Source: ITU-T T.81, Annex B."""
    # A truncated file must fail whatever the part, so one without an end is decoded as a whole.
    at = 2 if encoded[:2] == b"\xff\xd8" and encoded[-2:] == b"\xff\xd9" else len(encoded)
    while at + 9 <= len(encoded) and encoded[at] == 0xFF:
        marker = encoded[at + 1]
        if marker in (0xC0, 0xC1, 0xC2):  # baseline, extended, progressive
            return int.from_bytes(encoded[at + 5 : at + 7], "big"), int.from_bytes(encoded[at + 7 : at + 9], "big")
        if not 0xC4 <= marker <= 0xFE or 0xD0 <= marker <= 0xDA:  # none with a length, or the data
            break
        at += 2 + int.from_bytes(encoded[at + 2 : at + 4], "big")
    return 0, 0


def windows(boxes, sizes):
    """What to decode of JPEGs for the sake of boxes of them, and where these are in it: int32 (n, 2, 4).

    Colours, of half the resolution, are interpolated with their neighbours: a margin keeps these.
    """
    begin = np.maximum(boxes[:, :2] - MARGIN, 0)
    end = np.minimum(boxes[:, :2] + boxes[:, 2:] + MARGIN, sizes)
    around = np.concatenate([begin, end - begin], axis=1)
    within = np.concatenate([boxes[:, :2] - begin, boxes[:, 2:]], axis=1)
    return np.stack([around, within], axis=1).astype("int32")


def decode_part(raw, channels, window, box, choose):
    """A part of an encoded image: uint8 (h, w, C), the same as that part of the whole.

    Args:
        raw: the encoded image.
        channels: C.
        window: (top, left, height, width) of a JPEG; of height 0 where the size is not known before it is decoded.
        box: the part within the window.
        choose: a function of a size (2,) that gives the part of an image whose size was not known.
    """

    def part():
        image = tf.io.decode_and_crop_jpeg(raw, window, channels, dct_method="INTEGER_ACCURATE")
        return crop(image, box)

    def whole():
        image = decode(raw, channels)
        return crop(image, choose(tf.shape(image)[:2]))

    return tf.ensure_shape(tf.cond(window[2] > 0, part, whole), (None, None, channels))


def crop(image, box):
    """The box (top, left, height, width) of an image (H, W, C)."""
    return tf.slice(image, tf.concat([box[:2], [0]], 0), tf.concat([box[2:], [image.shape[-1]]], 0))


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
