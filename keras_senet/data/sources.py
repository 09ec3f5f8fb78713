"""Where images come from: arrays in memory, or encoded images with random access.

Only what decodes images or is part of a `tf.data` pipeline needs TensorFlow.
"""

from __future__ import annotations

import abc
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_senet.fields import list_some

if TYPE_CHECKING:
    import tensorflow as tf


class _Images(abc.ABC):
    """Labelled images; those of a subclass have a length."""

    @abc.abstractmethod
    def __len__(self) -> int: ...

    def names(self) -> list[str]:
        """What tells the images apart, wherever the dataset is."""
        return [str(index) for index in range(len(self))]

    def select(self, indices: np.ndarray) -> Encoded:
        """The images of these indices (n,), as a dataset."""
        return Subset(self, indices)


@dataclass(frozen=True, eq=False)
class Dataset(_Images):
    """Labelled images in memory: `images` uint8 (N, H, W, C) of 0..255 RGB, `labels` int64 (N,),
    class names.

    `files` are those that they were read from, if any: name -> size in bytes.

    Raises:
        ValueError: for images of another shape or type, or another number of labels.
    """

    images: np.ndarray
    labels: Any  # an array, or a property that returns one
    class_names: tuple[str, ...]
    files: dict[str, int] = field(default_factory=dict)
    is_in_memory = True  # decoded, and all of one size

    def __post_init__(self):
        shape, kind = np.shape(self.images), getattr(self.images, "dtype", None)
        if len(shape) != 4 or kind != np.uint8 or np.shape(self.labels) != shape[:1]:
            raise ValueError(
                "A dataset has images uint8 (N, H, W, C) and labels (N,). "
                f"Received: images {kind} {shape}, labels {np.shape(self.labels)}"
            )
        object.__setattr__(self, "labels", np.asarray(self.labels, "int64"))
        object.__setattr__(self, "class_names", tuple(self.class_names))

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return self.images.shape[1:]

    @property
    def raw(self) -> tf.TensorSpec:
        """What `fetch` returns for an image."""
        import tensorflow as tf

        return tf.TensorSpec(self.image_shape, tf.uint8)

    def name_of(self, index: int) -> str:
        """The name of an image in messages."""
        return f"image {index}"

    def listing(self) -> dict[str, int]:
        """What identifies the images: files' names and sizes, else a checksum of the labels."""
        return dict(self.files) or {"labels": _checksum(self.labels)}

    def fetch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(images uint8 (n, H, W, C), labels int64 (n,)) of int64 indices (n,)."""
        return self.images[indices], self.labels[indices]

    def decode(self, raw, orientation=None):
        """An image as `fetch` returns it -> uint8 (H, W, C)."""
        return raw

    def headers(self, raw):
        """(height, width) of fetched images, int32 (n, 2), and orientations, int32 (n,): 1."""
        return np.tile(np.int32(self.image_shape[:2]), (len(raw), 1)), np.ones(len(raw), "int32")

    def decode_box(self, raw, windows, choose, size, orientation):
        """The box of the window of an image, (2, 4): uint8 (h, w, C)."""
        import tensorflow as tf

        from keras_senet.data import decoding

        window, box = tf.unstack(windows)
        return decoding.crop_box(decoding.crop_box(raw, window), box)


def select_evenly(count: int, most: int) -> np.ndarray:
    """The indices of at most so many of `count` things, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype("int64"))


def _checksum(numbers):
    return zlib.crc32(np.asarray(numbers, "<i8").tobytes())


class Encoded(_Images):
    """Labelled images as encoded bytes with random access; H and W of `image_shape` are None where
    they differ.

    A subclass has `__len__`, `labels` (int64 (N,)), `name_of(index)`, `fetch(indices)` and
    `listing()`.
    """

    labels: Any  # an array, or a property that returns one
    upright = True  # whether images are rotated as their EXIF orientation says
    is_in_memory = False

    def __init__(self, class_names, image_shape):
        self.class_names = tuple(class_names)
        self.image_shape = tuple(image_shape)

    @property
    def raw(self) -> tf.TensorSpec:
        """What `fetch` returns for an image."""
        import tensorflow as tf

        return tf.TensorSpec((), tf.string)

    @abc.abstractmethod
    def name_of(self, index: int) -> str:
        """The name of an image in messages."""

    @abc.abstractmethod
    def fetch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(encoded images, object (n,) of bytes; labels int64 (n,)) of int64 indices (n,)."""

    def listing(self) -> dict[str, int]:
        """The names and sizes of the files: {name: bytes}."""
        return {}

    def decode(self, raw, orientation=None):
        """Encoded bytes, a scalar tensor -> uint8 (H, W, C); `headers`' orientation, if known."""
        import tensorflow as tf

        from keras_senet.images.decoding import decode, read_orientation

        if orientation is None:
            orientation = read_orientation(raw)
        image = decode(raw, self.image_shape[-1], orientation if self.upright else 1)
        return tf.ensure_shape(image, self.image_shape)

    def headers(self, raw):
        """(sizes, orientations) of encoded images: see `decoding.read_headers`."""
        from keras_senet.data import decoding

        return decoding.read_headers(raw, self.upright)

    def decode_box(self, raw, windows, choose, size, orientation):
        """The box of an encoded image's window, or that of `choose`: see `decoding.decode_box`."""
        from keras_senet.data import decoding

        return decoding.decode_box(raw, self.image_shape[-1], windows, choose, size, orientation)


class Subset(Encoded):
    """Images of a dataset, by their indices (n,), as a dataset."""

    def __init__(self, dataset: Dataset | Encoded, indices: np.ndarray):
        super().__init__(dataset.class_names, dataset.image_shape)
        self.dataset, self.indices = dataset, np.asarray(indices)
        self.is_in_memory, self.upright = dataset.is_in_memory, getattr(dataset, "upright", True)
        self.decode, self.headers = dataset.decode, dataset.headers
        self.decode_box = dataset.decode_box

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def raw(self) -> tf.TensorSpec:
        return self.dataset.raw

    @property
    def labels(self):
        """Their labels, int64 (n,)."""
        return self.dataset.labels[self.indices]

    def name_of(self, index: int) -> str:
        return self.dataset.name_of(int(self.indices[index]))

    def listing(self) -> dict[str, int]:
        """That of the dataset, and a checksum of the indices."""
        return dict(self.dataset.listing(), selected=_checksum(self.indices))

    def fetch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.dataset.fetch(self.indices[indices])


class Renumbered(Subset):
    """The images of a dataset with the numbers that its classes have among others."""

    def __init__(self, dataset: Dataset | Encoded, class_names: Sequence[str]):
        super().__init__(dataset, np.arange(len(dataset)))
        self.class_names = tuple(class_names)
        numbers = {name: number for number, name in enumerate(class_names)}
        self._numbers = np.array([numbers[name] for name in dataset.class_names], "int64")

    @property
    def labels(self):
        """Their labels, int64 (n,)."""
        return self._renumber(self.dataset.labels)

    def _renumber(self, labels):
        is_class = (labels >= 0) & (labels < len(self._numbers))
        return np.where(is_class, self._numbers[np.where(is_class, labels, 0)], -1)

    def names(self) -> list[str]:
        return self.dataset.names()

    def listing(self) -> dict[str, int]:
        return self.dataset.listing()

    def fetch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        images, labels = self.dataset.fetch(indices)
        return images, self._renumber(labels)


def with_classes(dataset: Any, class_names: Sequence[str]) -> Any:
    """The images of a dataset with the classes of a network, `class_names`, in their order.

    The dataset may lack some of them. If it has none of their names, its own are taken for other
    words for the same classes, in the same order, and it is returned as it is.

    Raises:
        ValueError: if the network has some of the dataset's classes, but not all.
    """
    own, known = tuple(dataset.class_names), set(class_names)
    unknown = [name for name in own if name not in known]
    if own == tuple(class_names) or len(unknown) == len(own):
        return dataset
    if unknown:
        raise ValueError(
            f"The dataset must have classes of the network, {list_some(class_names, 5)}. Received: "
            f"also {list_some(unknown, 5)}"
        )
    return Renumbered(dataset, class_names)
