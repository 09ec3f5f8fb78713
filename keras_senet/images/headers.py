"""Headers of encoded images, read without decoding them: format, size, and EXIF orientation.

The functions read a file only through `number(at, count)` and are written so that TensorFlow's
AutoGraph converts them: the same code reads bytes in Python and strings in a graph. There an `and`,
an `or` or an `if` would be a branch of two graphs, which `&`, `|` and `choose` are not.
"""

import re
from typing import NamedTuple

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WebP")
JPEG, PNG, GIF, BMP, WEBP, UNKNOWN = range(6)  # indices into FORMATS
# The most pixels of an image that is decoded: 256 MiB as RGB (89 megapixels, such as 9,459 x
# 9,459).
MAX_PIXELS = 2**28 // 3
# Segments, chunks and fill bytes; files that are made to take long have more.
MAX_STEPS = 2**16
LARGEST = 2**31 - 1  # larger numbers of four bytes are clipped to it
# Of a JPEG: encoders write about ten, and each takes as long as decoding all pixels once
MAX_SCANS = 500
SCAN, END, BASELINE = b"\xff\xda", b"\xff\xd9", (b"\xff\xc0", b"\xff\xc1")
MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")  # but those within the data of a scan


class Header(NamedTuple):
    """Format, an index into `FORMATS` or `UNKNOWN`; stored height, width or 0; orientation; whether
    it is a JPEG of more than `MAX_SCANS`, which only `read_header` finds.
    """

    format: int
    height: int
    width: int
    orientation: int
    many_scans: bool = False

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

    @staticmethod
    def choose(condition, then, otherwise):
        """One of two numbers; both are computed."""
        return then if condition else otherwise


def read_header(data: bytes) -> Header:
    """The `Header` of an encoded image, `bytes`."""
    header = Header(*parse(Content(data)))
    return header._replace(many_scans=header.format == JPEG and _has_many_scans(data))


def _has_many_scans(data):
    """Whether a JPEG has more than `MAX_SCANS` up to its end, without those of thumbnails."""
    at, scans, components = 2, 0, b"none"
    for _ in range(MAX_STEPS):
        marker = MARKER.search(data, at)
        if not marker or marker[0].endswith(END) or scans > MAX_SCANS:
            return scans > MAX_SCANS
        at = marker.end()
        if marker[0].endswith(BASELINE):
            components = data[at + 7 : at + 8]
        elif marker[0].endswith(SCAN):
            # Most have one scan of all components. To count costs a tenth of decoding these.
            if not scans and (data[at + 2 : at + 3] == components or data.count(SCAN) <= MAX_SCANS):
                return False
            scans += 1
        at += int.from_bytes(data[at : at + 2])
    return True


def find_problem(header: Header) -> str:
    """Why an image with this header is not decoded; "" if it is."""
    if header.format == UNKNOWN:
        return f"it is none of {', '.join(FORMATS)}"
    if not header.height or not header.width:
        return f"its {FORMATS[header.format]} header is damaged"
    if header.height * header.width > MAX_PIXELS:
        size = f"{header.width} x {header.height}"
        return f"it has {size} pixels, and at most {MAX_PIXELS:,} are decoded"
    if header.many_scans:
        return f"it has more than {MAX_SCANS} scans"
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
    choose = file.choose
    at, frame, begin, end, left = 2, 0, 0, 0, MAX_STEPS
    while (left > 0) & (at + 4 <= file.length):
        marker, length = file.number(at, 2) - 0xFF00, file.number(at + 2, 2)
        is_last = (marker < 0) | (marker == 0xD9) | (marker == 0xDA)  # the end, or the data
        is_bare = (marker < 2) | ((marker > 0xCF) & (marker < 0xD9))  # a marker without a length
        is_exif = (file.number(at + 4, 4) == 0x45786966) & (file.number(at + 8, 2) == 0)
        is_exif = (marker == 0xE1) & (begin == 0) & is_exif & (length > 8)
        is_frame = (marker > 0xBF) & (marker < 0xD0) & (marker != 0xC4)
        is_frame = is_frame & (marker != 0xC8) & (marker != 0xCC)
        # A length below its own two bytes is an error that decoders overlook.
        step = 2 + choose(length > 2, length, 2)
        begin, end = choose(is_exif, at + 10, begin), choose(is_exif, at + step, end)
        frame = choose(is_frame, at, frame)
        at += choose(marker == 0xFF, 1, choose(is_bare, 2, step))  # 0xFF: a fill byte
        left = choose(is_last, 0, left - 1)
    height, width = file.number(frame + 5, 2), file.number(frame + 7, 2)
    return choose(frame > 0, height, 0), choose(frame > 0, width, 0), begin, end


def _png_exif(file):
    """(where EXIF begins, where it ends) of a PNG, else zeros. Source: PNG, 11.3.4.5."""
    at, begin, end, left = 33, 0, 0, MAX_STEPS
    while (left > 0) & (at + 12 <= file.length):
        kind, length = file.number(at + 4, 4), file.number(at, 4)
        is_exif, following = kind == 0x65584966, at + 8 + file.least(length, file.length)  # eXIf
        begin, end = file.choose(is_exif, at + 8, begin), file.choose(is_exif, following, end)
        more = (begin == 0) & (kind != 0x49454E44) & (length < file.length)  # IEND
        left = file.choose(more, left - 1, 0)
        at = following + 4
    return begin, end


def _bmp_size(file):
    """(height, width); rows from the top have a negative height."""
    is_os2, high = file.number(14, 4, True) <= 12, file.number(24, 2, True)
    negative = 65536 * (65535 - high) + 65536 - file.number(22, 2, True)
    height = file.choose(high > 32767, negative, file.number(22, 4, True))
    height = file.choose(is_os2, file.number(20, 2, True), height)
    return height, file.choose(is_os2, file.number(18, 2, True), file.number(18, 4, True))


def _webp(file):
    """(height, width, where EXIF begins, where it ends) of a WebP. Source: RFC 9649."""
    choose, kind, at, begin, end = file.choose, file.number(12, 4), 12, 0, 0
    is_lossless, is_lossy = kind == 0x5650384C, kind == 0x56503820  # VP8L, VP8; else VP8X
    high, low = file.number(23, 2, True) % 4096, file.number(21, 2, True)
    height = choose(is_lossy, file.number(28, 2, True) % 16384, 1 + file.number(27, 3, True))
    width = choose(is_lossy, file.number(26, 2, True) % 16384, 1 + file.number(24, 3, True))
    height = choose(is_lossless, 1 + high * 4 + low // 16384, height)
    width = choose(is_lossless, 1 + low % 16384, width)
    has_exif = (kind == 0x56503858) & (file.number(20, 1) // 8 % 2 == 1)
    left = choose(has_exif, MAX_STEPS, 0)
    while (left > 0) & (begin == 0) & (at + 8 <= file.length):
        length, is_exif = file.number(at + 4, 4, True), file.number(at, 4) == 0x45584946
        length = file.least(length, file.length)
        begin, end = choose(is_exif, at + 8, begin), choose(is_exif, at + 8 + length, end)
        at += 8 + length + length % 2
        left -= 1
    return height, width, begin, end


def _exif_orientation(file, begin, end):
    """The orientation 1..8 in the first directory of EXIF, a small TIFF; 1 if it is missing.

    Source: TIFF 6.0, section 2; EXIF 2.3, 4.6.4.
    """
    choose, found, end = file.choose, 1, file.least(end, file.length)
    has_name = (file.number(begin, 4) == 0x45786966) & (file.number(begin + 4, 2) == 0)
    begin += choose(has_name, 6, 0)  # JPEG's Exif\\0\\0, which some write into PNG and WebP
    order, mark = file.number(begin, 2), file.number(begin + 2, 2)
    little = order == 0x4949
    is_tiff = (little | (order == 0x4D4D)) & ((mark == 0x2A) | (mark == 0x2A00))
    entry = begin + 2 + file.least(file.number(begin + 4, 4, little), end)
    last = file.least(entry + 12 * file.number(entry - 2, 2, little), end)
    last = choose(is_tiff & (begin + 8 <= end), last, 0)
    while entry + 12 <= last:
        tag, kind = file.number(entry, 2, little), file.number(entry + 2, 2, little)
        count = file.number(entry + 4, 4, little)
        is_short = ((kind == 3) | (kind == 8)) & ((count == 1) | (count == 2))  # two fit in
        is_long = ((kind == 4) | (kind == 9)) & (count == 1)  # each unsigned or signed
        value = choose(is_long, file.number(entry + 8, 4, little), 0)
        value = choose(is_short, file.number(entry + 8, 2, little), value)
        value = choose((value > 0) & (value < 9), value, 1)
        found = choose(tag == 0x112, value, found)
        entry += 12
    return found
