"""What is in the images of a dataset, and what may be wrong with them; without Keras, and without
TensorFlow where only headers are read.
"""

import functools
import hashlib
import itertools
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from keras_senet.files import printable, read_bytes
from keras_senet.images import headers
from keras_senet.images.headers import FORMATS, Header
from keras_senet.images.layout import Layout

CHUNK = 256  # images that are read before progress is reported
HEAD = 2**16  # bytes that are read of a file whose header alone is wanted
REDUCED = 8  # pixels per side of the reduction by which near duplicates are found
# Of two reductions, in values of 0..255: photographs that were scaled or compressed again differ by
# less, different ones by more. What has little contrast looks like all that has.
NEAR, CONTRAST = 3.0, 10.0
BLOCK = 2048  # images that are compared at once
MOST_COMPARED = 100_000  # images: to compare more takes longer than to decode them
LEFT_OUT = "left out"
SMALL, LONG = 16, 5.0  # pixels of the short side; long over short side


class Item(NamedTuple):
    """An image of a dataset.

    name   for messages
    split  "" without splits
    label  the name of its class
    read   returns its bytes, or as many as it is given
    path   of its file, "" if it is not one of its own
    """

    name: str
    split: str
    label: str
    read: Callable[[int], bytes]
    path: str = ""


@dataclass(slots=True)
class Facts:
    """What is known of an image file.

    problem      why it cannot be used; "" if it can
    size         in bytes
    format       one of `FORMATS`; "" if unknown
    height, width  of the upright image
    orientation  1..8, as EXIF
    colour       "RGB", "grey", "palette" or "CMYK"; "" if unknown
    extras       of "alpha", "16 bits" and "animated" what is true
    digest       of the content; b"" if unknown
    pixels       a digest of the decoded image; b"" if it was not decoded
    reduced      uint8 (192,): the image of 8 x 8 pixels; None if it was not decoded
    """

    problem: str = ""
    size: int = 0
    format: str = ""
    height: int = 0
    width: int = 0
    orientation: int = 1
    colour: str = ""
    extras: tuple[str, ...] = ()
    digest: bytes = b""
    pixels: bytes = b""
    reduced: np.ndarray | None = None


class Problem(NamedTuple):
    """Something that may be wrong with an image: its kind, and more on it."""

    file: str
    split: str
    label: str
    kind: str
    detail: str


@dataclass(frozen=True)
class Duplicates:
    """Images, by number, that are the same one; `identical` in every pixel, or else nearly.

    across  whether they are in several splits
    labels  whether they have several labels
    """

    images: tuple[int, ...]
    identical: bool
    across: bool
    labels: bool


@dataclass(frozen=True)
class Inspection:
    """The images of a dataset, the `Facts` of each, the duplicates, and the files that are no
    images: path -> why.

    compared  whether near duplicates were looked for
    """

    items: Sequence[Item]
    facts: Sequence[Facts]
    duplicates: Sequence[Duplicates]
    left_out: dict[str, str]
    compared: bool

    def counts(self) -> dict[str, Counter]:
        """{class: {split: images}}, the classes in the order of their names."""
        counts = defaultdict(Counter)
        for item in self.items:
            counts[item.label][item.split] += 1
        return dict(sorted(counts.items()))

    def problems(self) -> Iterator[Problem]:
        """Those of each file, in the order of the files."""
        twins = {}
        for group in self.duplicates:
            for image in group.images:
                twins[image] = group
        for number, (item, facts) in enumerate(zip(self.items, self.facts, strict=True)):
            for kind, detail in _list_problems(facts):
                yield Problem(item.name, item.split, item.label, kind, detail)
            if number in twins:
                kind, detail = self._describe_twin(number, twins[number])
                yield Problem(item.name, item.split, item.label, kind, detail)
        for path, reason in self.left_out.items():
            yield Problem(printable(path), "", "", LEFT_OUT, reason)

    def _describe_twin(self, number, group):
        """The kind of a duplicate, and which image it is the same as: if there is one, of another
        split or class.
        """
        own = self.items[number]
        others = [self.items[other] for other in group.images if other != number]
        other = max(others, key=lambda item: (item.split != own.split, item.label != own.label))
        kind = "duplicate" if group.identical else "near duplicate"
        if other.label != own.label:
            kind += ", another class"
        if other.split != own.split:
            kind += ", another split"
        return kind, other.name


def _list_problems(facts):
    """(kind, detail) of all that one image can show."""
    if facts.problem:
        yield "cannot be used", facts.problem
        return
    if facts.orientation > 1:
        yield "rotated by EXIF", ORIENTATIONS[facts.orientation]
    if facts.colour != "RGB":
        yield facts.colour, ""
    for extra in facts.extras:
        yield extra, EXTRAS[extra]
    short, long = sorted((facts.height, facts.width))
    if short < SMALL:
        yield "small", f"{facts.width} x {facts.height}"
    if long > LONG * short:
        yield "long", f"{facts.width} x {facts.height}"


ORIENTATIONS = {
    2: "stored as its mirror image (2)",
    3: "stored upside down (3)",
    4: "stored upside down as its mirror image (4)",
    5: "stored on its side as its mirror image (5)",
    6: "stored on its side (6)",
    7: "stored on its side as its mirror image (7)",
    8: "stored on its side (8)",
}
EXTRAS = {
    "alpha": "transparency is ignored",
    "16 bits": "the upper eight are used",
    "animated": "the first picture is used",
}


def list_items(layout: Layout) -> list[Item]:
    """The image files of folders as `Item`s."""
    return [
        Item(printable(path), split, label, functools.partial(read_bytes, path), path)
        for path, split, label in layout.images
    ]


def inspect(
    items: Sequence[Item],
    left_out: dict[str, str] | None = None,
    *,
    decode: bool = True,
    track: Callable[[Iterable, int], Iterable] = lambda steps, count: steps,
) -> Inspection:
    """The `Inspection` of images, of which as many are in memory as there are threads.

    Args:
        items: the images.
        left_out: the other files, path -> why.
        decode: whether images are decoded, which finds damage after the header and near duplicates,
            and takes TensorFlow. Without it only the beginning of a JPEG is read, and all of it
            where several files have one size.
        track: shows the progress of an iterable of so many steps.
    """
    examine = _examine_whole if decode else _examine_header
    chunks = [items[i : i + CHUNK] for i in range(0, len(items), CHUNK)]
    facts: list[Facts] = []
    with ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as pool:
        for chunk in track(chunks, len(chunks)):
            facts += pool.map(examine, chunk)
        if not decode:
            _add_digests(items, facts, pool)
    compared = decode and len(items) <= MOST_COMPARED
    duplicates = find_duplicates(items, facts, compared)
    return Inspection(items, facts, duplicates, left_out or {}, compared)


def _examine_header(item):
    """The `Facts` of a file by its beginning or, where that may not be enough, by all of it."""
    try:
        content = item.read(HEAD if item.path else -1)
        header = headers.read_header(content)
        # In PNG and WebP the orientation may come at the end.
        if len(content) == HEAD and (headers.find_problem(header) or header.format != headers.JPEG):
            content = item.read(-1)
            header = headers.read_header(content)
        facts = _describe(content, header)
        facts.size = os.path.getsize(item.path) if item.path else len(content)
    except OSError as error:
        return Facts(problem=str(error))
    return facts


def _examine_whole(item):
    """The `Facts` of a file with what its decoding shows."""
    try:
        content = item.read(-1)
    except OSError as error:
        return Facts(problem=str(error))
    facts = _describe(content, headers.read_header(content))
    facts.digest = _digest(content)
    if not facts.problem:
        _decode(content, facts)
    return facts


def _describe(content, header: Header) -> Facts:
    known = header.format != headers.UNKNOWN
    colour, extras = read_colour(content, header.format) if known else ("", ())
    height, width = header.upright_size
    return Facts(
        problem=headers.find_problem(header),
        size=len(content),
        format=FORMATS[header.format] if known else "",
        height=height,
        width=width,
        orientation=header.orientation,
        colour=colour,
        extras=extras,
    )


def _decode(content, facts):
    """Adds what decoding shows: a problem, or the pixels."""
    import tensorflow as tf

    from keras_senet.images.decoding import decode, describe_error

    try:
        image = decode(tf.constant(content), 3)
        reduced = tf.image.resize(image, (REDUCED, REDUCED), "area").numpy()
    except (tf.errors.OpError, ValueError) as error:
        facts.problem = describe_error(error)
        return
    pixels = image.numpy()
    facts.pixels = _digest(pixels.tobytes() + bytes(str(pixels.shape), "ascii"))
    facts.reduced = reduced.round().astype("uint8").ravel()


def _digest(content):
    return hashlib.blake2b(content, digest_size=16).digest()


def _add_digests(items, facts, pool):
    """Those of files of equal size: others cannot be duplicates."""
    sizes = defaultdict(list)
    for number, each in enumerate(facts):
        if not each.problem:
            sizes[each.size].append(number)
    wanted = [number for group in sizes.values() if len(group) > 1 for number in group]

    def add(number):
        try:
            facts[number].digest = _digest(items[number].read(-1))
        except OSError as error:
            facts[number].problem = str(error)

    list(pool.map(add, wanted))


def find_duplicates(
    items: Sequence[Item], facts: Sequence[Facts], near: bool
) -> tuple[Duplicates, ...]:
    """The groups of images with equal content or pixels or, with `near`, nearly equal ones; those
    across splits and classes first.
    """
    same = defaultdict(list)
    for number, each in enumerate(facts):
        if not each.problem and (key := each.pixels or each.digest):
            same[key].append(number)
    leaders = [group[0] for group in same.values()]
    members = dict(zip(leaders, same.values(), strict=True))
    root = {leader: leader for leader in leaders}
    reduced = [n for n in leaders if facts[n].reduced is not None] if near else []
    for one, other in _near_pairs([facts[n].reduced for n in reduced]):
        root[_find(root, reduced[other])] = _find(root, reduced[one])
    joined = defaultdict(list)
    for leader in leaders:
        joined[_find(root, leader)].append(leader)
    groups = []
    for parts in joined.values():
        images = tuple(sorted(n for leader in parts for n in members[leader]))
        if len(images) > 1:
            splits, labels = ({getattr(items[n], f) for n in images} for f in ("split", "label"))
            groups.append(Duplicates(images, len(parts) == 1, len(splits) > 1, len(labels) > 1))
    return tuple(sorted(groups, key=lambda g: (-g.labels - g.across, not g.identical, g.images)))


def _find(root, number):
    """The first of the numbers that are joined with this one."""
    while root[number] != number:
        root[number] = number = root[root[number]]
    return number


def _near_pairs(reduced) -> Iterator[tuple[int, int]]:
    """Pairs of places whose reductions, uint8 (192,), differ by less than `NEAR`, root mean
    square.
    """
    if not reduced:
        return
    values = np.stack(reduced).astype("float32") - 128
    (places,) = np.nonzero(values.std(axis=1) >= CONTRAST)
    values = values[places]
    squares = np.square(values).sum(axis=1)
    limit = NEAR**2 * values.shape[1]
    starts = range(0, len(values), BLOCK)
    for i, j in itertools.combinations_with_replacement(starts, 2):
        a, b = slice(i, i + BLOCK), slice(j, j + BLOCK)
        distances = squares[a, None] + squares[None, b] - 2 * values[a] @ values[b].T
        for one, other in zip(*np.nonzero(distances < limit), strict=True):
            if i + one < j + other:
                yield int(places[i + one]), int(places[j + other])


def read_colour(content: bytes, kind: int) -> tuple[str, tuple[str, ...]]:
    """(colour, extras) of an encoded image, as `Facts` has them, by its header."""
    read = {
        headers.JPEG: _jpeg_colour,
        headers.PNG: _png_colour,
        headers.GIF: _gif_colour,
        headers.BMP: _bmp_colour,
        headers.WEBP: _webp_colour,
    }
    return read[kind](content)


def _jpeg_colour(content):
    """By the number of components in the frame header. Source: ITU-T T.81, B.2.2."""
    at = 2
    for _ in range(headers.MAX_STEPS):
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
    """By the extension before the first picture, and whether there is a second one. Source: GIF89a,
    18 to 23.
    """
    content, at, pictures, alpha = content + bytes(16), 13, 0, False
    at += _colours_length(content[10])
    for _ in range(headers.MAX_STEPS):
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
