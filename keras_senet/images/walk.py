"""The image files of a folder: the one walk that every command uses."""

import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from keras_senet.files import printable, read_bytes
from keras_senet.images.headers import FORMATS, UNKNOWN, Content, parse

# Files with these endings are images, whatever their content.
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
NOT_DECODED = (".tif", ".tiff", ".avif", ".heic", ".heif", ".jp2", ".jxl", ".ppm", ".pgm")
SYSTEM = ("__MACOSX", "@eaDir")  # folders that archives of macOS and Synology's disks add
BEGINNING = 64  # bytes: they contain the format of an image
CONVERT = f"is not decoded; convert it to one of {', '.join(FORMATS)}"


@dataclass
class Found:
    """The image files of a folder, in order, and the other files: path -> why it was left out."""

    images: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def find_images(folder: str | os.PathLike) -> Found:
    """The `Found` of a folder, as `search_images` has it.

    Raises:
        ValueError: for an image of a format that is not decoded, by its ending.
        OSError: for a folder that cannot be read.
    """
    found = search_images(folder)
    for path, reason in found.left_out.items():
        if reason == CONVERT:
            raise ValueError(f"{printable(path)!r} {reason}")
    return found


def search_images(folder: str | os.PathLike) -> Found:
    """The `Found` of a folder and its subfolders: regular files that are images, by ending or else
    by content.

    Hidden files and folders are left out. Links are followed, also to folders, but no folder is
    visited twice, nor a folder that contains the first one: real folders come first, so that what
    is skipped are the links.

    Raises:
        OSError: for a folder that cannot be read.
    """
    found, linked, seen = Found(), [], _parent_ids(folder)
    _visit(os.fspath(folder), found, linked, seen)
    while linked:
        _visit(linked.pop(0), found, linked, seen)
    return found


def list_images(places: Iterable[str | os.PathLike]) -> Found:
    """The `Found` of files, of patterns such as "photos/*.jpg", and of folders, in their order.

    In a folder, images of a format that is not decoded are the last ones: each is one that cannot
    be used.

    Raises:
        ValueError: for a file that is not an image, and a folder without any.
        OSError: for what is not there, or cannot be read.
    """
    found = Found()
    for place in map(os.fspath, places):
        if os.path.isdir(place):
            inside = search_images(place)
            if not inside.images:
                reasons = describe_left_out(inside.left_out) or "It is empty"
                raise ValueError(f"There are no images in {printable(place)!r}. {reasons}")
            for path in [path for path, why in inside.left_out.items() if why == CONVERT]:
                inside.images.append(path)
                del inside.left_out[path]
        elif os.path.lexists(place) or not (matches := sorted(glob.glob(place, recursive=True))):
            _check_image(place)
            inside = Found([place])
        else:
            inside = list_images(matches)
        found.images += inside.images
        found.left_out |= inside.left_out
    return found


def _check_image(path):
    """Raises OSError or ValueError unless a path is a file that the walk takes for an image."""
    if not os.path.exists(path):
        url = "; URLs are not downloaded" if "://" in path else ""
        raise FileNotFoundError(f"There is no file or folder {printable(path)!r}{url}")
    if not os.path.isfile(path):
        raise OSError(f"{printable(path)!r} is not a regular file")
    ending = os.path.splitext(path)[1].lower()
    if ending not in ENDINGS and not _is_image(path):
        if ending in NOT_DECODED:
            raise ValueError(f"{printable(path)!r} {CONVERT}")
        raise ValueError(
            f"Not an image that can be decoded: {printable(path)!r} (it is none of "
            f"{', '.join(FORMATS)})"
        )


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is not the user's own."""
    return name.startswith(".") or name in SYSTEM


def holds_images(folder: str | os.PathLike) -> bool:
    """Whether there is an image directly in a folder, by its ending."""
    with os.scandir(folder) as entries:
        return any(
            each.name.lower().endswith(ENDINGS) and not is_hidden(each.name) for each in entries
        )


def _parent_ids(folder):
    """Those of all folders that contain a folder, by its name and by its real path."""
    names = Path(os.path.abspath(folder)), Path(os.path.realpath(folder))
    return {_file_id(parent) for name in names for parent in name.parents}


def _file_id(path):
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _visit(folder, found, linked, seen):
    """Adds the content of a folder that has not been seen: its files, then its folders, by name."""
    if (identity := _file_id(folder)) in seen:
        return
    seen.add(identity)
    with os.scandir(folder) as scanned:
        visible = [each for each in scanned if not is_hidden(each.name)]
    for is_inner, _, entry in sorted((is_folder(each), each.name, each) for each in visible):
        if not is_inner:
            _add_file(entry, found)
        elif entry.is_symlink():
            linked.append(entry.path)
        else:
            _visit(entry.path, found, linked, seen)


def is_folder(entry: os.DirEntry) -> bool:
    """Whether it is a folder or a link to one; of links in a circle `entry.is_dir()` raises."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _add_file(entry, found):
    if reason := _find_reason(entry):
        found.left_out[entry.path] = reason
    else:
        found.images.append(entry.path)


def _find_reason(entry):
    """Why a file is not taken for an image; "" if it is."""
    is_file = os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file()
    if not is_file:
        is_broken = entry.is_symlink() and not os.path.exists(entry.path)
        return "a broken link" if is_broken else "not a regular file"
    ending = os.path.splitext(entry.name)[1].lower()
    try:
        if ending in ENDINGS or _is_image(entry.path):
            return ""
    except OSError:  # such as another user's archive
        return "cannot be read"
    return CONVERT if ending in NOT_DECODED else "not an image"


def _is_image(path):
    """Whether a regular file begins as an image that is decoded."""
    return parse(Content(read_bytes(path, BEGINNING)))[0] != UNKNOWN


def describe_left_out(left_out: dict[str, str]) -> str:
    """One line on the files that were left out, by reason, with an example of each; "" for none."""
    reasons: dict[str, list[str]] = {}
    for path, reason in left_out.items():
        reasons.setdefault(reason, []).append(path)
    parts = [
        f"{len(paths)} ({reason}), such as {printable(paths[0])!r}"
        for reason, paths in reasons.items()
    ]
    return f"Files left out: {'; '.join(parts)}" if parts else ""
