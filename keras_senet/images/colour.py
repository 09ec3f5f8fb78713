"""Colour, transparency, depth and animation of encoded images, by their headers."""

from keras_senet.images.headers import BMP, GIF, JPEG, MAX_STEPS, PNG, WEBP


def read_colour(content: bytes, kind: int) -> tuple[str, tuple[str, ...]]:
    """(colour, extras) of an encoded image, as `Facts` has them, by its header."""
    read = {
        JPEG: _jpeg_colour,
        PNG: _png_colour,
        GIF: _gif_colour,
        BMP: _bmp_colour,
        WEBP: _webp_colour,
    }
    return read[kind](content)


def _jpeg_colour(content):
    """By the number of components in the frame header. Source: ITU-T T.81, B.2.2."""
    at = 2
    for _ in range(MAX_STEPS):
        if at + 9 >= len(content):
            break
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if content[at] != 0xFF or marker in (0xD9, 0xDA):
            break
        if 0xBF < marker < 0xD0 and marker not in (0xC4, 0xC8, 0xCC):
            return {1: "grey", 4: "CMYK"}.get(content[at + 9], "RGB"), ()
        is_bare = marker == 0xFF or marker < 2 or 0xCF < marker < 0xD9
        at += (1 if marker == 0xFF else 2) if is_bare else 2 + max(length, 2)
    return "RGB", ()


def _png_colour(content):
    """Source: PNG, third edition, 11.2.1, 11.3.1.1 and 11.3.6."""
    depth, colour, *_ = content[24:26].ljust(2, b"\0")
    before = content[: content.find(b"IDAT")]
    extras = {
        "alpha": colour in (4, 6) or b"tRNS" in before,
        "16 bits": depth == 16,
        "animated": b"acTL" in before,
    }
    return {0: "grey", 3: "palette", 4: "grey"}.get(colour, "RGB"), _true(extras)


def _gif_colour(content):
    """By the extension before the first picture, and whether there is a second. Source: GIF89a."""
    content, at, pictures, alpha = content + bytes(16), 13, 0, False
    at += _colours_length(content[10])
    for _ in range(MAX_STEPS):
        kind = content[at : at + 1]
        if kind == b"!":
            alpha |= not pictures and content[at + 1] == 0xF9 and content[at + 3] & 1 == 1
            at += 2
        elif kind == b",":
            pictures += 1
            at += 11 + _colours_length(content[at + 9])
        if kind not in (b"!", b",") or pictures > 1:
            break
        while at < len(content) and content[at]:  # blocks of data, each after its length
            at += 1 + content[at]
        at += 1
    return "palette", _true({"alpha": alpha, "animated": pictures > 1})


def _colours_length(flags):
    """Bytes of the table of colours that a screen or picture announces."""
    return 3 * 2 ** (flags % 8 + 1) if flags & 128 else 0


def _bmp_colour(content):
    is_os2 = content[14:18] == b"\x0c\0\0\0"
    bits = int.from_bytes(content[24:26] if is_os2 else content[28:30], "little")
    return ("palette" if bits <= 8 else "RGB"), ()


def _webp_colour(content):
    """Source: RFC 9649, 2.7 and 3.4."""
    kind, flags, last = content[12:16], *content[20:25:4].ljust(2, b"\0")
    alpha = flags & 16 if kind == b"VP8X" else kind == b"VP8L" and last & 16
    return "RGB", _true({"alpha": alpha, "animated": kind == b"VP8X" and flags & 2})


def _true(extras):
    return tuple(name for name, holds in extras.items() if holds)
