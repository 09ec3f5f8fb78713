"""Boxes of encoded images to uint8 tensors, in a graph, and what is wrong with a corrupt image."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_senet.data.corrupt import Corrupt, find_wrong_label
from keras_senet.images import headers
from keras_senet.images.decoding import decode, decode_jpeg_window, describe_error

MARGIN = 4  # pixels


def read_headers(encoded: Sequence[bytes], upright: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """(sizes int32 (n, 2), orientations int32 (n,)) of encoded images, from their headers.

    A size is (height, width) of the upright image; 0, 0 if it can only be decoded as a whole.
    With `upright` False the orientations are 1: images stay as they are stored.

    Raises:
        ValueError: for what is not an image or has too many pixels; the message is the reason.
    """
    sizes, orientations = np.zeros((len(encoded), 2), "int32"), np.ones(len(encoded), "int32")
    for i, one in enumerate(encoded):
        header = headers.read_header(one)
        if problem := headers.find_problem(header):
            raise ValueError(problem)
        header = header if upright else header._replace(orientation=1)
        orientations[i] = header.orientation
        # A truncated file must fail whatever the box: without an end it is decoded as a whole.
        if header.format == headers.JPEG and one[-2:] == b"\xff\xd9":
            sizes[i] = header.upright_size
    return sizes, orientations


def plan_windows(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The windows of JPEGs to decode for their boxes, and the boxes in these: int32 (n, 2, 4).

    Colours, of half the resolution, are interpolated with their neighbours: hence a margin.
    """
    begin = np.maximum(boxes[:, :2] - MARGIN, 0)
    end = np.minimum(boxes[:, :2] + boxes[:, 2:] + MARGIN, sizes)
    around = np.concatenate([begin, end - begin], axis=1)
    within = np.concatenate([boxes[:, :2] - begin, boxes[:, 2:]], axis=1)
    return np.stack([around, within], axis=1).astype("int32")


def locate_stored(window, size, orientation):
    """The window (top, left, height, width) of the stored image that is a window of the upright
    one, of a size (2,).

    The inverse of `orient` in `keras_senet.images.decoding`.
    """
    top, left, height, width = tf.unstack(window)
    from_below, from_right = (
        tf.reduce_any(orientation == those) for those in ((3, 4, 7, 8), (2, 3, 6, 7))
    )
    top = tf.where(from_below, size[0] - top - height, top)
    left = tf.where(from_right, size[1] - left - width, left)
    sides = tf.stack([[top, left], [height, width]])
    return tf.reshape(tf.where(orientation > 4, sides[:, ::-1], sides), (4,))


def decode_box(raw, channels: int, windows, choose, size=(0, 0), orientation=1) -> tf.Tensor:
    """A box of an encoded image: uint8 (h, w, C), equal to that box of the whole, upright image.

    Args:
        raw: the encoded image.
        channels: C.
        windows: (2, 4), as of `plan_windows`: the window (top, left, height, width) of a JPEG, of
            height 0 where the size is not known before it is decoded, and the box within it.
        choose: a function of a size (2,) that returns the box of an image of unknown size.
        size: (height, width) of the upright image, if it is known.
        orientation: of the stored image, 1..8 as in EXIF.
    """

    def decode_window():
        in_file = tf.cond(
            orientation > 1, lambda: locate_stored(window, size, orientation), lambda: window
        )
        return crop_box(decode_jpeg_window(raw, channels, in_file, orientation), box)

    def decode_whole():
        image = decode(raw, channels, orientation)
        return crop_box(image, choose(tf.shape(image)[:2]))

    window, box = tf.unstack(windows)
    orientation = tf.convert_to_tensor(orientation)
    image = tf.cond(window[2] > 0, decode_window, decode_whole)
    return tf.ensure_shape(image, (None, None, channels))


def crop_box(image: tf.Tensor, box) -> tf.Tensor:
    """The box (top, left, height, width) of an image (H, W, C)."""
    return tf.slice(image, tf.concat([box[:2], [0]], 0), tf.concat([box[2:], [image.shape[-1]]], 0))


def check_labels(labels: tf.Tensor, classes: int) -> tf.Tensor:
    """Labels (n,); the graph fails unless all are in 0..classes - 1."""
    outside = (labels < 0) | (labels >= classes)
    message = tf.strings.format(
        "labels that are not classes of the dataset: {}", tf.boolean_mask(labels, outside)
    )
    with tf.control_dependencies([tf.debugging.Assert(~tf.reduce_any(outside), [message])]):
        return tf.identity(labels)


def find_corrupt(dataset, index: int) -> Corrupt | None:
    """`Corrupt` if an image of a dataset cannot be read or decoded, or its label is not a class."""
    try:
        images, labels = dataset.fetch(np.array([index], "int64"))
        dataset.decode(tf.constant(images[0]))
    except (tf.errors.OpError, ValueError, OSError) as error:
        return Corrupt(int(index), dataset.name_of(index), describe_error(error))
    return find_wrong_label(dataset, index, labels[0])
