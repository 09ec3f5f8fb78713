"""Decoders of BMP, GIF and WebP in TensorFlow's graph, where its own ones fail or do too much."""

import numpy as np
import tensorflow as tf

from keras_senet.images import headers

PART = 2**13  # bytes of a GIF that are gone through at once


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


def any_size(image):
    """The image, known to have three channels and neither height nor width: what all branches
    return.
    """
    return tf.ensure_shape(image, (None, None, 3))


def check(holds, message):
    """An operation that fails with a message unless it holds."""
    return tf.raw_ops.Assert(condition=holds, data=[tf.convert_to_tensor(message)], summarize=10)


def _bytes(raw):
    """The bytes of a file: uint8 (n,)."""
    return tf.io.decode_raw(raw, tf.uint8)


def decode_webp(raw):
    """The first picture of a WebP. Source: RFC 9649."""
    number = InGraph(raw).number
    is_animated = (number(12, 4) == 0x56503858) & (
        number(20, 1) // 2 % 2 == 1
    )  # VP8X, and its flag
    return tf.cond(is_animated, lambda: _first_of_webp(raw, number), lambda: _still_webp(raw))


def _still_webp(raw):
    """TensorFlow has three channels or, where there is alpha, four."""
    return any_size(tf.io.decode_image(raw, 0, expand_animations=False)[..., :3])


def _first_of_webp(raw, number):
    """Its first frame as a file of its own, on its canvas: TensorFlow fails for animations without
    alpha.
    """
    length = tf.strings.length(raw)

    def step(at):
        return at + 8 + (tf.minimum(number(at + 4, 4, True), length) + 1) // 2 * 2

    is_other = lambda at: (number(at, 4) != 0x414E4D46) & (at < length)  # noqa: E731 -- ANMF
    at = tf.nest.flatten(tf.while_loop(is_other, lambda at: (step(at),), (tf.constant(12),)))[0]
    size = number(at + 4, 4, True)
    pixels = (1 + tf.cast(number(at + 14, 3, True), tf.int64)) * (
        1 + tf.cast(number(at + 17, 3, True), tf.int64)
    )
    checks = [
        check((size > 16) & (size <= length - at - 8), "the WebP is not complete"),
        check(
            pixels <= headers.MAX_PIXELS, f"the WebP has more than {headers.MAX_PIXELS:,} pixels"
        ),
    ]
    with tf.control_dependencies(checks):
        data = tf.strings.substr(raw, at + 24, size - 16)
    header = tf.strings.join([b"VP8X\x0a\0\0\0\x10\0\0\0", tf.strings.substr(raw, at + 14, 6)])
    begin = tf.strings.join([b"RIFF", _little_endian(4 + 18 + size - 16), b"WEBP"])
    image = _still_webp(tf.strings.join([begin, header, data]))
    height, width = 1 + number(27, 3, True), 1 + number(24, 3, True)
    return _placed(image, 2 * number(at + 11, 3, True), 2 * number(at + 8, 3, True), height, width)


def _placed(image, top, left, height, width):
    """The picture (h, w, 3) at a place of a black one, which grows where it would not hold it."""
    below = tf.maximum(height - top - tf.shape(image)[0], 0)
    beside = tf.maximum(width - left - tf.shape(image)[1], 0)
    return any_size(tf.pad(image, [[top, below], [left, beside], [0, 0]]))


def _little_endian(number):
    """The four bytes of an integer."""
    table = tf.constant([bytes([value]) for value in range(256)])
    return tf.strings.reduce_join(tf.gather(table, number // (1, 256, 65536, 16777216) % 256))


def decode_bmp(raw):
    """Uncompressed BMPs of 1, 4, 8, 16, 24 and 32 bits a pixel; TensorFlow knows no palettes.

    Source: BITMAPFILEHEADER and BITMAPINFOHEADER (Windows), BITMAPCOREHEADER (OS/2).
    """
    content = tf.strings.join([raw, tf.constant(bytes(64))])  # so that each field is there
    number = InGraph(content).number
    start, size = number(10, 4, True), number(14, 4, True)
    is_os2 = size == 12
    height, width = number(22, 4, True), number(18, 4, True)
    from_top = number(24, 2, True) > 32767
    height = tf.where(
        from_top, 65536 * (65535 - number(24, 2, True)) + 65536 - number(22, 2, True), height
    )
    height, width = (
        tf.where(is_os2, number(20, 2, True), height),
        tf.where(is_os2, number(18, 2, True), width),
    )
    bits = tf.where(is_os2, number(24, 2, True), number(28, 2, True))
    compression = tf.where(is_os2, 0, number(30, 4, True))
    has_masks = (compression == 3) & ((bits == 16) | (bits == 32))
    stride = tf.cast((tf.cast(bits, tf.int64) * tf.cast(width, tf.int64) + 31) // 32 * 4, tf.int32)
    length = tf.cast(stride, tf.int64) * tf.cast(height, tf.int64)
    ends = tf.cast(start, tf.int64) + length <= tf.cast(tf.strings.length(raw), tf.int64)
    is_known = tf.reduce_any(bits == (1, 4, 8, 16, 24, 32))
    checks = [
        check(
            is_known & ((compression == 0) | has_masks),
            "the BMP is compressed (RLE) or of an unknown kind",
        ),
        check(ends & (width > 0) & (height > 0), "the BMP is not complete"),
    ]
    with tf.control_dependencies(checks):
        rows = tf.reshape(
            _bytes(tf.strings.substr(raw, start, tf.cast(length, tf.int32))), (height, stride)
        )
    rows = tf.where(from_top, rows, rows[::-1])
    begin, entry = tf.where(is_os2, 26, 14 + size), tf.where(is_os2, 3, 4)
    kinds = {
        1: lambda: _colours(_indices(rows, width, 1), content, begin, entry, start),
        4: lambda: _colours(_indices(rows, width, 4), content, begin, entry, start),
        8: lambda: _colours(_indices(rows, width, 8), content, begin, entry, start),
        16: lambda: _of_16_bits(rows, width, number, has_masks),
        24: lambda: tf.reshape(rows[:, : 3 * width], (height, width, 3))[..., ::-1],
        32: lambda: _of_32_bits(tf.reshape(rows, (height, width, 4)), number, has_masks),
    }
    return any_size(tf.case([(bits == n, make) for n, make in kinds.items()], exclusive=True))


def _indices(rows, width, bits):
    """The colours' numbers (H, W) of rows of bytes, the first one in the highest bits."""
    shifts = tf.constant(list(range(8 - bits, -1, -bits)), tf.uint8)
    parts = tf.bitwise.right_shift(rows[..., None], shifts) & tf.constant(2**bits - 1, tf.uint8)
    return tf.reshape(parts, (tf.shape(rows)[0], tf.shape(rows)[1] * (8 // bits)))[:, :width]


def _colours(indices, content, begin, entry, start):
    """(H, W, 3) of a palette that begins there, with so many bytes an entry (BGR), and ends before
    the pixels.
    """
    count = tf.clip_by_value(start - begin, 0, 256 * entry) // entry * entry
    content = tf.strings.substr(content, tf.minimum(begin, tf.strings.length(content)), count)
    table = tf.reshape(_bytes(content), (-1, entry))[:, 2::-1]
    table = tf.concat(
        [table, tf.zeros((256 - tf.shape(table)[0], 3), tf.uint8)], 0
    )  # what it lacks is black
    return tf.gather(table, tf.cast(indices, tf.int32))


def _of_16_bits(rows, width, number, has_masks):
    """Five bits a colour, or six of green if the masks say so, scaled to 0..255 as Pillow does."""
    pairs = tf.cast(tf.reshape(rows, (tf.shape(rows)[0], -1, 2))[:, :width], tf.int32)
    values = pairs[..., 0] + 256 * pairs[..., 1]
    masks = tf.stack([number(at, 4, True) for at in (54, 58, 62)])
    six = has_masks & tf.reduce_all(masks == (0xF800, 0x7E0, 0x1F))
    five = ~has_masks | tf.reduce_all(masks == (0x7C00, 0x3E0, 0x1F))
    with tf.control_dependencies([check(six | five, "the BMP has unusual masks of its colours")]):
        green = tf.where(six, 63, 31)
    colours = [values // tf.where(six, 2048, 1024) % 32, values // 32 % (green + 1), values % 32]
    scaled = [colour * 255 // most for colour, most in zip(colours, (31, green, 31), strict=True)]
    return tf.cast(tf.stack(scaled, -1), tf.uint8)


def _of_32_bits(pixels, number, has_masks):
    """The bytes (H, W, 4) by the masks of the colours, else blue first."""
    masks = tf.stack([number(at, 4, True) for at in (54, 58, 62)])
    places = masks[:, None] == (0xFF, 0xFF00, 0xFF0000, headers.LARGEST)
    usual = ~has_masks | tf.reduce_all(tf.reduce_any(places, 1))
    with tf.control_dependencies([check(usual, "the BMP has unusual masks of its colours")]):
        chosen = tf.where(has_masks, tf.argmax(places, 1), (2, 1, 0))
    return tf.gather(pixels, chosen, axis=2)


def decode_gif(raw):
    """The first picture of a GIF on its screen, which it may not fill. Source: GIF89a, 18 to 22."""
    content = tf.cast(_bytes(tf.strings.join([raw, tf.constant(bytes(32))])), tf.int32)
    flags = content[10]
    begin = 13 + tf.where(flags > 127, 3 * 2 ** (flags % 8 + 1), 0)
    last = tf.shape(content)[0] - 1

    def is_extension(at, transparent):
        return content[tf.minimum(at, last)] == 0x21

    def after(at, transparent):
        is_control = (content[tf.minimum(at + 1, last)] == 0xF9) & (
            content[tf.minimum(at + 3, last)] % 2 == 1
        )
        transparent = tf.where(is_control, content[tf.minimum(at + 6, last)], transparent)
        return _end_of_blocks(content, at + 2), transparent

    at, transparent = tf.while_loop(is_extension, after, (begin, tf.constant(-1)))
    field = lambda k: content[tf.minimum(at + k, last)]  # noqa: E731
    left, top, width, height = (field(k) + 256 * field(k + 1) for k in (1, 3, 5, 7))
    table = tf.where(field(9) > 127, 3 * 2 ** (field(9) % 8 + 1), 0)
    end = _end_of_blocks(content, at + 11 + table)
    beside = tf.maximum(content[6] + 256 * content[7], left + width) - left - width
    below = tf.maximum(content[8] + 256 * content[9], top + height) - top - height
    pixels = tf.cast(left + width + beside, tf.int64) * tf.cast(top + height + below, tf.int64)
    checks = [
        check(
            (field(0) == 0x2C) & (end <= tf.strings.length(raw)),
            "the GIF is damaged or not complete",
        ),
        check(pixels <= headers.MAX_PIXELS, f"the GIF has more than {headers.MAX_PIXELS:,} pixels"),
    ]
    with tf.control_dependencies(checks):
        head, rest = tf.strings.substr(raw, 0, begin), tf.strings.substr(raw, at + 5, end - at - 5)
    # TensorFlow would decode all pictures, loses a part of one that is not in the corner, and makes
    # black of pixels that an extension says are transparent.
    first = tf.strings.join([head, b",\0\0\0\0", rest, b";"])
    image = any_size(tf.io.decode_image(first, 3, expand_animations=False))
    colour = tf.maximum(transparent, 0)  # as Pillow: nobody draws the background
    palette = tf.where(field(9) > 127, at + 10, 13)
    place = tf.minimum(palette + 3 * colour + (0, 1, 2), last)
    has_palette = (field(9) > 127) | (flags > 127)
    empty = tf.where(has_palette, tf.gather(content, place), 0)
    offset = tf.cast(image, tf.int32) - empty
    padded = tf.pad(offset, [[top, below], [left, beside], [0, 0]])
    return any_size(tf.cast(padded + empty, tf.uint8))


def _end_of_blocks(content, at):
    """Where a row of sub-blocks that begins at a place ends: after the empty one; beyond `content`
    without one.

    Each block says how long it is. Following these from all places of a part at once takes log(n)
    steps, and of an animation only the parts of its first picture are gone through.
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
