"""Encoded images (JPEG, PNG, BMP, GIF, WebP) to uint8 tensors, in TensorFlow's graph or eagerly."""

import functools
import threading

import numpy as np
import tensorflow as tf

from keras_senet.images import headers
from keras_senet.images.bmp import decode_bmp
from keras_senet.images.formats import decode_gif, decode_webp
from keras_senet.images.in_graph import InGraph, assert_in_graph, ensure_rgb

# Bytes: reading the segments of a longer JPEG costs nothing compared to decoding it.
SEARCHED = 2**18
# Where a JPEG begins, and Adobe's marker: version 100, no flags, colours that are not transformed
ADOBE = b"\xff\xd8\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0"
LUMINANCE = (19595, 38470, 7471)  # of 65,536, ITU-R BT.601, as Pillow's
_tracing = threading.Lock()  # several images are decoded at once


@tf.autograph.experimental.do_not_convert
def decode(raw, channels: int, orientation=None, portable: bool = False) -> tf.Tensor:
    """An encoded image -> uint8 (H, W, channels) of 0..255, upright; the first picture of an
    animation.

    Alpha is ignored, as if the image were opaque; 16 bits become the upper eight; one channel is
    the luminance.

    Args:
        raw: a scalar tensor of its bytes.
        channels: 1 or 3; others as `tf.io.decode_image`.
        orientation: of the stored image, 1..8 as in EXIF; None is what the image says. With a
            number, `read_header` and `find_problem` must have checked the header.
        portable: whether a graph is for another process, as a SavedModel's: with the decoders of
            rare formats inside, whose graphs take each pipeline 0.5 s to prepare.

    Raises:
        tf.errors.InvalidArgumentError: if it cannot be decoded, or has more than `MAX_PIXELS`; see
            `describe_error`.
    """
    if orientation is None:
        orientation = read_orientation(raw)
    if channels in (1, 3):
        other = _decode_other if portable else _decode_other_here
        stored = ensure_rgb(_choose(tf.io.is_jpeg(raw), raw, _decode_jpeg, other, tf.uint8))
        image = _with_channels(stored, channels)
    else:
        image = tf.io.decode_image(raw, channels, expand_animations=False)
    return tf.ensure_shape(orient(image, orientation), (None, None, channels))


@tf.autograph.experimental.do_not_convert
def decode_jpeg_window(raw, channels: int, window, orientation) -> tf.Tensor:
    """The window (top, left, height, width), as stored, of a JPEG: uint8 (h, w, C), upright."""
    image = tf.io.decode_and_crop_jpeg(
        _mark_cmyk(raw), window, 3 if channels == 1 else channels, dct_method="INTEGER_ACCURATE"
    )
    return orient(_with_channels(image, channels), orientation)


def read_orientation(raw):
    """The EXIF orientation of an encoded image, 1..8; fails as `decode` does, by the header."""
    if tf.executing_eagerly():
        header = headers.read_header(bytes(raw.numpy()) if tf.is_tensor(raw) else raw)
        if problem := headers.find_problem(header):
            assert_in_graph(False, problem)
        return header.orientation
    kind, height, width, orientation = tf.unstack(_header(raw))
    is_small = tf.cast(height, tf.int64) * tf.cast(width, tf.int64) <= headers.MAX_PIXELS
    known = (kind != headers.UNKNOWN) & (height > 0) & (width > 0)
    checks = [
        assert_in_graph(
            known, f"an image is none of {', '.join(headers.FORMATS)}, or its header is damaged"
        ),
        assert_in_graph(
            is_small,
            tf.strings.format(
                f"an image has {{}} x {{}} pixels, and at most {headers.MAX_PIXELS:,} are decoded",
                (width, height),
            ),
        ),
    ]
    with tf.control_dependencies(checks):
        return tf.identity(orientation)


def orient(image, orientation) -> tf.Tensor:
    """An image (H, W, C) as stored -> upright, by its EXIF orientation 1..8 (tensor or number)."""
    orientation = tf.convert_to_tensor(orientation, tf.int32)

    def upright():
        sides = tf.cond(orientation > 4, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
        from_below = tf.reduce_any(orientation == (3, 4, 7, 8))
        from_right = tf.reduce_any(orientation == (2, 3, 6, 7))
        return tf.raw_ops.Reverse(tensor=sides, dims=tf.stack([from_below, from_right, False]))

    return tf.cond(
        orientation > 1, upright, lambda: tf.ensure_shape(image, (None, None, image.shape[-1]))
    )


def shrink(image: np.ndarray, most: int) -> np.ndarray:
    """An image uint8 (H, W, C), made smaller to at most so many pixels per side."""
    height, width, _ = image.shape
    factor = most / max(height, width)
    if factor >= 1:
        return image
    size = [max(1, round(n * factor)) for n in (height, width)]
    return tf.cast(tf.round(tf.image.resize(image, size, "area")), tf.uint8).numpy()


def describe_error(error: Exception) -> str:
    """One line of an error, without TensorFlow's internals."""
    if not isinstance(error, tf.errors.OpError):
        return str(error).partition("\n")[0][:300]
    message = error.message
    for begin, end in (("assertion failed: [", "]"), ("ValueError: ", "\n"), ("Error: ", "\n")):
        if begin in message:  # our own, in a graph or in Python called by one
            return message.partition(begin)[2].partition(end)[0].strip("b'\"")[:300]
    if isinstance(error, tf.errors.InvalidArgumentError):
        return "it is damaged or not complete"
    return message.split("}} ")[-1].split(" [Op:")[0].partition("\n")[0][:200]


def _with_channels(image, channels):
    """RGB (H, W, 3), uint8 -> the same, or its luminance (H, W, 1), rounded as Pillow's "L"."""
    if channels != 1:
        return image
    # Channel by channel: a large image takes gigabytes as int32
    parts = zip(tf.unstack(image, num=3, axis=-1), LUMINANCE, strict=True)
    weighted = sum(tf.cast(part, tf.int32) * factor for part, factor in parts)
    return tf.cast((weighted + 32768) // 65536, tf.uint8)[..., None]


def _choose(condition, raw, then, otherwise, dtype):
    """As `tf.cond` of two functions of the image; each is traced once.

    With `tf.cond`, the executor visits all nodes of the branch that is not taken: 3 ms per JPEG.
    """
    if tf.executing_eagerly():
        return (then if condition else otherwise)(raw)
    branches = {"then_branch": _trace(then), "else_branch": _trace(otherwise)}
    (chosen,) = tf.raw_ops.If(cond=condition, input=[raw], Tout=[dtype], **branches)
    return chosen


@functools.cache
def _trace(function):
    traced = tf.function(function, input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
    return traced.get_concrete_function()


def _decode_jpeg(raw):
    return ensure_rgb(tf.io.decode_jpeg(_mark_cmyk(raw), 3, dct_method="INTEGER_ACCURATE"))


def _mark_cmyk(raw):
    """A JPEG of four colours with Adobe's marker before its own one, if it has one.

    Without any TensorFlow takes the colours as they are, where all others take them as inverted.
    """
    is_cmyk = tf.io.extract_jpeg_shape(raw)[2] == 4
    rest = lambda: tf.strings.substr(raw, 2, tf.strings.length(raw))  # noqa: E731
    return tf.cond(is_cmyk, lambda: tf.strings.join([ADOBE, rest()]), lambda: raw)


def _decode_other(raw):
    return ensure_rgb(_choose(_is_png(raw), raw, _decode_png, _decode_rare, tf.uint8))


def _decode_other_here(raw):
    return ensure_rgb(_choose(_is_png(raw), raw, _decode_png, _call_rare, tf.uint8))


def _call_rare(raw):
    """As `_decode_rare`, whose graph is made where a rare format comes, once for all pipelines."""
    if tf.executing_eagerly():
        return _decode_rare(raw)

    def call(raw):
        try:
            with _tracing:
                decode_traced = _trace(_decode_rare)
            return decode_traced(tf.constant(raw)).numpy()
        except tf.errors.OpError as error:
            raise ValueError(describe_error(error)) from None

    return ensure_rgb(tf.numpy_function(call, [raw], tf.uint8, stateful=False))


def _is_png(raw):
    return _begin(raw) == b"\x89P"


def _begin(raw):
    return tf.strings.substr(raw, 0, tf.minimum(2, tf.strings.length(raw)))


def _decode_png(raw):
    return ensure_rgb(tf.io.decode_png(raw, 3))


def _decode_rare(raw):
    begins = _begin(raw)
    decoders = {
        b"BM": lambda: decode_bmp(raw),
        b"GI": lambda: decode_gif(raw),
        b"RI": lambda: decode_webp(raw),
    }
    cases = [(begins == beginning, decode) for beginning, decode in decoders.items()]
    return ensure_rgb(tf.case(cases, default=_refuse, exclusive=True))


def _refuse():
    with tf.control_dependencies(
        [assert_in_graph(False, f"it is none of {', '.join(headers.FORMATS)}")]
    ):
        return ensure_rgb(tf.zeros((0, 0, 3), tf.uint8))


def _header(raw):
    """The fields of a `Header`, int32 (4,), of an encoded image in a graph."""
    length = tf.strings.length(raw)

    def is_plain():  # most JPEGs: a search costs a tenth of reading the segments
        parts = [tf.strings.substr(raw, k, (length - k) // 4 * 4) for k in range(4)]
        numbers = [tf.io.decode_raw(part, tf.int32) for part in parts]
        exif = int.from_bytes(b"Exif", "little")
        return ~tf.reduce_any([tf.reduce_any(some == exif) for some in numbers])

    plain = tf.cond(
        tf.io.is_jpeg(raw) & (length > 3) & (length <= SEARCHED), is_plain, lambda: False
    )
    return tf.ensure_shape(_choose(plain, raw, _plain_header, _parse_header, tf.int32), (4,))


def _plain_header(raw):
    height, width = tf.unstack(tf.io.extract_jpeg_shape(raw))[:2]
    return tf.stack([headers.JPEG, height, width, 1])


def _parse_header(raw):
    return tf.stack(tf.autograph.to_graph(headers.parse)(InGraph(raw)))
