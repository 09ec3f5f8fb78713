"""What is in the images of a dataset, and what may be wrong with them; without Keras, and without
TensorFlow where only headers are read.
"""

import functools
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

from keras_senet.files import printable, read_bytes
from keras_senet.images import headers
from keras_senet.images.colour import read_colour
from keras_senet.images.duplicates import Duplicates, find_duplicates
from keras_senet.images.facts import Facts, Item
from keras_senet.images.headers import FORMATS, Header
from keras_senet.images.layout import Layout

CHUNK = 256  # images that are read before progress is reported
HEAD = 2**16  # bytes that are read of a file whose header alone is wanted
REDUCED = 8  # pixels per side of the reduction by which near duplicates are found
MOST_COMPARED = 100_000  # images: to compare more takes longer than to decode them
LEFT_OUT = "left out"
SMALL, LONG = 16, 5.0  # pixels of the short side; long over short side


class Problem(NamedTuple):
    """Something that may be wrong with an image: its kind, and more on it."""

    file: str
    split: str
    label: str
    kind: str
    detail: str


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
            named = self._choose_named(group.images)
            twins |= dict.fromkeys(group.images, (group, named))
        for number, (item, facts) in enumerate(zip(self.items, self.facts, strict=True)):
            found = list(_list_problems(facts))
            if number in twins:
                found.append(self._describe_twin(number, *twins[number]))
            for kind, detail in found:
                yield Problem(item.name, item.split, item.label, kind, detail)
        for path, reason in self.left_out.items():
            yield Problem(printable(path), "", "", LEFT_OUT, reason)

    def _choose_named(self, images):
        """Which images of a group those of it are said to equal, a few where it has thousands: of
        each split the first two, and the first of another class than theirs.
        """
        by_split = defaultdict(list)
        for number in images:
            kept = by_split[self.items[number].split]
            labels = {self.items[each].label for each in kept}
            if len(kept) < 2 or (len(labels) == 1 and self.items[number].label not in labels):
                kept.append(number)
        return sorted(number for kept in by_split.values() for number in kept)

    def _describe_twin(self, number, group, named):
        """The kind of a duplicate, and which image it equals: if there is one, of another part."""
        own = self.items[number]
        others = [self.items[other] for other in named if other != number]
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
