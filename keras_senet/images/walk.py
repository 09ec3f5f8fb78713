"""The image files of a folder: the one walk that every command uses."""

import os
from dataclasses import dataclass, field

from keras_senet.files import printable, read_bytes
from keras_senet.images.headers import FORMATS, UNKNOWN, Content, parse

ENDINGS = (
    ".jpg",
    ".jpeg",
    ".png",
    ".bmp",
    ".gif",
    ".webp",
)  # taken as images without a look at the content
NOT_DECODED = (".tif", ".tiff", ".avif", ".heic", ".heif", ".jp2", ".jxl", ".ppm", ".pgm")
BEGINNING = 64  # bytes: the format of an image is in them


@dataclass
class Found:
    """The image files of a folder, in order, and what is no image: path -> why it was left out."""

    images: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def find_images(folder):
    """The `Found` of a folder and those below: regular files that are images, by ending or else by
    content.

    Hidden files and folders are left out. Links are followed, also to folders, but no folder is
    gone through twice, nor one that the first one is in: real folders come first, so that the links
    are those that are left out.

    Raises:
        ValueError: for an image of a format that is not decoded, by its ending.
        OSError: for a folder that cannot be read.
    """
    found, linked, seen = Found(), [], _identities_above(folder)
    _walk(os.fspath(folder), found, linked, seen)
    while linked:
        _walk(linked.pop(0), found, linked, seen)
    return found


def _identities_above(folder):
    """Those of the folders that a folder is in, by its name and by where that leads."""
    places = {os.path.abspath(folder), os.path.realpath(folder)}
    above = set()
    for place in places:
        while place != (parent := os.path.dirname(place)):
            place = parent
            above.add(_identity(place))
    return above


def _identity(path):
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _walk(folder, found, linked, seen):
    """Adds what is in a folder that has not been seen: first its files, then its folders, by name."""
    identity = _identity(folder)
    if identity in seen:
        return
    seen.add(identity)
    with os.scandir(folder) as scanned:
        entries = sorted(
            (entry for entry in scanned if not entry.name.startswith(".")),
            key=lambda entry: entry.name,
        )
    folders, files = [], []
    for entry in entries:
        (folders if _is_folder(entry) else files).append(entry)
    for entry in files:
        _take(entry, found)
    for entry in folders:
        if entry.is_symlink():
            linked.append(entry.path)
        else:
            _walk(entry.path, found, linked, seen)


def _is_folder(entry):
    """Whether it is one, or a link to one; of links that lead to each other `entry.is_dir()` raises
    an error.
    """
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _take(entry, found):
    """Adds a file that is an image, or why it is none."""
    ending = os.path.splitext(entry.name)[1].lower()
    is_file = os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file()
    if not is_file:
        is_lost = entry.is_symlink() and not os.path.exists(entry.path)
        found.left_out[entry.path] = "a link to nothing" if is_lost else "no regular file"
    elif ending in ENDINGS or _is_image(entry.path):
        found.images.append(entry.path)
    elif ending in NOT_DECODED:
        raise ValueError(
            f"{printable(entry.path)!r} is not decoded; convert it to one of {', '.join(FORMATS)}"
        )
    else:
        found.left_out[entry.path] = "no image"


def _is_image(path):
    """Whether the content of a regular file begins as an image that is decoded."""
    return parse(Content(read_bytes(path, BEGINNING)))[0] != UNKNOWN


def summary(left_out):
    """One line about the files that were left out, by reason, with an example of each; "" for none."""
    reasons = {}
    for path, reason in left_out.items():
        reasons.setdefault(reason, []).append(path)
    parts = [
        f"{len(paths)} ({reason}), such as {printable(paths[0])!r}"
        for reason, paths in reasons.items()
    ]
    return f"files left out: {'; '.join(parts)}" if parts else ""
