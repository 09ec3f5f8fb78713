"""Decoders of GIF and WebP in TensorFlow's graph, where TensorFlow's fail or do too much."""

import tensorflow as tf

from keras_senet.images import headers
from keras_senet.images.in_graph import InGraph, assert_in_graph, ensure_rgb, to_bytes

PART = 2**13  # bytes of a GIF whose blocks are followed at once
# Extensions or chunks before the first picture: only files that are made to take long have more
MOST_BEFORE = 64


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
    """Its first frame as a file of its own: TensorFlow fails for animations without alpha."""
    length = tf.strings.length(raw)

    def step(at):
        return at + 8 + (tf.minimum(number(at + 4, 4, True), length) + 1) // 2 * 2

    def is_other(at):
        return (number(at, 4) != 0x414E4D46) & (at < length)  # ANMF

    (at,) = tf.nest.flatten(
        tf.while_loop(
            is_other, lambda at: (step(at),), (tf.constant(12),), maximum_iterations=MOST_BEFORE
        )
    )
    size = tf.where(is_other(at), 0, number(at + 4, 4, True))
    height, width = 1 + number(27, 3, True), 1 + number(24, 3, True)
    top, left = 2 * number(at + 11, 3, True), 2 * number(at + 8, 3, True)
    below = height - top - 1 - number(at + 17, 3, True)
    right = width - left - 1 - number(at + 14, 3, True)
    checks = [
        assert_in_graph((size > 16) & (size <= length - at - 8), "the WebP is not complete"),
        assert_in_graph(tf.minimum(below, right) >= 0, "the WebP is larger than its header says"),
    ]
    with tf.control_dependencies(checks):
        data = tf.strings.substr(raw, at + 24, size - 16)
    header = tf.strings.join([b"VP8X\x0a\0\0\0\x10\0\0\0", tf.strings.substr(raw, at + 14, 6)])
    begin = tf.strings.join([b"RIFF", _little_endian(4 + 18 + size - 16), b"WEBP"])
    image = _still_webp(tf.strings.join([begin, header, data]))
    return ensure_rgb(tf.pad(image, [[top, below], [left, right], [0, 0]]))  # black around it


def _little_endian(number):
    table = tf.constant([bytes([value]) for value in range(256)])
    return tf.strings.reduce_join(tf.gather(table, number // (1, 256, 65536, 16777216) % 256))


def decode_gif(raw: tf.Tensor) -> tf.Tensor:
    """The first picture of a GIF on its screen, which it may not fill. Source: GIF89a, 18 to 22."""
    content = tf.cast(to_bytes(tf.strings.join([raw, tf.constant(bytes(32))])), tf.int32)
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
    """(where a GIF's first picture begins, its transparent colour or -1); `at`: first extension."""
    last = tf.shape(content)[0] - 1

    def is_extension(at, transparent):
        return content[tf.minimum(at, last)] == 0x21

    def after(at, transparent):
        is_control = (content[tf.minimum(at + 1, last)] == 0xF9) & (
            content[tf.minimum(at + 3, last)] % 2 == 1
        )
        transparent = tf.where(is_control, content[tf.minimum(at + 6, last)], transparent)
        return _end_of_blocks(content, at + 2), transparent

    return tf.while_loop(is_extension, after, (at, tf.constant(-1)), maximum_iterations=MOST_BEFORE)


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
