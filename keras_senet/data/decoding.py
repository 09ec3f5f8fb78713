"""Parts of encoded images to uint8 tensors, in a graph; and what is wrong with an image that fails."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_senet.images import headers
from keras_senet.images.decoding import decode, decode_jpeg_window, reason_of

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


def read_headers(encoded, upright=True):
    """What the headers of encoded images say: (sizes int32 (n, 2), orientations int32 (n,)).

    A size is (height, width) of the upright image; 0, 0 of what can only be decoded as a whole.
    With `upright` False the orientations are 1: images stay as they are stored.

    Raises:
        ValueError: for an image that is none or has too many pixels; the message is the reason.
    """
    sizes, orientations = np.zeros((len(encoded), 2), "int32"), np.ones(len(encoded), "int32")
    for i, one in enumerate(encoded):
        header = headers.read_header(one)
        if problem := headers.why_not(header):
            raise ValueError(problem)
        header = header if upright else header._replace(orientation=1)
        orientations[i] = header.orientation
        # A truncated file must fail whatever the part, so one without an end is decoded as a whole.
        if header.format == headers.JPEG and one[-2:] == b"\xff\xd9":
            sizes[i] = header.upright_size
    return sizes, orientations


def windows(boxes, sizes):
    """What to decode of JPEGs for the sake of boxes of them, and where these are in it: int32 (n,
    2, 4).

    Colours, of half the resolution, are interpolated with their neighbours: a margin keeps these.
    """
    begin = np.maximum(boxes[:, :2] - MARGIN, 0)
    end = np.minimum(boxes[:, :2] + boxes[:, 2:] + MARGIN, sizes)
    around = np.concatenate([begin, end - begin], axis=1)
    within = np.concatenate([boxes[:, :2] - begin, boxes[:, 2:]], axis=1)
    return np.stack([around, within], axis=1).astype("int32")


def stored(window, size, orientation):
    """Where a window (top, left, height, width) of an upright image of a size (2,) is in the stored
    one.

    Turning the stored window gives the upright one: see `turn` of `keras_senet.images.decoding`.
    """
    top, left, height, width = tf.unstack(window)
    from_below, from_right = (
        tf.reduce_any(orientation == those) for those in ((3, 4, 7, 8), (2, 3, 6, 7))
    )
    top = tf.where(from_below, size[0] - top - height, top)
    left = tf.where(from_right, size[1] - left - width, left)
    sides = tf.stack([[top, left], [height, width]])
    return tf.reshape(tf.where(orientation > 4, sides[:, ::-1], sides), (4,))


def decode_part(raw, channels, window, box, choose, size=(0, 0), orientation=1):
    """A part of an encoded image: uint8 (h, w, C), the same as that part of the whole, upright one.

    Args:
        raw: the encoded image.
        channels: C.
        window: (top, left, height, width) of a JPEG; of height 0 where the size is not known before
        it is decoded. box: the part within the window. choose: a function of a size (2,) that gives
        the part of an image whose size was not known. size: (height, width) of the upright image,
        if it is known. orientation: how the image is turned: 1..8, as in EXIF.
    """

    def part():
        turned = tf.cond(orientation > 1, lambda: stored(window, size, orientation), lambda: window)
        return crop(decode_jpeg_window(raw, channels, turned, orientation), box)

    def whole():
        image = decode(raw, channels, orientation)
        return crop(image, choose(tf.shape(image)[:2]))

    orientation = tf.convert_to_tensor(orientation)
    return tf.ensure_shape(tf.cond(window[2] > 0, part, whole), (None, None, channels))


def crop(image, box):
    """The box (top, left, height, width) of an image (H, W, C)."""
    return tf.slice(image, tf.concat([box[:2], [0]], 0), tf.concat([box[2:], [image.shape[-1]]], 0))


def checked(labels, classes):
    """Labels (n,); the graph fails if one is none of 0..classes - 1."""
    outside = (labels < 0) | (labels >= classes)
    message = tf.strings.format(
        "labels that are no class of the dataset: {}", tf.boolean_mask(labels, outside)
    )
    with tf.control_dependencies([tf.debugging.Assert(~tf.reduce_any(outside), [message])]):
        return tf.identity(labels)


def why_corrupt(dataset, index):
    """`Corrupt` if an image of a dataset cannot be read or decoded, or has a label that is no
    class; else None.
    """
    try:
        images, labels = dataset.fetch(np.array([index], "int64"))
        dataset.decode(tf.constant(images[0]))
    except (tf.errors.OpError, ValueError, OSError) as error:
        return Corrupt(int(index), dataset.name_of(index), reason_of(error))
    if not 0 <= labels[0] < len(dataset.class_names):
        reason = f"its label {labels[0]} is none of 0..{len(dataset.class_names) - 1}"
        return Corrupt(int(index), dataset.name_of(index), reason)
    return None
