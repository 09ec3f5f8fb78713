"""Pictures, their files, and datasets in the layout of tensorflow_datasets."""

import io
import json

import numpy as np
import tensorflow as tf
from PIL import Image


def picture(height, width, seed=0):
    """A smooth random picture, uint8 (height, width, 3)."""
    noise = np.random.default_rng(seed).integers(
        0, 256, (height // 5 + 1, width // 5 + 1, 3), "uint8"
    )
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def encode(image, kind="JPEG", **options):
    """The bytes of a file of an array or of Pillow's image."""
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(
        file, kind, **options
    )
    return file.getvalue()


def example(encoded, label):
    """A serialised record as tensorflow_datasets writes it."""
    features = {
        "file_name": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"a.jpg"])),
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def prepare(data_dir, splits, name="pictures", classes=3, shape=(None, None, 3)):
    """Writes a dataset: `splits` are {"train": [records of shard 0, of shard 1, ...]}, each record
    serialised.
    """
    import tensorflow_datasets as tfds

    folder = data_dir / name / "1.0.0"
    folder.mkdir(parents=True)
    label = tfds.features.ClassLabel(names=[f"class {i}" for i in range(classes)])
    image = tfds.features.Image(shape=shape, encoding_format="png" if shape[0] else "jpeg")
    features = tfds.features.FeaturesDict(
        {"file_name": tfds.features.Text(), "image": image, "label": label}
    )
    features.save_config(folder)
    template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    rows = []
    for split, shards in splits.items():
        for i, records in enumerate(shards):
            path = folder / f"{name}-{split}.tfrecord-{i:05}-of-{len(shards):05}"
            with tf.io.TFRecordWriter(str(path)) as writer:
                for record in records:
                    writer.write(record)
        lengths = [str(len(records)) for records in shards]
        rows.append(
            {"name": split, "shardLengths": lengths, "numBytes": "1", "filepathTemplate": template}
        )
    keys = {"tuple": {"items": [{"featureKey": "image"}, {"featureKey": "label"}]}}
    info = {
        "name": name,
        "version": "1.0.0",
        "fileFormat": "tfrecord",
        "splits": rows,
        "supervisedKeys": keys,
    }
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder
