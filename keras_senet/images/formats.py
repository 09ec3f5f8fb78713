"""Decoders of BMP, GIF and WebP in TensorFlow's graph, where TensorFlow's fail or do too much."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_senet.images import headers

PART = 2**13  # bytes of a GIF whose blocks are followed at once


class InGraph:
    """The bytes of a file, a scalar string tensor, as `headers.parse` reads them."""

    def __init__(self, raw):
        self.raw, self.length = raw, tf.strings.length(raw)

    @tf.autograph.experimental.do_not_convert
    def number(self, at, count, little=False):
        """See `headers.Content.number`; int32."""
        part = tf.strings.substr(self.raw, tf.minimum(at, self.length), count)
        values = tf.cast(tf.io.decode_raw(part, tf.uint8, fixed_length=count), tf.int64)
        factors = np.array([256**k for k in range(count)])
        if tf.is_tensor(little):
            factors = tf.where(little, factors, factors[::-1])
        elif not little:
            factors = factors[::-1]
        return tf.cast(tf.minimum(tf.reduce_sum(values * factors), headers.LARGEST), tf.int32)


def ensure_rgb(image: tf.Tensor) -> tf.Tensor:
    """The image with the static shape (None, None, 3), which all branches of a graph return."""
    return tf.ensure_shape(image, (None, None, 3))


def assert_in_graph(holds, message):
    """An operation that fails with the message unless `holds` is true."""
    return tf.raw_ops.Assert(condition=holds, data=[tf.convert_to_tensor(message)], summarize=10)


def _bytes(raw):
    """The bytes of a file: uint8 (n,)."""
    return tf.io.decode_raw(raw, tf.uint8)


def decode_webp(raw: tf.Tensor) -> tf.Tensor:
    """The first picture of a WebP. Source: RFC 9649."""
    number = InGraph(raw).number
    is_extended = number(12, 4) == 0x56503858  # VP8X
    is_animated = is_extended & (number(20, 1) // 2 % 2 == 1)
    return tf.cond(is_animated, lambda: _first_of_webp(raw, number), lambda: _still_webp(raw))


def _still_webp(raw):
    """TensorFlow decodes three channels or, with alpha, four."""
    return ensure_rgb(tf.io.decode_image(raw, 0, expand_animations=False)[..., :3])


def _first_of_webp(raw, number):
    """Its first frame as a file of its own, on its canvas: TensorFlow fails for animations without
    alpha.
    """
    length = tf.strings.length(raw)

    def step(at):
        return at + 8 + (tf.minimum(number(at + 4, 4, True), length) + 1) // 2 * 2

    def is_other(at):
        return (number(at, 4) != 0x414E4D46) & (at < length)  # ANMF

    (at,) = tf.nest.flatten(tf.while_loop(is_other, lambda at: (step(at),), (tf.constant(12),)))
    size = number(at + 4, 4, True)
    pixels = (1 + tf.cast(number(at + 14, 3, True), tf.int64)) * (
        1 + tf.cast(number(at + 17, 3, True), tf.int64)
    )
    checks = [
        assert_in_graph((size > 16) & (size <= length - at - 8), "the WebP is not complete"),
        assert_in_graph(
            pixels <= headers.MAX_PIXELS, f"the WebP has more than {headers.MAX_PIXELS:,} pixels"
        ),
    ]
    with tf.control_dependencies(checks):
        data = tf.strings.substr(raw, at + 24, size - 16)
    header = tf.strings.join([b"VP8X\x0a\0\0\0\x10\0\0\0", tf.strings.substr(raw, at + 14, 6)])
    begin = tf.strings.join([b"RIFF", _little_endian(4 + 18 + size - 16), b"WEBP"])
    image = _still_webp(tf.strings.join([begin, header, data]))
    height, width = 1 + number(27, 3, True), 1 + number(24, 3, True)
    return _place(image, 2 * number(at + 11, 3, True), 2 * number(at + 8, 3, True), height, width)


def _place(image, top, left, height, width):
    """The picture (h, w, 3) at a place of a black canvas, enlarged where it does not contain it."""
    below = tf.maximum(height - top - tf.shape(image)[0], 0)
    right = tf.maximum(width - left - tf.shape(image)[1], 0)
    return ensure_rgb(tf.pad(image, [[top, below], [left, right], [0, 0]]))


def _little_endian(number):
    """The four bytes of an integer."""
    table = tf.constant([bytes([value]) for value in range(256)])
    return tf.strings.reduce_join(tf.gather(table, number // (1, 256, 65536, 16777216) % 256))


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
    rows = tf.reshape(_bytes(pixels), (header.height, stride))
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
    table = tf.reshape(_bytes(content), (-1, entry))[:, 2::-1]
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


def decode_gif(raw: tf.Tensor) -> tf.Tensor:
    """The first picture of a GIF on its screen, which it may not fill. Source: GIF89a, 18 to 22."""
    content = tf.cast(_bytes(tf.strings.join([raw, tf.constant(bytes(32))])), tf.int32)
    last = tf.shape(content)[0] - 1
    flags = content[10]
    begin = 13 + tf.where(flags > 127, 3 * 2 ** (flags % 8 + 1), 0)
    at, transparent = _skip_extensions(content, begin)
    field = [content[tf.minimum(at + k, last)] for k in range(10)]  # of the picture
    left, top, width, height = (field[k] + 256 * field[k + 1] for k in (1, 3, 5, 7))
    table = tf.where(field[9] > 127, 3 * 2 ** (field[9] % 8 + 1), 0)
    end = _end_of_blocks(content, at + 11 + table)
    right = tf.maximum(content[6] + 256 * content[7], left + width)
    bottom = tf.maximum(content[8] + 256 * content[9], top + height)
    pixels = tf.cast(right, tf.int64) * tf.cast(bottom, tf.int64)
    is_whole = (field[0] == 0x2C) & (end <= tf.strings.length(raw))
    checks = [
        assert_in_graph(is_whole, "the GIF is damaged or not complete"),
        assert_in_graph(
            pixels <= headers.MAX_PIXELS, f"the GIF has more than {headers.MAX_PIXELS:,} pixels"
        ),
    ]
    with tf.control_dependencies(checks):
        head, rest = tf.strings.substr(raw, 0, begin), tf.strings.substr(raw, at + 5, end - at - 5)
    # TensorFlow would decode all pictures, loses a part of one that is not in the corner, and makes
    # pixels black that an extension declares transparent.
    first = tf.strings.join([head, b",\0\0\0\0", rest, b";"])
    image = ensure_rgb(tf.io.decode_image(first, 3, expand_animations=False))
    # The rest of the screen has the transparent colour, as in Pillow: viewers draw no background.
    palette = tf.where(field[9] > 127, at + 10, 13)
    place = tf.minimum(palette + 3 * tf.maximum(transparent, 0) + (0, 1, 2), last)
    has_palette = (field[9] > 127) | (flags > 127)
    empty = tf.where(has_palette, tf.gather(content, place), 0)
    around = [[top, bottom - top - height], [left, right - left - width], [0, 0]]
    padded = tf.pad(tf.cast(image, tf.int32) - empty, around)
    return ensure_rgb(tf.cast(padded + empty, tf.uint8))


def _skip_extensions(content, at):
    """(where the first picture of a GIF begins, its transparent colour or -1); `at` is the first
    extension.
    """
    last = tf.shape(content)[0] - 1

    def is_extension(at, transparent):
        return content[tf.minimum(at, last)] == 0x21

    def after(at, transparent):
        is_control = (content[tf.minimum(at + 1, last)] == 0xF9) & (
            content[tf.minimum(at + 3, last)] % 2 == 1
        )
        transparent = tf.where(is_control, content[tf.minimum(at + 6, last)], transparent)
        return _end_of_blocks(content, at + 2), transparent

    return tf.while_loop(is_extension, after, (at, tf.constant(-1)))


def _end_of_blocks(content, at):
    """Where a sequence of sub-blocks that begins at `at` ends: after the empty one, or beyond
    `content` if there is none.

    Each block states its length. Following them from all places of a part at once takes log(n)
    steps, and of an animation only the parts of its first picture are read.
    """

    def follow(at, _):
        part = content[at : at + PART]
        count = tf.shape(part)[0]
        places = tf.range(count + 256)
        following = places + tf.pad(tf.where(part > 0, part + 1, 0), [[0, 256]])
        for _ in range(PART.bit_length()):
            following = tf.gather(following, following)
        return at + following[0], following[0] < count

    at, _ = tf.while_loop(
        lambda at, ended: ~ended & (at < tf.shape(content)[0]), follow, (at, tf.constant(False))
    )
    return at + 1
