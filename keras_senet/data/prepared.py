"""Datasets that tensorflow_datasets has prepared on the disk, as TFRecord."""

import functools
import math

import numpy as np

from keras_senet.data.examples import read_image_and_label, read_integer
from keras_senet.data.records import RecordFiles
from keras_senet.data.sources import Dataset, Encoded
from keras_senet.extras import MissingExtraError, require

# The names that a split may have there.
NAMES = {"train": ("train",), "val": ("validation", "val", "valid"), "test": ("test",)}
IN_MEMORY = 1 << 30  # bytes of decoded images


class RecordDataset(Encoded):
    """Encoded images and labels in TFRecord files."""

    def __init__(self, records, image_key, label_key, class_names, image_shape, upright=True):
        super().__init__(class_names, (*image_shape[:2], image_shape[2] or 3))
        self.records, self.image_key, self.label_key = records, image_key, label_key
        self.upright = upright

    def __len__(self) -> int:
        return len(self.records)

    @functools.cached_property
    def labels(self):
        """All labels, int64 (N,), read at the first access."""
        return self.records.read_integers(self.label_key)

    def listing(self) -> dict[str, int]:
        return self.records.listing()

    def name_of(self, index: int) -> str:
        """The file and the record's number in it."""
        path, number = self.records.locate(index)
        return f"{path}, record {number}"

    def fetch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        images, labels = np.empty(len(indices), object), np.empty(len(indices), "int64")
        for place, record in enumerate(self.records.read(indices)):
            images[place], labels[place] = read_image_and_label(
                record, self.image_key, self.label_key
            )
        return images, labels


def load_labelled(
    name: str, split: str, data_dir=None, upright: bool = True
) -> Dataset | RecordDataset:
    """The "train", "val" or "test" split of a dataset of tensorflow_datasets.

    It is decoded if all images have one small size.

    Raises:
        ValueError: if it is not on the disk, is not an image classification dataset, or is damaged.
        MissingExtraError: if tensorflow_datasets is not installed.
    """
    info = load_info(name, data_dir)
    image_key, label_key = _keys(info, name)
    image, label = info.features[image_key], info.features[label_key]
    dataset = RecordDataset(
        open_records(info, _require_split(info, split, label_key)),
        image_key,
        label_key,
        label.names,
        image.shape,
        upright,
    )
    if None not in image.shape and len(dataset) * math.prod(image.shape) <= IN_MEMORY:
        return _decode_all(dataset)
    return dataset


def load_info(name: str, data_dir=None):
    """The `DatasetInfo` of a dataset of tensorflow_datasets on the disk.

    Raises:
        ValueError: if it is not there.
        MissingExtraError: if tensorflow_datasets is not installed.
    """
    require("tensorflow", "train")  # which tensorflow_datasets reads its files by
    tfds = require("tensorflow_datasets", "train")
    try:
        return tfds.core.read_only_builder.builder_from_files(name, data_dir=data_dir).info
    except tfds.core.registered.DatasetNotFoundError as error:
        place = data_dir or tfds.core.constants.DATA_DIR
        raise ValueError(
            f"There is no dataset {name!r} in {str(place)!r}. Prepare it there with "
            f"tensorflow_datasets (tfds.builder({name!r}).download_and_prepare()), or name another "
            "directory or dataset"
        ) from error


def has_prepared(name: str, data_dir=None) -> bool:
    """Whether there is a dataset of tensorflow_datasets of this name on the disk."""
    try:
        return bool(load_info(name, data_dir))
    except (ValueError, MissingExtraError):
        return False


def _keys(info, name):
    tfds = require("tensorflow_datasets", "train")
    keys = info.supervised_keys
    if keys is None or len(keys) != 2 or not all(isinstance(key, str) for key in keys):
        raise ValueError(
            f"The dataset {name!r} has no pair of image and label; "
            f"its features: {list(info.features)}"
        )
    image, label = (info.features[key] for key in keys)
    if not isinstance(image, tfds.features.Image) or not isinstance(
        label, tfds.features.ClassLabel
    ):
        raise ValueError(
            f"The dataset {name!r} is not an image classification dataset: "
            f"{keys[0]!r} is {image}, {keys[1]!r} is {label}"
        )
    if image.np_dtype != np.uint8:
        raise ValueError(f"Images must be uint8. The dataset {name!r} has {image}")
    return keys


def has_prepared_split(name: str, split: str, data_dir=None) -> bool:
    """Whether a dataset of tensorflow_datasets has "train", "val" or "test", with labels."""
    info = load_info(name, data_dir)
    _, label_key = _keys(info, name)
    return _find_split(info, split, label_key) is not None


def _require_split(info, split, label_key):
    """The name of a split in tensorflow_datasets; raises ValueError if it is missing."""
    found = _find_split(info, split, label_key)
    if found is None:
        accepted = [NAMES[each][0] for each in (("test", "val") if split == "test" else (split,))]
        raise ValueError(
            f"The dataset {info.full_name!r} in {str(info.data_dir)!r} has no labelled split "
            f"{' or '.join(map(repr, accepted))}. Splits: {list(info.splits)}"
        )
    return found


def _find_split(info, split, label_key):
    there = (
        name for name in NAMES[split] if name in info.splits and info.splits[name].num_examples
    )
    return next((name for name in there if name != "test" or _is_labelled(info, label_key)), None)


def _is_labelled(info, label_key):
    """Whether the first image of "test" has a label: ImageNet's have -1."""
    record = open_records(info, "test").read(np.array([0]))[0]
    return read_integer(lambda count, at: record[at : at + count], 0, len(record), label_key) >= 0


def open_records(info, *splits: str) -> RecordFiles:
    """The records of splits, by their names in tensorflow_datasets.

    Raises:
        ValueError: if they are not TFRecord, or damaged.
    """
    if info.file_format.file_suffix != "tfrecord":
        raise ValueError(
            "The files must be TFRecord. "
            f"The dataset {info.full_name!r} has {info.file_format.value!r}"
        )
    shards = []
    for split in (info.splits[each] for each in splits):
        shards += zip(split.filepaths, split.shard_lengths, strict=True)
    return RecordFiles(f"{info.name}-{'+'.join(splits)}", shards)


def _decode_all(dataset):
    import tensorflow as tf

    images = np.empty((len(dataset), *dataset.image_shape), "uint8")
    labels = np.empty(len(dataset), "int64")
    wanted = {
        dataset.image_key: tf.io.FixedLenFeature((), tf.string),
        dataset.label_key: tf.io.FixedLenFeature((), tf.int64),
    }

    def decode(records):
        parsed = tf.io.parse_example(records, wanted)
        decoded = tf.map_fn(dataset.decode, parsed[dataset.image_key], fn_output_signature=tf.uint8)
        return decoded, parsed[dataset.label_key]

    records = tf.data.TFRecordDataset([str(path) for path in dataset.records.paths]).batch(256)
    done = 0
    for some in records.map(decode, 2, deterministic=True).as_numpy_iterator():
        last = done + len(some[0])
        images[done:last], labels[done:last] = some
        done = last
    return Dataset(images, labels, dataset.class_names, dataset.listing())
