"""Training batches that can start at any step: what a step has is a function of (seed, step)."""

import functools
from collections.abc import Set

import numpy as np
import tensorflow as tf

from keras_senet.data import boxes, decoding
from keras_senet.data.corrupt import Corrupt, CorruptImageError
from keras_senet.data.micro_batches import check_batch_size, check_reflection, divide_batch
from keras_senet.data.mixing import draw_mixing, mix_pairs
from keras_senet.data.operations import augment_operation, derive_seed, resize_square
from keras_senet.data.order import Balanced, find_replacement, shuffle
from keras_senet.data.pipelines import map_decoding, map_reading, set_options
from keras_senet.data.sources import Dataset, Encoded
from keras_senet.recipes.augmentation import Augmentation

AHEAD = 4  # micro-batches that wait for the network
READS = 4  # micro-batches whose images are read at the same time
FEW = 100  # images: with fewer than a batch, a corrupt one is reported first


class TrainingData:
    """The training batches of a dataset.

    Each epoch has all images in another order, without the incomplete batch at its end.

    Args:
        dataset: what `load` returns.
        batch_size: images per step, over all replicas.
        image_size: height and width in pixels. Images of this size are taken as they are; others
            are cropped at random (`augmentation.min_area`) or to the centre square, and resized.
        seed: of the order and of the augmentation.
        augmentation: an `Augmentation`.
        class_balanced: whether each class is equally frequent, and not each image.

    Raises:
        ValueError: for a batch size above the number of images, or an augmentation that is not for
            these images.
        CorruptImageError: for a corrupt image among fewer than a batch, and fewer than `FEW`.
    """

    def __init__(
        self,
        dataset: Dataset | Encoded,
        *,
        batch_size: int,
        image_size: int,
        seed: int,
        augmentation: Augmentation = Augmentation(),
        class_balanced: bool = False,
    ):
        self.dataset, self.batch_size, self.image_size = dataset, batch_size, image_size
        self.seed, self.augmentation = seed, augmentation
        self._check_batch_size()
        self._check_augmentation()
        self.steps_per_epoch = len(dataset) // batch_size
        self._operation = augment_operation(augmentation)
        self._choose_boxes = (
            boxes.make_random_boxes(augmentation.min_area, seed)
            if augmentation.min_area
            else boxes.choose_center_boxes
        )
        self._balanced = (
            Balanced(dataset.labels, dataset.class_names, seed) if class_balanced else None
        )

    def _check_batch_size(self):
        count, batch_size = len(self.dataset), self.batch_size
        if not 1 <= batch_size <= count:
            for index in range(count if count < min(batch_size, FEW) else 0):
                if corrupt := decoding.find_corrupt(self.dataset, index):
                    raise CorruptImageError(str(corrupt))
        check_batch_size(batch_size, count)

    def _check_augmentation(self):
        augmentation, channels = self.augmentation, self.dataset.image_shape[-1]
        check_reflection(augmentation, self.image_size)
        if augmentation.randaugment and channels != 3:
            raise ValueError(
                f"`randaugment` needs images of 3 channels. Received: images of {channels}"
            )

    def batches(
        self,
        first_step: int,
        last_step: int,
        *,
        replicas: int = 1,
        parts: range | None = None,
        skip: Set[int] = frozenset(),
    ) -> tf.data.Dataset:
        """A `tf.data.Dataset` of (images, targets) for the steps first_step .. last_step - 1.

        An element is one micro-batch: images uint8 (batch_size / replicas, size, size, C), targets
        float32 (batch_size / replicas, classes).

        Args:
            replicas: how many micro-batches a batch has.
            parts: a range of those that this worker wants; None is all.
            skip: indices of images to replace by others.

        Raises:
            ValueError: if the batch cannot be divided so.
        """
        size = divide_batch(self.batch_size, replicas, self.augmentation.mixes)
        parts = range(replicas) if parts is None else parts
        starts = tf.constant(list(parts), tf.int64) * size

        @tf.autograph.experimental.do_not_convert
        def fetch(count):
            start = count // len(parts) * self.batch_size + starts[count % len(parts)]
            at = start + tf.range(size, dtype=tf.int64)
            return at, *self._fetch_in_graph(at, self._find_indices(at, skip))

        counts = tf.data.Dataset.range(first_step * len(parts), last_step * len(parts))
        raw = map_reading(counts, fetch, min(READS, 2 * len(parts)))
        examples = map_decoding(raw.unbatch(), self._make_example)
        batches = examples.batch(size, drop_remainder=True)
        finished = batches.map(self._finish, 2, deterministic=True)
        return set_options(finished.prefetch(AHEAD))

    def _find_indices(self, positions, skip):
        """The dataset's indices at positions of the training, int64 tensors (n,)."""
        if self._balanced:
            indices = self._balanced(positions)
        else:
            epoch_length = self.steps_per_epoch * self.batch_size
            indices = shuffle(positions, epoch_length, self.seed, len(self.dataset))
        if not skip:
            return indices
        replace = functools.partial(self._replace, skip=frozenset(skip))
        return tf.ensure_shape(tf.numpy_function(replace, [indices], tf.int64), indices.shape)

    def _fetch_in_graph(self, positions, indices):
        """(images as fetched, windows to decode with their boxes, sizes, orientations, labels)."""
        kind, (count,) = self.dataset.raw, positions.shape  # `len` would need AutoGraph
        types = (kind.dtype, tf.int32, tf.int32, tf.int32, tf.int64)
        shapes = ((count, *kind.shape), (count, 2, 4), (count, 2), (count,), (count,))
        found = tf.numpy_function(self._fetch, [positions, indices], types)
        return tuple(
            tf.ensure_shape(value, shape) for value, shape in zip(found, shapes, strict=True)
        )

    def _fetch(self, positions, indices):
        raw, labels = self.dataset.fetch(indices)
        sizes, orientations = self.dataset.headers(raw)
        windows = decoding.plan_windows(self._choose_boxes(sizes, positions), sizes)
        return raw, windows, sizes, orientations, labels

    def _replace(self, indices, skip):
        good = [
            find_replacement(self.dataset, i, self._same_class(i), self.seed, skip)
            if i in skip
            else i
            for i in indices.tolist()
        ]
        return np.array(good, "int64")

    def _same_class(self, index):
        if not self._balanced:
            return range(len(self.dataset))
        label = self.dataset.labels[index]
        first, count = self._balanced.firsts[label], self._balanced.counts[label]
        return self._balanced.by_class[first : first + count]

    def indices(self, step: int, skip: Set[int] = frozenset()) -> np.ndarray:
        """The indices of a step's images in the dataset, int64 (batch_size,)."""
        positions = tf.range(step * self.batch_size, (step + 1) * self.batch_size, dtype=tf.int64)
        return self._find_indices(positions, skip).numpy()

    def corrupt_at(self, step: int, skip: Set[int] = frozenset()) -> list[Corrupt]:
        """`Corrupt` (index, name, reason) of each image of a step's batch that cannot be used."""
        indices = np.unique(self.indices(step, skip))
        found = (decoding.find_corrupt(self.dataset, index) for index in indices)
        return [corrupt for corrupt in found if corrupt]

    @tf.autograph.experimental.do_not_convert
    def _make_example(self, position, raw, windows, size, orientation, label):
        """An augmented image and its label, and, if pairs are mixed, how."""
        own = tf.constant(self.seed, tf.int64)
        image = self._decode_resized(position, raw, windows, size, orientation)
        image = self._operation(image, derive_seed(tf.stack([own, position]), 2))
        mixup, cutmix = self.augmentation.mixup, self.augmentation.cutmix
        if not self.augmentation.mixes:
            return image, label
        pair = derive_seed(tf.stack([own, position // 2]), 3)
        return image, label, *draw_mixing(mixup, cutmix, self.image_size, pair)

    @tf.autograph.experimental.do_not_convert
    def _finish(self, images, labels, *mixing):
        classes = len(self.dataset.class_names)
        targets = tf.one_hot(decoding.check_labels(labels, classes), classes)
        return mix_pairs(images, targets, *mixing) if mixing else (images, targets)

    def _decode_resized(self, position, raw, windows, whole_size, orientation):
        """The image in its final size, uint8 (size, size, C)."""
        size, (*shape, channels) = self.image_size, self.dataset.image_shape
        if shape == [size, size] and not self.augmentation.min_area:
            return self.dataset.decode(raw, orientation)

        def choose(whole):
            return tf.numpy_function(self._choose_boxes, [whole[None], position[None]], tf.int32)[0]

        image = self.dataset.decode_box(raw, windows, choose, whole_size, orientation)
        return tf.ensure_shape(resize_square(image, size), (size, size, channels))
