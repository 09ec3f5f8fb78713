"""Training batches of images with boxes, which can start at any step: what a step has is a function
of (seed, step).
"""

import functools
from collections.abc import Sequence, Set

import numpy as np
import tensorflow as tf

from keras_senet.data.boxes import draw_uniform
from keras_senet.data.decoding import Corrupt
from keras_senet.data.micro_batches import check_batch_size, divide_batch
from keras_senet.data.order import find_replacement
from keras_senet.data.pipelines import map_decoding, set_options
from keras_senet.detection.canvas import MULTIPLE, Canvas, canvas_size, place, resized_size
from keras_senet.detection.data.truths import BoxedImages, Truths
from keras_senet.fields import check_argument
from keras_senet.images.decoding import describe_error
from keras_senet.preprocessing import Preprocessing

AHEAD = 2  # micro-batches that wait for the network
PER_CORE = 2  # images that are decoded at the same time: of 800 x 1333 pixels, each takes 13 MB
ORDER, BATCHES, FLIP, SIDE = range(4)  # what is drawn
# What `DetectionBatches._plan` returns
PLANNED = (tf.int64, tf.int32, tf.int32, tf.bool, tf.float32, tf.int32, tf.int32)


class DetectionBatches:
    """The training batches of images with boxes.

    Each epoch has all images in another order, without the incomplete batch at the end of each
    group. Crowds are not among the boxes; images without boxes are trained on, too.

    Args:
        images: what `load_data` returns.
        batch_size: images per step, over all replicas.
        canvas: pixels of the shorter side, and of the longer one at most.
        preprocessing: the detector's.
        seed: of the order and of the augmentation.
        flip: whether half of the images are mirrored.
        short_sides: the shorter side is one of these, drawn for each batch; none is that of
            `canvas`.
        group_by_aspect: whether the images of a batch are all landscape or all portrait, so that
            they are padded less. A group of fewer images than a batch repeats them.
        multiple: pixels: the sides of the canvas of a batch are multiples of it. A larger one pads
            more, and gives fewer different shapes.

    Attributes:
        steps_per_epoch: how many batches.

    Raises:
        ValueError: for a batch size above the number of images, another argument that is not what
            is said above, or images without boxes that are trained on.
    """

    def __init__(
        self,
        images: BoxedImages,
        *,
        batch_size: int,
        canvas: tuple[int, int],
        preprocessing: Preprocessing,
        seed: int,
        flip: bool = True,
        short_sides: Sequence[int] = (),
        group_by_aspect: bool = True,
        multiple: int = MULTIPLE,
    ):
        count = len(images)
        check_batch_size(batch_size, count)
        short, long = canvas
        accepted = "the shorter side and at most how long the longer one gets, both at least 32"
        check_argument("canvas", canvas, MULTIPLE <= short <= long, accepted)
        accepted = f"pixels of 32 to {long}"
        is_valid = all(MULTIPLE <= side <= long for side in short_sides)
        check_argument("short_sides", short_sides, is_valid, accepted)
        is_valid = multiple >= MULTIPLE and multiple % MULTIPLE == 0
        check_argument("multiple", multiple, is_valid, f"a multiple of {MULTIPLE}")
        self.images, self.batch_size, self.seed, self.flip = images, batch_size, seed, flip
        self.short_sides, self.long = tuple(short_sides) or (short,), long
        self.preprocessing, self.multiple = preprocessing, multiple
        self.sizes = np.array(images.sizes, "int32")
        is_portrait = (self.sizes[:, 0] > self.sizes[:, 1]) & group_by_aspect
        groups = (np.flatnonzero(is_portrait == which) for which in (False, True))
        self._groups = [group for group in groups if len(group)]
        self._group_of = is_portrait.astype(int) if len(self._groups) > 1 else np.zeros(count, int)
        self._kept = [~truth.crowds for truth in images.truths]
        self.most = max(np.count_nonzero(kept) for kept in self._kept)
        if not self.most:
            raise ValueError(f"There are no boxes but crowds in the {count:,} images to train on")
        self._order = functools.lru_cache(2)(self._draw_order)
        self.steps_per_epoch = len(self._order(0))

    def batches(
        self,
        first_step: int,
        last_step: int,
        *,
        replicas: int = 1,
        parts: range | None = None,
        skip: Set[int] = frozenset(),
    ) -> tf.data.Dataset:
        """A `tf.data.Dataset` of (`Canvas`, `Truths`) for the steps first_step .. last_step - 1.

        Each element is one micro-batch, step by step, of batch_size / replicas images. The shapes
        of all are the same but for the height and width of the canvas.

        Args:
            replicas: how many micro-batches a batch has.
            parts: a range of those that this worker wants; None is all.
            skip: indices of images to replace by others of their group.

        Raises:
            ValueError: if the batch cannot be divided so.
        """
        size = divide_batch(self.batch_size, replicas, mixes=False)
        parts = range(replicas) if parts is None else parts
        skip = frozenset(skip)

        def plan(count):
            step, part = divmod(int(count), len(parts))
            places = parts[part] * size + np.arange(size)
            return self._plan(step, places, skip)

        def plan_in_graph(count):
            shapes = ((), (2,), (2,), (), (self.most, 4), (self.most,), ())
            found = tf.numpy_function(plan, [count], PLANNED)
            return tuple(map(tf.ensure_shape, found, [(size, *shape) for shape in shapes]))

        counts = tf.data.Dataset.range(first_step * len(parts), last_step * len(parts))
        plans = counts.map(plan_in_graph).unbatch()
        examples = map_decoding(plans, self._make_example, PER_CORE)
        return set_options(examples.batch(size, drop_remainder=True).prefetch(AHEAD))

    def indices(self, step: int, skip: Set[int] = frozenset()) -> np.ndarray:
        """The indices of a step's images, int64 (batch_size,)."""
        epoch, at = divmod(step, self.steps_per_epoch)
        good = [
            find_replacement(self.images, i, self._groups[self._group_of[i]], self.seed, skip)
            if i in skip
            else i
            for i in self._order(epoch)[at].tolist()
        ]
        return np.array(good, "int64")

    def corrupt_at(self, step: int, skip: Set[int] = frozenset()) -> list[Corrupt]:
        """`Corrupt` (index, name, reason) of each image of a step's batch that cannot be used."""
        found = []
        for index in np.unique(self.indices(step, skip)).tolist():
            try:
                self.images.read(index)
            except (ValueError, OSError) as error:
                found.append(Corrupt(index, self.images.name_of(index), describe_error(error)))
        return found

    def _draw_order(self, epoch):
        """The indices of the images of each step of an epoch, int64 (steps, batch_size)."""
        numbers = epoch * len(self.images)
        rows = []
        for group in self._groups:
            order = group[np.argsort(self._draw(ORDER, numbers + group), kind="stable")]
            count = max(1, len(group) // self.batch_size)
            rows.append(np.resize(order, (count, self.batch_size)))
        found = np.concatenate(rows)
        draws = self._draw(BATCHES, numbers + np.arange(len(found)))
        return found[np.argsort(draws, kind="stable")]

    def _draw(self, what, positions):
        """Random numbers of 0..1 for each position (n,), float64 (n,)."""
        return draw_uniform(self.seed, positions, (4,))[:, what]

    def _plan(self, step, places, skip):
        """What is made of the images at places (n,) of a step: their indices (n,), sizes (n, 2),
        that of the canvas (n, 2), whether they are mirrored (n,), and their boxes (n, most, 4),
        classes (n, most) and the number of both (n,).
        """
        every = self.indices(step, skip)
        short = self.short_sides[int(self._draw(SIDE, [step])[0] * len(self.short_sides))]
        resized = [resized_size(*self.sizes[i].tolist(), short, self.long) for i in every]
        sizes = np.array(resized, "int32")
        canvas = canvas_size(sizes, self.multiple)  # of the whole batch, however it is divided
        indices, sizes = every[places], sizes[places]
        draws = self._draw(FLIP, step * self.batch_size + places)
        flips = (draws < 0.5) & self.flip
        boxes = np.zeros((len(indices), self.most, 4), "float32")
        classes = np.zeros(boxes.shape[:2], "int32")
        counts = np.zeros(len(indices), "int32")
        for row, (index, size, flip) in enumerate(zip(indices, sizes, flips, strict=True)):
            truth, kept = self.images.truths[index], self._kept[index]
            counts[row] = count = np.count_nonzero(kept)
            factor = np.array(size, "float32") / np.array(self.sizes[index], "float32")
            scaled = truth.boxes[kept] * factor[[1, 0, 1, 0]]
            if flip:
                scaled[:, [0, 2]] = size[1] - scaled[:, [2, 0]]
            boxes[row, :count], classes[row, :count] = scaled, truth.classes[kept]
        canvases = np.tile(canvas, (len(indices), 1))
        return indices, sizes, canvases, flips, boxes, classes, counts

    @tf.autograph.experimental.do_not_convert
    def _make_example(self, index, size, canvas, flip, *truths):
        """An image in its canvas, its size, and its truths."""
        image = tf.numpy_function(
            lambda index: np.float32(self.images.read(int(index))), [index], tf.float32
        )
        image = tf.ensure_shape(image, (None, None, 3))
        placed = place(image, self.preprocessing, size, canvas, flip)
        return Canvas(placed, size), Truths(*truths)
