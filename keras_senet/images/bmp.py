"""A decoder of BMP in TensorFlow's graph, where TensorFlow's ignores palettes or fails."""

from typing import NamedTuple

import tensorflow as tf

from keras_senet.images import headers
from keras_senet.images.in_graph import InGraph, assert_in_graph, ensure_rgb, to_bytes


class _BMP(NamedTuple):
    """The header of a BMP; scalar tensors.

    Source: BITMAPFILEHEADER and BITMAPINFOHEADER (Windows), BITMAPCOREHEADER (OS/2).
    """

    start: tf.Tensor  # of the pixels, in bytes
    palette: tf.Tensor  # its place, in bytes
    entry: tf.Tensor  # bytes per colour of the palette
    height: tf.Tensor
    width: tf.Tensor
    bits: tf.Tensor  # per pixel
    compression: tf.Tensor
    from_top: tf.Tensor  # whether the first row is the top one
    masks: tf.Tensor  # of the colours, int32 (3,)
    has_masks: tf.Tensor


def _read_bmp_header(number):
    start, size = number(10, 4, True), number(14, 4, True)
    is_os2 = size == 12
    height, high = number(22, 4, True), number(24, 2, True)
    from_top = high > 32767
    height = tf.where(from_top, 65536 * (65535 - high) + 65536 - number(22, 2, True), height)
    bits = tf.where(is_os2, high, number(28, 2, True))
    compression = tf.where(is_os2, 0, number(30, 4, True))
    return _BMP(
        start,
        palette=tf.where(is_os2, 26, 14 + size),
        entry=tf.where(is_os2, 3, 4),
        height=tf.where(is_os2, number(20, 2, True), height),
        width=tf.where(is_os2, number(18, 2, True), number(18, 4, True)),
        bits=bits,
        compression=compression,
        from_top=from_top,
        masks=tf.stack([number(at, 4, True) for at in (54, 58, 62)]),
        has_masks=(compression == 3) & ((bits == 16) | (bits == 32)),
    )


def decode_bmp(raw: tf.Tensor) -> tf.Tensor:
    """Uncompressed BMPs of 1, 4, 8, 16, 24 and 32 bits per pixel; TensorFlow ignores palettes."""
    content = tf.strings.join([raw, tf.constant(bytes(64))])  # so that each field is there
    header = _read_bmp_header(InGraph(content).number)
    rows, width = _bmp_rows(raw, header), header.width
    kinds = {
        n: lambda n=n: _from_palette(_indices(rows, width, n), content, header) for n in (1, 4, 8)
    }
    kinds |= {
        16: lambda: _of_16_bits(rows, header),
        24: lambda: tf.reshape(rows[:, : 3 * width], (header.height, width, 3))[..., ::-1],
        32: lambda: _of_32_bits(tf.reshape(rows, (header.height, width, 4)), header),
    }
    cases = [(header.bits == n, make) for n, make in kinds.items()]
    return ensure_rgb(tf.case(cases, exclusive=True))


def _bmp_rows(raw, header):
    """The rows of pixels from the top, uint8 (H, bytes); fails unless they are complete."""
    bits, width, height = (tf.cast(n, tf.int64) for n in (header.bits, header.width, header.height))
    stride = tf.cast((bits * width + 31) // 32 * 4, tf.int32)
    length = tf.cast(stride, tf.int64) * height
    end = tf.cast(header.start, tf.int64) + length
    is_known = tf.reduce_any(header.bits == (1, 4, 8, 16, 24, 32))
    is_whole = end <= tf.cast(tf.strings.length(raw), tf.int64)
    checks = [
        assert_in_graph(
            is_known & ((header.compression == 0) | header.has_masks),
            "the BMP is compressed (RLE) or of an unknown kind",
        ),
        assert_in_graph(is_whole & (width > 0) & (height > 0), "the BMP is not complete"),
    ]
    with tf.control_dependencies(checks):
        pixels = tf.strings.substr(raw, header.start, tf.cast(length, tf.int32))
    rows = tf.reshape(to_bytes(pixels), (header.height, stride))
    return tf.where(header.from_top, rows, rows[::-1])


def _indices(rows, width, bits):
    """Indices into the palette (H, W), of rows of bytes; the first one is in the highest bits."""
    shifts = tf.constant(list(range(8 - bits, -1, -bits)), tf.uint8)
    parts = tf.bitwise.right_shift(rows[..., None], shifts) & tf.constant(2**bits - 1, tf.uint8)
    return tf.reshape(parts, (tf.shape(rows)[0], tf.shape(rows)[1] * (8 // bits)))[:, :width]


def _from_palette(indices, content, header):
    """(H, W, 3) of the colours' indices in the palette (BGR), which ends before the pixels."""
    begin, entry = header.palette, header.entry
    count = tf.clip_by_value(header.start - begin, 0, 256 * entry) // entry * entry
    content = tf.strings.substr(content, tf.minimum(begin, tf.strings.length(content)), count)
    table = tf.reshape(to_bytes(content), (-1, entry))[:, 2::-1]
    black = tf.zeros((256 - tf.shape(table)[0], 3), tf.uint8)  # colours that it lacks
    table = tf.concat([table, black], 0)
    return tf.gather(table, tf.cast(indices, tf.int32))


def _of_16_bits(rows, header):
    """Five bits per colour, or six of green if the masks say so, scaled to 0..255 as in Pillow."""
    pairs = tf.cast(tf.reshape(rows, (tf.shape(rows)[0], -1, 2))[:, : header.width], tf.int32)
    values = pairs[..., 0] + 256 * pairs[..., 1]
    masks, has_masks = header.masks, header.has_masks
    six = has_masks & tf.reduce_all(masks == (0xF800, 0x7E0, 0x1F))
    five = ~has_masks | tf.reduce_all(masks == (0x7C00, 0x3E0, 0x1F))
    with tf.control_dependencies(
        [assert_in_graph(six | five, "the BMP has unusual masks of its colours")]
    ):
        green = tf.where(six, 63, 31)
    colours = [values // tf.where(six, 2048, 1024) % 32, values // 32 % (green + 1), values % 32]
    scaled = [colour * 255 // most for colour, most in zip(colours, (31, green, 31), strict=True)]
    return tf.cast(tf.stack(scaled, -1), tf.uint8)


def _of_32_bits(pixels, header):
    """The bytes (H, W, 4) by the masks of the colours, else blue first."""
    places = header.masks[:, None] == (0xFF, 0xFF00, 0xFF0000, headers.LARGEST)
    usual = ~header.has_masks | tf.reduce_all(tf.reduce_any(places, 1))
    with tf.control_dependencies(
        [assert_in_graph(usual, "the BMP has unusual masks of its colours")]
    ):
        chosen = tf.where(header.has_masks, tf.argmax(places, 1), (2, 1, 0))
    return tf.gather(pixels, chosen, axis=2)
