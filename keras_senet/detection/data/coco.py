"""Images with boxes from COCO's JSON files."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from keras_senet.detection.canvas import find_size
from keras_senet.detection.data.truths import UNCOUNTED, BoxedImages, make_truth
from keras_senet.files import printable, read_bytes
from keras_senet.images.layout import SPLITS

LARGEST = 1e300  # an integer of JSON may be above all floats
LEAST = 1e-3  # pixels of a side: a smaller box is none
BEGINNING = 2**16  # bytes of a file that mostly have its size
THREADS = 16  # they wait for the disk
MISPLACED = "images of another size than the file says, whose boxes may be misplaced"
NO_AREA = "boxes without an area in their image, left out"
# The lists of a file, and what is needed of each entry
NEEDED = {
    "images": ("id", "file_name"),
    "categories": ("id", "name"),
    "annotations": ("image_id", "category_id", "bbox"),
}
# Where the JSON file of a split may be in a folder; {} is a name of the split, as in `SPLITS`.
PLACES = (
    "annotations/instances_{}*.json",
    "annotations/{}.json",
    "{}.json",
    "{}/_annotations.coco.json",
)


def find_split(folder: Path, split: str) -> Path | None:
    """The JSON file of "train", "val" or "test" in a folder of COCO; None if it is missing.

    Raises:
        ValueError: if there are several.
    """
    for place in PLACES:
        found = sorted({file for name in SPLITS[split] for file in folder.glob(place.format(name))})
        if len(found) > 1:
            named = ", ".join(repr(printable(file.relative_to(folder))) for file in found)
            raise ValueError(
                f"{printable(folder)!r} has several files for {split!r}, {named}: name one of them"
            )
        if found:
            return found[0]
    return None


def load_coco(file: str | Path, images: str | Path | None = None) -> BoxedImages:
    """The images and boxes of a JSON file of COCO.

    Boxes are cut at the image's border. Those without an area are left out, and counted in `notes`,
    as are images that are not, upright, of the size that the file says.
    The classes are in the order of the categories in the file.

    Args:
        file: the JSON file.
        images: the folder that its names of images are in; None looks for it beside the file.

    Raises:
        ValueError: for a file that is not COCO's, or with boxes that are not numbers, categories or
            images that are not listed, no boxes at all, or images that are not there or have a side
            of less than 32 pixels.
        OSError: if it cannot be read.
    """
    file = Path(file)
    content = _read_content(file)
    names = {entry["id"]: entry["file_name"] for entry in content["images"]}
    categories = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
    _check_unique(file, "images", "number", [entry["id"] for entry in content["images"]])
    _check_unique(file, "categories", "number", [entry["id"] for entry in content["categories"]])
    _check_unique(file, "categories", "name", list(categories.values()))
    folder = _find_folder(file, next(iter(names.values()))) if images is None else Path(images)
    paths = [folder / name for name in names.values()]
    sizes = dict(zip(names, read_sizes(file, paths), strict=True))
    left = Counter({MISPLACED: _count_other_sizes(content["images"], sizes)})
    rows = _read_rows(file, content["annotations"], sizes, tuple(categories), left)
    return finish(
        paths,
        list(sizes.values()),
        list(rows.values()),
        left,
        source=f"{printable(file)!r}",
        class_names=tuple(categories.values()),
        ids=list(names),
        categories=tuple(categories),
        files=list(names.values()),
    )


def _count_other_sizes(entries, sizes):
    """How many images are of another size than their entries say."""
    stated = {entry["id"]: (entry.get("height"), entry.get("width")) for entry in entries}
    return sum(
        all(_is_number(side) and side for side in said) and said != sizes[number]
        for number, said in stated.items()
    )


def _read_rows(file, annotations, sizes, categories, left):
    """The rows of each image, as `make_truth` takes them; `sizes` are by the number of an image."""
    rows = {number: [] for number in sizes}
    classes = {number: index for index, number in enumerate(categories)}
    for entry in annotations:
        image, category = entry["image_id"], entry["category_id"]
        for what, number, listed in (("image", image, rows), ("category", category, classes)):
            if isinstance(number, bool) or number not in listed:
                raise ValueError(
                    f"{printable(file)!r} has a box of {what} {number!r}, which is not listed"
                )
        (x, y, width, height), area, is_crowd = _read_box(file, entry)
        box = clip_box((x, y, x + width, y + height), sizes[image], left)
        if box is not None:
            area = measure_area(box) if area is None else area
            rows[image].append((box, classes[category], area, is_crowd))
    return rows


def _read_content(file):
    """The content of a JSON file: its three lists, whose entries have what is needed of them.

    Raises:
        ValueError: if it has others.
        OSError: if it cannot be read.
    """
    try:
        content = json.loads(read_bytes(file))
        if not isinstance(content, dict):
            raise ValueError(f"it holds no object with {', '.join(map(repr, NEEDED))}")
        for what, keys in NEEDED.items():
            _check_entries(content, what, keys)
        for what in ("images", "categories"):
            _check_ids(what, [entry["id"] for entry in content[what]])
        for entry in content["images"]:
            _check_file_name(entry)
        for entry in content["categories"]:
            _check_name(entry)
        for entry in content["annotations"]:
            hash((entry["image_id"], entry["category_id"]))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{printable(file)!r} is not a JSON file of COCO: {str(error)[:200]}"
        ) from error
    return content


def _check_entries(content, what, keys):
    if what not in content:
        raise ValueError(f"there is no {what!r}")
    entries = content[what]
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise ValueError(f"{what!r} is not a list of objects")
    for entry in entries:
        if missing := [key for key in keys if key not in entry]:
            raise ValueError(f"there is no {missing[0]!r} in an entry of {what!r}: {entry}")


def _check_ids(what, ids):
    """All must be numbers, or all texts: pycocotools sorts them."""
    is_text = bool(ids) and isinstance(ids[0], str)
    kinds, named = ((str,), "a text, as the first is") if is_text else ((int, float), "a number")
    if other := [each for each in ids if type(each) not in kinds or each != each]:
        raise ValueError(f"the 'id' of an entry of {what!r} is not {named}: {other[0]!r}")


def _check_file_name(entry):
    name = entry["file_name"]
    if not isinstance(name, str) or not name or "\0" in name or not _can(os.fsencode, name):
        raise ValueError(f"the 'file_name' of image {entry['id']!r} is none: {name!r}")


def _check_name(entry):
    """A class without a name is one that is never detected; names are printed and saved."""
    name = entry["name"]
    is_text = isinstance(name, str) and name.strip() and _can(str.encode, name)
    if not is_text and type(name) not in (int, float):
        raise ValueError(f"the 'name' of category {entry['id']!r} is not a text: {name!r}")


def _can(encode, text):
    try:
        encode(text)
        return True
    except UnicodeEncodeError:
        return False


def finish(images, sizes, rows, left: Counter, *, source: str, **fields) -> BoxedImages:
    """`BoxedImages` of the rows of each image, as `make_truth` takes them, and of what was left
    out.

    Raises:
        ValueError: if there are no boxes at all.
    """
    if not any(rows):
        without = f", but {left[NO_AREA]:,} without an area in their image" if left[NO_AREA] else ""
        raise ValueError(f"{source} has no boxes in its {len(rows):,} images{without}")
    left["images without boxes"] += sum(not each for each in rows)
    notes = [f"{what}: {count:,}" for what, count in left.items() if count]
    return BoxedImages(images, sizes, list(map(make_truth, rows)), notes=notes, **fields)


def clip_box(box, size, left: Counter) -> list[float] | None:
    """The corners of a box within an image of (height, width); None for one without an area. `left`
    counts both.
    """
    sides = (*size[::-1], *size[::-1])
    within = [min(max(value, 0.0), float(side)) for value, side in zip(box, sides, strict=True)]
    if min(within[2] - within[0], within[3] - within[1]) < LEAST:
        left[NO_AREA] += 1
        return None
    if within != list(box):
        left["boxes cut at the border of their image"] += 1
    return within


def measure_area(box: Sequence[float]) -> float:
    """The area of a box, to a tenth of a pixel: one of 32 x 32 is small for COCO, wherever it is,
    and not where the differences of its corners are rounded down only.
    """
    return round((box[2] - box[0]) * (box[3] - box[1]), 1)


def read_sizes(file: Path, paths: Iterable[Path]) -> list[tuple[int, int]]:
    """The height and width of image files, upright.

    Raises:
        ValueError: for one that is not there or too small, or whose header is damaged.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda path: _read_size(file, path), paths))


def _read_size(file, path):
    try:
        beginning = read_bytes(path, BEGINNING)
        return find_size(beginning, lambda: read_bytes(path), printable(path))
    except OSError as error:
        raise ValueError(
            f"{printable(file)!r} lists an image that cannot be read: {printable(path)!r} "
            f"({error.strerror or error})"
        ) from error


def _check_unique(file, what, by, values):
    if repeated := [value for value, count in Counter(values).items() if count > 1]:
        raise ValueError(f"{printable(file)!r} has two {what} of the {by} {repeated[0]!r}")
    if not values:
        raise ValueError(f"{printable(file)!r} has no {what}")


def _find_folder(file, name):
    """The first of the usual places that has the first image, of this name."""
    split = file.stem.removeprefix("instances_")
    roots = [file.parent, file.parent.parent]
    folders = [root / each for root in roots for each in (".", "images", split, f"images/{split}")]
    for folder in folders:
        if os.path.isfile(folder / name):  # False also for a name that is too long
            return folder
    raise ValueError(
        f"The image {name!r} of {printable(file)!r} is in none of "
        f"{', '.join(repr(printable(folder)) for folder in folders)}"
    )


def _read_box(file, entry):
    """The box of an annotation: (x, y, width, height), its area or None, and whether it is a
    crowd.
    """
    box = entry["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        raise _refuse(file, entry, "four numbers, x, y, width and height", box)
    area = entry.get("area")
    if "area" in entry and not (_is_number(area) and 0 <= area < UNCOUNTED):
        raise _refuse(file, entry, "a number, the area", area)
    crowd = entry.get("iscrowd") or 0
    if crowd not in (0, 1):
        raise _refuse(file, entry, "0 or 1, 'iscrowd'", crowd)
    return box, area, crowd == 1


def _refuse(file, entry, what, given):
    return ValueError(
        f"{printable(file)!r} has a box that is not {what}, in image {entry['image_id']}: "
        f"{repr(given)[:80]}"
    )


def _is_number(value):
    """Whether it is a finite number that a float can hold."""
    return type(value) in (int, float) and abs(value) < LARGEST
