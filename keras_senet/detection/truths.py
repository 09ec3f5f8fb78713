"""Images with boxes, and how they are read from COCO's JSON files."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_senet.files import printable, read_bytes
from keras_senet.images import headers

LEAST = 1e-3  # pixels of a side: a smaller box is none


class Truth(NamedTuple):
    """What is in an image.

    boxes    float32 (n, 4): x1, y1, x2, y2 in pixels of the upright image
    classes  int64 (n,): 0, 1, ...
    areas    float64 (n,), of the objects; COCO counts by them as small, medium or large
    crowds   bool (n,), whether a box stands for many objects: it is not trained on, and detections
             in it do not count
    """

    boxes: np.ndarray
    classes: np.ndarray
    areas: np.ndarray
    crowds: np.ndarray


@dataclass(frozen=True)
class BoxedImages:
    """Images with what is in them.

    images       of each the path of a file, or an array (H, W, 3) of 0..255 RGB
    sizes        of each the height and width, in pixels
    truths       of each the `Truth`
    class_names  in the order of the numbers in `Truth.classes`
    ids          of each image its number in the file
    categories   of each class its number in the file
    notes        what was left out, with counts: lines for the user
    """

    images: Sequence[Any]
    sizes: Sequence[tuple[int, int]]
    truths: Sequence[Truth]
    class_names: tuple[str, ...]
    ids: Sequence[int]
    categories: tuple[int, ...]
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.images)

    def name_of(self, index: int) -> str:
        """The name of an image in messages."""
        image = self.images[index]
        return f"image {self.ids[index]}" if hasattr(image, "shape") else printable(image)

    def to_coco(self) -> dict[str, list[dict[str, Any]]]:
        """The content of a JSON file of COCO with these images and boxes."""
        annotations = []
        for number, truth in zip(self.ids, self.truths, strict=True):
            for box, label, area, crowd in zip(*truth, strict=True):
                x, y, right, bottom = (float(value) for value in box)
                annotations.append(
                    {
                        "id": len(annotations) + 1,  # pycocotools takes 0 for "unmatched"
                        "image_id": number,
                        "category_id": self.categories[label],
                        "bbox": [x, y, right - x, bottom - y],
                        "area": float(area),
                        "iscrowd": int(crowd),
                    }
                )
        return {
            "images": [
                {"id": number, "file_name": Path(self.name_of(i)).name, "height": h, "width": w}
                for i, (number, (h, w)) in enumerate(zip(self.ids, self.sizes, strict=True))
            ],
            "annotations": annotations,
            "categories": [
                {"id": number, "name": name}
                for number, name in zip(self.categories, self.class_names, strict=True)
            ],
        }


def load_coco(file: str | Path, images: str | Path | None = None) -> BoxedImages:
    """The images and boxes of a JSON file of COCO.

    Boxes are cut at the image's border. Those without an area are left out, and counted in `notes`.
    The classes are in the order of the categories in the file.

    Args:
        file: the JSON file.
        images: the folder that its names of images are in; None looks for it beside the file.

    Raises:
        ValueError: for a file that is not COCO's, or with boxes that are not numbers, categories or
            images that are not listed, no boxes at all, or images that are not there.
        OSError: if it cannot be read.
    """
    file = Path(file)
    try:
        content = json.loads(read_bytes(file))
        listed = [(entry["id"], entry["file_name"]) for entry in content["images"]]
        categories = [(entry["id"], str(entry["name"])) for entry in content["categories"]]
        annotations = content["annotations"]
        boxes = [
            (each["image_id"], each["category_id"], each["bbox"], each) for each in annotations
        ]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"there is no {error}" if isinstance(error, KeyError) else str(error)[:200]
        raise ValueError(f"{printable(file)!r} is not a JSON file of COCO: {reason}") from error
    numbers, names = zip(*categories, strict=True) if categories else ((), ())
    _check_unique(file, "images", [number for number, _ in listed])
    _check_unique(file, "categories", numbers)
    folder = _find_folder(file, listed) if images is None else Path(images)
    paths = {number: folder / name for number, name in listed}
    sizes = {number: _size_of(file, path) for number, path in paths.items()}
    left, rows = Counter(), {number: [] for number in paths}
    classes = {number: index for index, number in enumerate(numbers)}
    for image, category, box, entry in boxes:
        if image not in sizes or category not in classes:
            what = f"category {category}" if image in sizes else f"image {image}"
            raise ValueError(f"{printable(file)!r} has a box of {what}, which is not listed")
        box = _clip(file, image, box, sizes[image], left)
        if box is not None:
            area = float(entry.get("area", (box[2] - box[0]) * (box[3] - box[1])))
            rows[image].append((box, classes[category], area, bool(entry.get("iscrowd", 0))))
    if not any(rows.values()):
        raise ValueError(f"{printable(file)!r} has no boxes in its {len(paths):,} images")
    empty = sum(not each for each in rows.values())
    left["images without boxes"] += empty
    return BoxedImages(
        list(paths.values()),
        list(sizes.values()),
        [make_truth(each) for each in rows.values()],
        names,
        list(paths),
        numbers,
        [f"{what}: {count:,}" for what, count in left.items() if count],
    )


def make_truth(rows: Sequence[tuple]) -> Truth:
    """The `Truth` of rows of (box, class, area, whether it is a crowd)."""
    boxes, classes, areas, crowds = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Truth(
        np.array(boxes, "float32").reshape(-1, 4),
        np.array(classes, "int64"),
        np.array(areas, "float64"),
        np.array(crowds, "bool"),
    )


def _check_unique(file, what, numbers):
    if repeated := [number for number, count in Counter(numbers).items() if count > 1]:
        raise ValueError(f"{printable(file)!r} has two {what} of the number {repeated[0]!r}")
    if not numbers:
        raise ValueError(f"{printable(file)!r} has no {what}")


def _find_folder(file, listed):
    """The first of the usual places that has the first image."""
    split = file.stem.removeprefix("instances_")
    roots = [file.parent, file.parent.parent]
    folders = [root / name for root in roots for name in (".", "images", split, f"images/{split}")]
    _, name = listed[0]
    for folder in folders:
        if (folder / name).is_file():
            return folder
    raise ValueError(
        f"The image {name!r} of {printable(file)!r} is in none of "
        f"{', '.join(repr(printable(folder)) for folder in folders)}"
    )


def _size_of(file, path):
    """The height and width of an image file, upright."""
    try:
        with path.open("rb") as opened:
            header = headers.read_header(opened.read(2**20))
    except OSError as error:
        raise ValueError(
            f"{printable(file)!r} lists an image that cannot be read: {printable(path)!r} "
            f"({error.strerror})"
        ) from error
    if problem := headers.find_problem(header):
        raise ValueError(f"{printable(path)!r} cannot be used: {problem}")
    sides = (header.height, header.width)
    return sides[::-1] if header.orientation > 4 else sides


def _clip(file, image, box, size, left):
    """The corners of a box of COCO within an image; None for one without an area."""
    numbers = isinstance(box, list) and len(box) == 4
    if not numbers or not all(
        isinstance(value, (int, float)) and math.isfinite(value) for value in box
    ):
        raise ValueError(
            f"{printable(file)!r} has a box that is not four numbers, x, y, width and height, in "
            f"image {image}: {str(box)[:80]}"
        )
    x, y, width, height = box
    corners, sides = (x, y, x + width, y + height), (*size[::-1], *size[::-1])
    within = [min(max(value, 0), side) for value, side in zip(corners, sides, strict=True)]
    if min(within[2] - within[0], within[3] - within[1]) < LEAST:
        left["boxes without an area in their image, left out"] += 1
        return None
    if within != [x, y, x + width, y + height]:
        left["boxes cut at the border of their image"] += 1
    return within
