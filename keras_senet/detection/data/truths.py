"""Images with boxes: in a dataset, and in a batch."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_senet.data.division import Division
from keras_senet.detection.canvas import read_image
from keras_senet.files import printable

# Square pixels, above all of COCO's ranges: an object that is in none of them is found, once,
# without being counted, which is VOC's rule for difficult ones.
UNCOUNTED = 1e11


class Truth(NamedTuple):
    """What is in an image.

    boxes    float32 (n, 4): x1, y1, x2, y2 in pixels of the upright image
    classes  int64 (n,): 0, 1, ...
    areas    float64 (n,), of the objects; COCO counts by them as small, medium or large, and not
             at all from `UNCOUNTED` on
    crowds   bool (n,), whether a box is not trained on, as it stands for many objects; detections
             in it do not count
    """

    boxes: np.ndarray
    classes: np.ndarray
    areas: np.ndarray
    crowds: np.ndarray


class Truths(NamedTuple):
    """What is in the images of a batch.

    boxes    float32 (N, most, 4), in pixels of the canvas; of each image only the first are true
    classes  int32 (N, most), from 0
    counts   int32 (N,), how many are
    """

    boxes: tf.Tensor
    classes: tf.Tensor
    counts: tf.Tensor

    @property
    def valid(self) -> tf.Tensor:
        """bool (N, most), which boxes are true."""
        return tf.sequence_mask(self.counts, self.boxes.shape[1])


class ChosenImages(Sequence):
    """Some of the images of a dataset, each taken when it is asked for: records are decoded then,
    and thousands of them decoded take gigabytes.
    """

    def __init__(self, images: Sequence, indices: Sequence[int]):
        self.images, self.indices = images, [int(index) for index in indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        return self.images[self.indices[index]]


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
    names        of each image, in messages; without them it is the path, or the number in the file
    files        of each image, as the dataset calls it, wherever it is: by these it is divided
    """

    images: Sequence[Any]
    sizes: Sequence[tuple[int, int]]
    truths: Sequence[Truth]
    class_names: tuple[str, ...]
    ids: Sequence[Any]
    categories: tuple[int, ...]
    notes: list[str] = field(default_factory=list)
    names: Sequence[str] = ()
    files: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.images)

    def name_of(self, index: int) -> str:
        """The name of an image in messages."""
        if self.names:
            return self.names[index]
        image = self.images[index]
        return f"image {self.ids[index]}" if hasattr(image, "shape") else printable(image)

    def read(self, index: int) -> np.ndarray:
        """An image, uint8 or float32 (H, W, 3) of 0..255, upright.

        Raises:
            ValueError: if it cannot be decoded, or has another size than `sizes` says.
            OSError: if it cannot be read.
        """
        image = read_image(self.images[index])
        if tuple(image.shape[:2]) != tuple(self.sizes[index]):
            (height, width), (h, w) = image.shape[:2], self.sizes[index]
            raise ValueError(f"it has {width} x {height} pixels, and its boxes are for {w} x {h}")
        return image

    def subset(self, indices: Sequence[int]) -> "BoxedImages":
        """The images of these indices."""
        chosen: dict[str, Any] = {
            each: [getattr(self, each)[int(i)] for i in indices]
            for each in ("sizes", "truths", "ids", "names", "files")
            if len(getattr(self, each))
        }
        return replace(self, images=ChosenImages(self.images, indices), **chosen)

    def divide(self, division: Division) -> dict[str, "BoxedImages"]:
        """The images of "train" and of "val". Of each class that is in two images or more, at least
        one is in both, if it is the rarest class of an image. What lists one file several times is
        in one of both. Raises as `Division.divide` does.
        """
        count = len(self.class_names)
        there = [np.unique(truth.classes) for truth in self.truths]
        images = np.bincount(np.concatenate(there), minlength=count)  # of each class
        rarest = np.array(
            [each[images[each].argmin()] if len(each) else count for each in there], "int64"
        )
        files = self.list_files()
        names, first = np.unique(files, return_index=True)
        labels = rarest[first]
        if np.bincount(labels, minlength=count + 1)[:count].max() < 2:  # none could be kept
            labels = np.where(labels < count, 0, count)
        parts = division.divide(names.tolist(), labels)
        return {
            split: self.subset(np.flatnonzero(np.isin(files, names[indices])))
            for split, indices in parts.items()
        }

    def list_files(self) -> list[str]:
        """Of each image its name in the dataset."""
        return list(self.files) or [self.name_of(index) for index in range(len(self))]

    def with_classes(self, class_names: Sequence[str]) -> "BoxedImages":
        """The same images with the numbers that a detector's classes have: `class_names`, of which
        those that are "" are no class.

        Raises:
            ValueError: if these are other classes.
        """
        if tuple(class_names) == self.class_names:
            return self
        numbers = {name: number for number, name in enumerate(class_names) if name}
        if other := sorted(numbers.keys() ^ set(self.class_names)):
            named = ", ".join(other[:5]) + (", ..." if len(other) > 5 else "")
            raise ValueError(
                f"The detector has {len(numbers):,} classes, the images {len(self.class_names):,}. "
                f"Only one of both has: {named}"
            )
        order = np.array([numbers[name] for name in self.class_names], "int64")
        truths = [truth._replace(classes=order[truth.classes]) for truth in self.truths]
        categories = dict(zip(self.class_names, self.categories, strict=True))
        return replace(
            self,
            truths=truths,
            class_names=tuple(class_names),
            categories=tuple(categories.get(name, 0) for name in class_names),
        )

    def listing(self) -> dict[str, int]:
        """What identifies the images: how many, and a checksum of their sizes and boxes."""
        parts = [np.asarray(self.sizes, "<i8").tobytes()]
        parts += [np.ascontiguousarray(each).tobytes() for truth in self.truths for each in truth]
        return {"images": len(self), "boxes": zlib.crc32(b"".join(parts))}

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
                        "iscrowd": int(crowd and area < UNCOUNTED),
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
                if name
            ],
        }


def make_truth(rows: Sequence[tuple]) -> Truth:
    """The `Truth` of rows of (box, class, area, whether it is a crowd)."""
    boxes, classes, areas, crowds = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Truth(
        np.array(boxes, "float32").reshape(-1, 4),
        np.array(classes, "int64"),
        np.array(areas, "float64"),
        np.array(crowds, "bool"),
    )
