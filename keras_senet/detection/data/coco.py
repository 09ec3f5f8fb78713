"""Images with boxes from COCO's JSON files."""

import json
import math
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from keras_senet.detection.canvas import check_size
from keras_senet.detection.data.truths import BoxedImages, make_truth
from keras_senet.files import printable, read_bytes
from keras_senet.images import headers
from keras_senet.images.layout import SPLITS

LEAST = 1e-3  # pixels of a side: a smaller box is none
BEGINNING = 2**16  # bytes of a file that mostly have its size
THREADS = 16  # they wait for the disk
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
    try:
        content = json.loads(read_bytes(file))
        listed = {(entry["id"]): str(entry["file_name"]) for entry in content["images"]}
        categories = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
        boxes = [
            (each["image_id"], each["category_id"], each["bbox"], each)
            for each in content["annotations"]
        ]
        known = [(image in listed, category in categories) for image, category, *_ in boxes]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"there is no {error}" if isinstance(error, KeyError) else str(error)[:200]
        raise ValueError(f"{printable(file)!r} is not a JSON file of COCO: {reason}") from error
    _check_unique(file, "images", "number", [entry["id"] for entry in content["images"]])
    _check_unique(file, "categories", "number", [entry["id"] for entry in content["categories"]])
    _check_unique(file, "categories", "name", list(categories.values()))
    folder = _find_folder(file, next(iter(listed.values()))) if images is None else Path(images)
    paths = [folder / name for name in listed.values()]
    sizes = dict(zip(listed, read_sizes(file, paths), strict=True))
    left, rows = Counter(), {number: [] for number in listed}
    for entry in content["images"]:
        stated = entry.get("height"), entry.get("width")
        if all(stated) and stated != sizes[entry["id"]]:
            left["images of another size than the file says, whose boxes may be misplaced"] += 1
    classes = {number: index for index, number in enumerate(categories)}
    for (image, category, box, entry), (has_image, has_category) in zip(boxes, known, strict=True):
        if not (has_image and has_category):
            what = f"category {category}" if has_image else f"image {image}"
            raise ValueError(f"{printable(file)!r} has a box of {what}, which is not listed")
        x, y, width, height = _numbers(file, image, box, 4, "x, y, width and height")
        (area,) = _numbers(file, image, [entry.get("area", width * height)], 1, "the area")
        box = clip((x, y, x + width, y + height), sizes[image], left)
        if box is not None:
            rows[image].append((box, classes[category], area, bool(entry.get("iscrowd", 0))))
    return finish(
        paths,
        list(sizes.values()),
        list(rows.values()),
        left,
        source=f"{printable(file)!r}",
        class_names=tuple(categories.values()),
        ids=list(listed),
        categories=tuple(categories),
    )


def finish(images, sizes, rows, left: Counter, *, source: str, **fields) -> BoxedImages:
    """`BoxedImages` of the rows of each image, as `make_truth` takes them, and of what was left
    out.

    Raises:
        ValueError: if there are no boxes at all.
    """
    if not any(rows):
        raise ValueError(f"{source} has no boxes in its {len(rows):,} images")
    left["images without boxes"] += sum(not each for each in rows)
    notes = [f"{what}: {count:,}" for what, count in left.items() if count]
    return BoxedImages(images, sizes, list(map(make_truth, rows)), notes=notes, **fields)


def clip(box, size, left: Counter) -> list[float] | None:
    """The corners of a box within an image of (height, width); None for one without an area. `left`
    counts both.
    """
    sides = (*size[::-1], *size[::-1])
    within = [min(max(value, 0.0), float(side)) for value, side in zip(box, sides, strict=True)]
    if min(within[2] - within[0], within[3] - within[1]) < LEAST:
        left["boxes without an area in their image, left out"] += 1
        return None
    if within != list(box):
        left["boxes cut at the border of their image"] += 1
    return within


def read_sizes(file: Path, paths: Iterable[Path]) -> list[tuple[int, int]]:
    """The height and width of image files, upright.

    Raises:
        ValueError: for one that is not there or too small, or whose header is damaged.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda path: _read_size(file, path), paths))


def _read_size(file, path):
    try:
        header = headers.read_header(read_bytes(path, BEGINNING))
        if header.format != headers.JPEG or not header.height:
            header = headers.read_header(read_bytes(path))
    except OSError as error:
        raise ValueError(
            f"{printable(file)!r} lists an image that cannot be read: {printable(path)!r} "
            f"({error.strerror or error})"
        ) from error
    if problem := headers.find_problem(header):
        raise ValueError(f"{printable(path)!r} cannot be used: {problem}")
    check_size(header.upright_size, f": {printable(path)!r}")
    return header.upright_size


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
        if (folder / name).is_file():
            return folder
    raise ValueError(
        f"The image {name!r} of {printable(file)!r} is in none of "
        f"{', '.join(repr(printable(folder)) for folder in folders)}"
    )


def _numbers(file, image, values, count, what):
    """The values, if they are so many finite numbers."""
    if (
        not isinstance(values, list)
        or len(values) != count
        or not all(type(value) in (int, float) and math.isfinite(value) for value in values)
    ):
        number = "four numbers" if count == 4 else "a number"
        given = values if count == 4 else values[0]
        raise ValueError(
            f"{printable(file)!r} has a box that is not {number}, {what}, in image {image}: "
            f"{str(given)[:80]}"
        )
    return values
