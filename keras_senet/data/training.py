"""Training batches that can start at any step: what is at a step follows from (seed, step) alone."""

import functools

import numpy as np
import tensorflow as tf

from keras_senet.data import boxes, decoding, images
from keras_senet.data.order import Balanced, replacements, shuffled
from keras_senet.data.sources import at_once, options, read
from keras_senet.recipes.augmentation import Augmentation

AHEAD = 4  # parts that wait for the network
READS = 4  # parts whose images are read at the same time
FEW = 100  # images: with fewer than a batch, a damaged one is said first


class TrainingData:
    """The training batches of a dataset.

    Each epoch goes through the images in another order and drops the incomplete batch at its end.

    Args:
        dataset: what `load` gives.
        batch_size: images a step, over all replicas.
        image_size: pixels a side. A dataset whose images have this size is taken as it is; others
        are cropped at
            random (`augmentation.min_area`) or to the middle, and resized.
        seed: of the order and of the augmentation.
        augmentation: an `Augmentation`.
        class_balanced: whether each class comes equally often, and not each image.

    Raises:
        ValueError: for a batch size above the number of images, or an augmentation that these
        images cannot have.
    """

    def __init__(
        self,
        dataset,
        *,
        batch_size,
        image_size,
        seed,
        augmentation=Augmentation(),
        class_balanced=False,
    ):
        if not 1 <= batch_size <= len(dataset):
            for index in range(len(dataset) if len(dataset) < min(batch_size, FEW) else 0):
                if corrupt := decoding.why_corrupt(dataset, index):
                    raise decoding.CorruptImageError(str(corrupt))
            raise ValueError(
                f"`batch_size` must be from 1 to the number of images, {len(dataset)}. "
                f"Received: batch_size={batch_size}"
            )
        self.dataset, self.batch_size, self.image_size, self.seed = (
            dataset,
            batch_size,
            image_size,
            seed,
        )
        self.augmentation = augmentation
        self.steps_per_epoch = len(dataset) // batch_size
        self._check_augmentation()
        self._operation = images.augment(augmentation)
        self._boxes = (
            boxes.random_boxes(augmentation.min_area, seed)
            if augmentation.min_area
            else boxes.middle_squares
        )
        self._balanced = (
            Balanced(dataset.labels, dataset.class_names, seed) if class_balanced else None
        )

    def _check_augmentation(self):
        augmentation, channels = self.augmentation, self.dataset.image_shape[-1]
        if augmentation.reflect and augmentation.pad_and_crop >= self.image_size:
            raise ValueError(
                f"`pad_and_crop` must be below the image size, {self.image_size}, to reflect. "
                f"Received: pad_and_crop={augmentation.pad_and_crop}"
            )
        if augmentation.randaugment and channels != 3:
            raise ValueError(
                f"`randaugment` needs images of 3 channels. Received: images of {channels}"
            )

    def batches(self, first_step, last_step, *, replicas=1, parts=None, skip=frozenset()):
        """A `tf.data.Dataset` of (images, targets) for the steps first_step .. last_step - 1.

        Images are uint8 (batch_size / replicas, size, size, C), targets float32 (batch_size /
        replicas, classes). Each element is one part of a step's batch; they come step by step.

        Args:
            replicas: how many parts a batch has.
            parts: a range of those that this worker wants; None is all.
            skip: indices of images to replace by others.

        Raises:
            ValueError: if the batch cannot be parted so.
        """
        size = self._part_size(replicas)
        parts = range(replicas) if parts is None else parts
        starts = tf.constant(list(parts), tf.int64) * size

        def places(count):
            start = count // len(parts) * self.batch_size + starts[count % len(parts)]
            return start + tf.range(size, dtype=tf.int64)

        def fetch(count):
            at = places(count)
            return at, *self._fetched(at, self._images_at(at, skip))

        counts = tf.data.Dataset.range(first_step * len(parts), last_step * len(parts))
        parts_in_turn = (
            read(counts, fetch, min(READS, 2 * len(parts)))
            .unbatch()
            .map(self._example, at_once(), deterministic=True)
            .batch(size, drop_remainder=True)
            .map(self._part, 2, deterministic=True)
        )
        return parts_in_turn.prefetch(AHEAD).with_options(options())

    def _part_size(self, replicas):
        size, rest = divmod(self.batch_size, replicas)
        if rest or not size:
            raise ValueError(
                f"`batch_size` must be a multiple of the number of replicas, {replicas}. "
                f"Received: batch_size={self.batch_size}"
            )
        if self.augmentation.mixes and size % 2:
            raise ValueError(
                f"Images are mixed in pairs: `batch_size` must be a multiple of {2 * replicas}, twice the number of "
                f"replicas. Received: batch_size={self.batch_size}"
            )
        return size

    def _images_at(self, places, skip):
        """The dataset's indices at places of the training, int64 tensors (n,)."""
        if self._balanced:
            indices = self._balanced(places)
        else:
            indices = shuffled(
                places, self.steps_per_epoch * self.batch_size, self.seed, len(self.dataset)
            )
        if not skip:
            return indices
        replace = functools.partial(self._replaced, skip=frozenset(skip))
        return tf.ensure_shape(tf.numpy_function(replace, [indices], tf.int64), indices.shape)

    def _fetched(self, places, indices):
        """(images as the dataset gives them, windows to decode with the parts in them, sizes,
        orientations, labels).
        """
        kind, count = self.dataset.raw, len(places)
        types = (kind.dtype, tf.int32, tf.int32, tf.int32, tf.int64)
        shapes = ((count, *kind.shape), (count, 2, 4), (count, 2), (count,), (count,))
        found = tf.numpy_function(self._fetch, [places, indices], types)
        return tuple(
            tf.ensure_shape(value, shape) for value, shape in zip(found, shapes, strict=True)
        )

    def _fetch(self, places, indices):
        raw, labels = self.dataset.fetch(indices)
        sizes, orientations = self.dataset.headers(raw)
        return raw, decoding.windows(self._boxes(sizes, places), sizes), sizes, orientations, labels

    def _replaced(self, indices, skip):
        return np.array(
            [self._replacement(int(i), skip) if int(i) in skip else i for i in indices], "int64"
        )

    def _replacement(self, index, skip):
        """The first good image of a row that depends on the bad one alone: when others are found
        does not matter.
        """
        among = self._same_class(index)
        if skip.issuperset(among.tolist() if isinstance(among, np.ndarray) else among):
            raise ValueError(f"No image can replace {self.dataset.name_of(index)}: all are corrupt")
        return next(
            found
            for n in replacements(index, self.seed, len(among))
            if (found := int(among[n])) not in skip
        )

    def _same_class(self, index):
        """The images that can replace one."""
        if not self._balanced:
            return range(len(self.dataset))
        label = self.dataset.labels[index]
        first, count = self._balanced.firsts[label], self._balanced.counts[label]
        return self._balanced.by_class[first : first + count]

    def indices(self, step, skip=frozenset()):
        """The indices of a step's images in the dataset, int64 (batch_size,)."""
        places = tf.range(step * self.batch_size, (step + 1) * self.batch_size, dtype=tf.int64)
        return self._images_at(places, skip).numpy()

    def corrupt_at(self, step, skip=frozenset()):
        """`Corrupt` (index, name, reason) of each image of a step's batch that cannot be used."""
        found = (
            decoding.why_corrupt(self.dataset, index)
            for index in np.unique(self.indices(step, skip))
        )
        return [corrupt for corrupt in found if corrupt]

    @tf.autograph.experimental.do_not_convert
    def _example(self, place, raw, part, upright, orientation, label):
        """An augmented image and its label, and, if pairs are mixed, how."""
        seed = tf.stack([tf.constant(self.seed, tf.int64), place])
        image = self._operation(
            self._sized(place, raw, part, upright, orientation), images.numbered(seed, 2)
        )
        if not self.augmentation.mixes:
            return image, label
        pair = images.numbered(tf.stack([tf.constant(self.seed, tf.int64), place // 2]), 3)
        return (
            image,
            label,
            *images.mixing(
                self.augmentation.mixup, self.augmentation.cutmix, self.image_size, pair
            ),
        )

    @tf.autograph.experimental.do_not_convert
    def _part(self, pixels, labels, *mixing):
        """Images and targets of a part of a batch, mixed where they are to be."""
        classes = len(self.dataset.class_names)
        targets = tf.one_hot(decoding.checked(labels, classes), classes)
        return images.mix_pairs(pixels, targets, *mixing) if mixing else (pixels, targets)

    def _sized(self, place, raw, part, upright, orientation):
        """The image in its final size, uint8 (size, size, C)."""
        size, (*shape, channels) = self.image_size, self.dataset.image_shape
        if shape == [size, size] and not self.augmentation.min_area:
            return self.dataset.decode(raw, orientation)

        def choose(whole):
            return tf.numpy_function(self._boxes, [whole[None], place[None]], tf.int32)[0]

        image = images.resize(
            self.dataset.decode_part(raw, *tf.unstack(part), choose, upright, orientation), size
        )
        return tf.ensure_shape(image, (size, size, channels))
