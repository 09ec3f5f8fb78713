"""Where images come from: arrays in memory, or encoded images with random access."""

import abc
import os
import zlib
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from keras_senet.data import decoding
from keras_senet.images.decoding import decode, orientation_of


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images in memory: `images` uint8 (N, H, W, C) of 0..255 RGB, `labels` int64 (N,),
    class names.

    `files` are those that they were read from, if any: name -> bytes.

    Raises:
        ValueError: for images of another shape or type, or another number of labels.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    files: dict[str, int] = field(default_factory=dict)

    def __post_init__(self):
        shape, kind = np.shape(self.images), getattr(self.images, "dtype", None)
        if len(shape) != 4 or kind != np.uint8 or np.shape(self.labels) != shape[:1]:
            raise ValueError(
                "A dataset has images uint8 (N, H, W, C) and labels (N,). "
                f"Received: images {kind} {shape}, labels {np.shape(self.labels)}"
            )
        object.__setattr__(self, "labels", np.asarray(self.labels, "int64"))
        object.__setattr__(self, "class_names", tuple(self.class_names))

    def __len__(self):
        return len(self.images)

    @property
    def image_shape(self):
        """(H, W, C)."""
        return self.images.shape[1:]

    @property
    def raw(self):
        """What `fetch` gives of an image."""
        return tf.TensorSpec(self.image_shape, tf.uint8)

    def name_of(self, index):
        """What to call an image in messages."""
        return f"image {index}"

    def listing(self):
        """What the images are known by: the names and sizes of their files, else a checksum of
        their labels.
        """
        return dict(self.files) or {"labels": zlib.crc32(self.labels.astype("<i8").tobytes())}

    def fetch(self, indices):
        """(images uint8 (n, H, W, C), labels int64 (n,)) of int64 indices (n,)."""
        return self.images[indices], self.labels[indices]

    def decode(self, raw, orientation=None):
        """An image as `fetch` gives it -> uint8 (H, W, C)."""
        return raw

    def headers(self, raw):
        """(height, width) of images as `fetch` gives them, int32 (n, 2), and their orientations,
        int32 (n,): 1.
        """
        return np.tile(np.int32(self.image_shape[:2]), (len(raw), 1)), np.ones(len(raw), "int32")

    def decode_part(self, raw, window, box, choose, size, orientation):
        """The part `box` of the window of an image: uint8 (h, w, C)."""
        return decoding.crop(decoding.crop(raw, window), box)


class Encoded(abc.ABC):
    """Labelled images as encoded bytes with random access; H and W of `image_shape` are None where
    they differ.

    A subclass has `__len__`, `labels` (int64 (N,)), `name_of(index)`, `fetch(indices)` and
    `listing()`.
    """

    raw = tf.TensorSpec((), tf.string)  # what `fetch` gives of an image

    upright = True  # whether images are turned as their EXIF orientation says

    def __init__(self, class_names, image_shape):
        self.class_names = tuple(class_names)
        self.image_shape = tuple(image_shape)

    @abc.abstractmethod
    def fetch(self, indices):
        """(encoded images, object (n,) of bytes; labels int64 (n,)) of int64 indices (n,)."""

    def listing(self):
        """The names and sizes of the files: {name: bytes}."""
        return {}

    def decode(self, raw, orientation=None):
        """Encoded bytes, a scalar tensor -> uint8 (H, W, C) of 0..255; the orientation of
        `headers`, if it is known.
        """
        if orientation is None:
            orientation = orientation_of(raw)
        image = decode(raw, self.image_shape[-1], orientation if self.upright else 1)
        return tf.ensure_shape(image, self.image_shape)

    def headers(self, raw):
        """(sizes, orientations) of encoded images: see `decoding.read_headers`."""
        return decoding.read_headers(raw, self.upright)

    def decode_part(self, raw, window, box, choose, size, orientation):
        """The part `box` of the window of an encoded image, or what `choose` chooses: see
        `decoding.decode_part`.
        """
        return decoding.decode_part(
            raw, self.image_shape[-1], window, box, choose, size, orientation
        )


def fetched(dataset, indices):
    """(images as `fetch` gives them, their orientations, labels) of a vector of indices, in a
    graph.
    """

    def fetch(indices):
        raw, labels = dataset.fetch(indices)
        return raw, dataset.headers(raw)[1], labels

    kind = dataset.raw
    raw, orientations, labels = tf.numpy_function(
        fetch, [indices], (kind.dtype, tf.int32, tf.int64)
    )
    return (
        tf.ensure_shape(raw, (*indices.shape, *kind.shape)),
        tf.ensure_shape(orientations, indices.shape),
        tf.ensure_shape(labels, indices.shape),
    )


def read(positions, fetch, at_once):
    """`fetch` for each of a dataset's elements in their order, so many at once, by threads of their
    own.

    They wait for the disk, and must not keep those that decode.
    """
    return positions.map(fetch, at_once, deterministic=True, use_unbounded_threadpool=True)


def cores():
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def at_once():
    """How many images to begin decoding before the first of them is asked for.

    With no more than there are threads, these would wait for the one image that takes longest.
    """
    return 16 * cores()


def options():
    """Those of a tf.data pipeline that decodes images side by side and is not to be split by
    TensorFlow.
    """
    chosen = tf.data.Options()
    chosen.threading.private_threadpool_size = cores() + 1  # one may wait for Python
    chosen.threading.max_intra_op_parallelism = 1  # one thread an image; more wait for each other
    chosen.autotune.enabled = (
        False  # it takes an epoch of 1,000 images to find out what `at_once` says
    )
    chosen.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return chosen
