"""Headers of encoded images, read without decoding them: format, size, and EXIF orientation.

The functions read a file only through `number(at, count)` and are written so that TensorFlow's
AutoGraph converts them: the same code reads bytes in Python and strings in a graph. There an `and`
or an `or` would be a branch of two graphs, which `&` and `|` are not.
"""

from typing import NamedTuple

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WebP")
JPEG, PNG, GIF, BMP, WEBP, UNKNOWN = range(6)  # indices into FORMATS
# The most pixels of an image that is decoded: 256 MiB as RGB (89 megapixels, such as 9,459 x
# 9,459).
MAX_PIXELS = 2**28 // 3
# Segments, chunks and fill bytes; files that are made to take long have more.
MAX_STEPS = 2**16
LARGEST = 2**31 - 1  # larger numbers of four bytes are clipped to it


class Header(NamedTuple):
    """Format, an index into `FORMATS` or `UNKNOWN`; stored height, width or 0; orientation."""

    format: int
    height: int
    width: int
    orientation: int

    @property
    def upright_size(self) -> tuple[int, int]:
        """(height, width) of the upright image."""
        return (self.width, self.height) if self.orientation > 4 else (self.height, self.width)


class Content:
    """The bytes of a file; beyond its end are zeros."""

    def __init__(self, data):
        self.data, self.length = data, len(data)

    def number(self, at, count, little=False):
        """The number of up to four bytes at a place, `LARGEST` at most."""
        part = self.data[at : at + count].ljust(count, b"\0")
        return min(int.from_bytes(part, "little" if little else "big"), LARGEST)

    least = staticmethod(min)


def read_header(data: bytes) -> Header:
    """The `Header` of an encoded image, `bytes`."""
    return Header(*parse(Content(data)))


def find_problem(header: Header) -> str:
    """Why an image with this header is not decoded; "" if it is."""
    if header.format == UNKNOWN:
        return f"it is none of {', '.join(FORMATS)}"
    if not header.height or not header.width:
        return f"its {FORMATS[header.format]} header is damaged"
    if header.height * header.width > MAX_PIXELS:
        size = f"{header.width} x {header.height}"
        return f"it has {size} pixels, and at most {MAX_PIXELS:,} are decoded"
    return ""


def parse(file):
    """The fields of a `Header`."""
    kind, height, width, begin, end, orientation = UNKNOWN, 0, 0, 0, 0, 1
    first, third = file.number(0, 3), file.number(8, 4)
    if first == 0xFFD8FF:
        kind = JPEG
        height, width, begin, end = _jpeg(file)
    elif (first == 0x89504E) & (third == 13):
        kind, height, width = PNG, file.number(20, 4), file.number(16, 4)
        begin, end = _png_exif(file)
    elif first == 0x474946:  # GIF
        kind, height, width = GIF, file.number(8, 2, True), file.number(6, 2, True)
    elif first // 256 == 0x424D:  # BM
        kind = BMP
        height, width = _bmp_size(file)
    elif (first == 0x524946) & (third == 0x57454250):  # RIF(F), WEBP
        kind = WEBP
        height, width, begin, end = _webp(file)
    if begin > 0:
        orientation = _exif_orientation(file, begin, end)
    return kind, height, width, orientation


def _jpeg(file):
    """(height, width, where EXIF begins, where it ends); zeros for what is missing.

    Steps from segment to segment up to the data. Source: ITU-T T.81, Annex B; EXIF 2.3, 4.7.2.
    """
    at, height, width, begin, end, left = 2, 0, 0, 0, 0, MAX_STEPS
    while (left > 0) & (at + 4 <= file.length):
        marker, length = file.number(at, 2) - 0xFF00, file.number(at + 2, 2)
        # A length below its own two bytes is an error that decoders overlook.
        step = 2 + (length if length > 2 else 2)
        if marker == 0xFF:
            step = 1  # a fill byte
        elif (marker < 0) | (marker == 0xD9) | (marker == 0xDA):
            left = 0  # the end, or the data
        elif (marker < 2) | ((marker > 0xCF) & (marker < 0xD9)):
            step = 2  # a marker without a length
        elif marker == 0xE1:
            is_exif = (file.number(at + 4, 4) == 0x45786966) & (file.number(at + 8, 2) == 0)
            if (begin == 0) & is_exif & (length > 8):
                begin, end = at + 10, at + step
        elif (
            (marker > 0xBF)
            & (marker < 0xD0)
            & (marker != 0xC4)
            & (marker != 0xC8)
            & (marker != 0xCC)
        ):
            height, width = file.number(at + 5, 2), file.number(at + 7, 2)
        at += step
        left -= 1
    return height, width, begin, end


def _png_exif(file):
    """(where EXIF begins, where it ends) of a PNG, else zeros. Source: PNG, 11.3.4.5."""
    at, begin, end, left = 33, 0, 0, MAX_STEPS
    while (left > 0) & (at + 12 <= file.length):
        kind, length = file.number(at + 4, 4), file.number(at, 4)
        if kind == 0x65584966:  # eXIf
            begin, end = at + 8, at + 8 + file.least(length, file.length)
        more = (begin == 0) & (kind != 0x49454E44) & (length < file.length)  # IEND
        left = left - 1 if more else 0
        at += 12 + file.least(length, file.length)
    return begin, end


def _bmp_size(file):
    """(height, width); rows from the top have a negative height."""
    height, width = file.number(20, 2, True), file.number(18, 2, True)  # of OS/2
    if file.number(14, 4, True) > 12:
        height, width, high = (
            file.number(22, 4, True),
            file.number(18, 4, True),
            file.number(24, 2, True),
        )
        if high > 32767:
            height = 65536 * (65535 - high) + 65536 - file.number(22, 2, True)
    return height, width


def _webp(file):
    """(height, width, where EXIF begins, where it ends) of a WebP. Source: RFC 9649."""
    kind, at, begin, end = file.number(12, 4), 12, 0, 0
    height, width = 1 + file.number(27, 3, True), 1 + file.number(24, 3, True)  # of VP8X
    if kind == 0x5650384C:  # VP8L
        high, low = file.number(23, 2, True) % 4096, file.number(21, 2, True)
        height, width = 1 + high * 4 + low // 16384, 1 + low % 16384
    elif kind == 0x56503820:  # VP8
        height, width = file.number(28, 2, True) % 16384, file.number(26, 2, True) % 16384
    has_exif = (kind == 0x56503858) & (file.number(20, 1) // 8 % 2 == 1)
    left = MAX_STEPS if has_exif else 0
    while (left > 0) & (begin == 0) & (at + 8 <= file.length):
        length = file.least(file.number(at + 4, 4, True), file.length)
        if file.number(at, 4) == 0x45584946:  # EXIF
            begin, end = at + 8, at + 8 + length
        at += 8 + length + length % 2
        left -= 1
    return height, width, begin, end


def _exif_orientation(file, begin, end):
    """The orientation 1..8 in the first directory of EXIF, a small TIFF; 1 if it is missing.

    Source: TIFF 6.0, section 2; EXIF 2.3, 4.6.4.
    """
    found, end = 1, file.least(end, file.length)
    if (file.number(begin, 4) == 0x45786966) & (file.number(begin + 4, 2) == 0):
        begin += 6  # JPEG's Exif\\0\\0, which some write into PNG and WebP
    order, mark = file.number(begin, 2), file.number(begin + 2, 2)
    little = order == 0x4949
    is_tiff = (little | (order == 0x4D4D)) & ((mark == 0x2A) | (mark == 0x2A00))
    if is_tiff & (begin + 8 <= end):
        entry = begin + 2 + file.least(file.number(begin + 4, 4, little), end)
        last = file.least(entry + 12 * file.number(entry - 2, 2, little), end)
        while entry + 12 <= last:
            tag, kind = file.number(entry, 2, little), file.number(entry + 2, 2, little)
            if tag == 0x112:
                value, count = 0, file.number(entry + 4, 4, little)
                # A short, unsigned or signed; two fit in.
                if ((kind == 3) | (kind == 8)) & ((count == 1) | (count == 2)):
                    value = file.number(entry + 8, 2, little)
                elif ((kind == 4) | (kind == 9)) & (count == 1):  # long
                    value = file.number(entry + 8, 4, little)
                found = value if (value > 0) & (value < 9) else 1
            entry += 12
    return found
