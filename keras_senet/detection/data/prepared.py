"""Images with boxes that tensorflow_datasets has prepared on the disk."""

import functools
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_senet.data.examples import read_features
from keras_senet.data.prepared import NAMES, load_info, open_records
from keras_senet.data.records import RecordFiles
from keras_senet.detection.canvas import decode_image, find_size
from keras_senet.detection.data.coco import BEGINNING, clip_box, finish, measure_area
from keras_senet.detection.data.truths import UNCOUNTED, BoxedImages
from keras_senet.detection.torchvision import COCO
from keras_senet.extras import require

# What the features are called: image, its number and file, and what is known of each object.
IMAGE, ID, FILE, OBJECTS = "image", "image/id", "image/filename", "objects"
BOX, LABEL, AREA, CROWD, DIFFICULT = "bbox", "label", "area", "is_crowd", "is_difficult"
PROBED = 20  # images of a split, of which one must have boxes


class RecordImages(Sequence):
    """The images of records, each decoded when it is taken: uint8 (H, W, 3)."""

    def __init__(self, records: RecordFiles, names: Sequence[str]):
        self.records, self.names = records, names

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: Any) -> Any:
        number = range(len(self))[index]
        return decode_image(_read_image(self.records, number), 3, self.names[number])


def _read_whole(record):
    """All features of a record."""
    return read_features(lambda count, at: record[at : at + count], 0, len(record), {})


def _read_image(records, index):
    """The file of an image."""
    (record,) = records.read(np.array([index]))
    return _read_whole(record)[IMAGE][0]


def load_records(name: str, split: str, data_dir=None) -> BoxedImages:
    """The images and boxes of a split of a dataset of tensorflow_datasets, such as "coco/2017" or
    "voc/2007"; "train+val" are two splits together.

    Its boxes, fractions of the image, become pixels. The numbers of COCO's categories are COCO's
    own; those of others begin at 1. VOC counts pixels from 1 and to the last one within: its boxes
    are moved. Its difficult objects are not trained on, and detections of them do not count.

    Raises:
        ValueError: if it is not on the disk, has no boxes, or is damaged.
        MissingExtraError: if tensorflow_datasets is not installed.
    """
    info, class_names = _load_info(name, data_dir)
    splits = [_find_split(info, each) for each in split.split("+")]
    if None in splits:
        raise ValueError(
            f"The dataset {info.full_name!r} in {str(info.data_dir)!r} has no split {split!r} with "
            f"boxes. Splits: {list(info.splits)}"
        )
    records = open_records(info, *splits)
    left, sizes, rows, ids, names = Counter(), [], [], [], []
    shards = records.map(lambda *record: read_features(*record, {IMAGE: BEGINNING}))
    for index, features in enumerate(itertools.chain.from_iterable(shards)):
        ids.append(features[ID][0] if ID in features else index + 1)
        names.append(features[FILE][0].decode() if FILE in features else f"image {ids[-1]}")
        read = functools.partial(_read_image, records, index)
        sizes.append(find_size(features[IMAGE][0], read, names[-1]))
        rows.append(_read_rows(info.name, features, sizes[-1], left))
    return finish(
        RecordImages(records, names),
        sizes,
        rows,
        left,
        source=f"{'+'.join(splits)!r} of {info.full_name!r}",
        class_names=class_names,
        ids=ids,
        categories=_number_classes(info, class_names),
        names=names,
    )


def _number_classes(info, class_names):
    """The numbers of the categories."""
    numbers = [number for number, name in enumerate(COCO, 1) if name]
    is_coco = info.name == "coco" and len(class_names) == len(numbers)
    return tuple(numbers if is_coco else range(1, len(class_names) + 1))


def has_split(name: str, split: str, data_dir=None) -> bool:
    """Whether a dataset of tensorflow_datasets has "train", "val" or "test", with boxes."""
    return _find_split(_load_info(name, data_dir)[0], split) is not None


def _find_split(info, split):
    there = [each for each in NAMES.get(split, ()) if each in info.splits]
    # COCO's test images and those of VOC 2012 have none.
    return next((each for each in there if _has_boxes(info, each)), None)


def _has_boxes(info, split):
    records = open_records(info, split)
    probed = records.read(np.arange(min(PROBED, len(records))))
    return any(_read_whole(record).get(f"{OBJECTS}/{BOX}") for record in probed)


def _load_info(name, data_dir):
    """The `DatasetInfo` of a dataset, and the names of its classes."""
    features = require("tensorflow_datasets", "train").features
    info = load_info(name, data_dir)
    kinds = dict(info.features.items())
    inner = dict(getattr(kinds.get(OBJECTS), "feature", {}).items())
    if (
        not isinstance(kinds.get(IMAGE), features.Image)
        or not isinstance(inner.get(BOX), features.BBoxFeature)
        or not isinstance(inner.get(LABEL), features.ClassLabel)
    ):
        raise ValueError(
            f"The dataset {name!r} is not one of images with boxes; its features: {list(kinds)}"
        )
    return info, tuple(inner[LABEL].names)


def _read_rows(dataset, features, size, left):
    """The rows of an image, as `make_truth` takes them."""
    values = {key: features.get(f"{OBJECTS}/{key}", ()) for key in (LABEL, AREA, CROWD, DIFFICULT)}
    fractions = np.reshape(features.get(f"{OBJECTS}/{BOX}", ()), (-1, 4))
    # ymin, xmin, ymax, xmax
    boxes = (fractions * (*size, *size))[:, [1, 0, 3, 2]]
    if dataset == "voc":
        boxes[:, :2] -= 1
    rows = []
    for number, (box, label) in enumerate(zip(boxes.tolist(), values[LABEL], strict=True)):
        is_difficult = bool(values[DIFFICULT] and values[DIFFICULT][number])
        is_crowd = bool(values[CROWD] and values[CROWD][number])
        box = clip_box(box, size, left)
        if box is None:
            continue
        area = values[AREA][number] if values[AREA] else measure_area(box)
        rows.append((box, label, UNCOUNTED if is_difficult else area, is_crowd or is_difficult))
    return rows
