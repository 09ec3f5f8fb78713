"""Faster R-CNN with a feature pyramid on any backbone."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_senet.detection import boxes as box
from keras_senet.detection.canvas import check_canvas, check_images, prepare, read_image
from keras_senet.detection.detections import Detections, to_detections
from keras_senet.detection.network import PYRAMID, make_head, make_proposer
from keras_senet.detection.pooling import MapTable, levels_of, map_sides, pool, tabulate
from keras_senet.detection.spec import FasterRCNN
from keras_senet.detection.suppression import NONE, select_best, take
from keras_senet.fields import check_argument
from keras_senet.weights.names import Entries, compare, describe_shapes, own_name

PROPOSAL_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
HEAD_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
LEAST_PROPOSAL, LEAST_DETECTION = 1e-3, 1e-2  # pixels of a side


class Detector:
    """A backbone with a pyramid, a proposal network and a box head.

    Args:
        spec: a `FasterRCNN`.
        backbone: a network of keras_senet with `include_top=False` and, to take images of any
            size, `input_shape=(None, None, 3)`.
        class_names: without the background; those that are "" are never detected.

    Attributes:
        spec, backbone, class_names: the arguments.
        proposer: images -> the pyramid's maps and the proposals' logits and deltas.
        head: pooled boxes -> classes and deltas.
        preprocessing: the backbone's, of which the mean and standard deviation are used.

    Raises:
        ValueError: for a backbone without feature maps at strides 4 to 32 or with a classifier, or
            class names that are not different texts.
    """

    def __init__(self, spec: FasterRCNN, backbone: keras.Model, class_names: Sequence[str]):
        self.spec, self.backbone = spec, backbone
        self.class_names = _check_names(class_names)
        _check_headless(backbone)
        self.proposer: Any = make_proposer(backbone, spec.channels, len(spec.anchors.ratios))
        self.head: Any = make_head(
            spec.channels, spec.pool_side, spec.hidden, len(self.class_names)
        )
        self.preprocessing = backbone.preprocessing
        self._functions: dict[tuple[int | None, int | None], Any] = {}

    @property
    def name(self) -> str:
        """The backbone's."""
        return self.backbone.name

    @property
    def variables(self) -> list[keras.Variable]:
        """All of them, of the backbone, the pyramid and both heads."""
        return [*self.proposer.variables, *self.head.variables]

    def with_networks(self, proposer: keras.Model, head: keras.Model) -> "Detector":
        """The same with other networks in these places, such as copies for inference."""
        found = copy.copy(self)
        found.proposer, found.head, found._functions = proposer, head, {}
        return found

    def with_score(self, score: float) -> "Detector":
        """The same, of which each detection has more than this score."""
        found = copy.copy(self)
        found.spec, found._functions = replace(self.spec, score=score), {}
        return found

    def save(self, path: str | Path) -> None:
        """Writes a `.safetensors` file, which `detection.load` reads. Raises as `files.save`."""
        from keras_senet.detection import files  # which reads detectors, too

        files.save(self, path)

    def assign(self, entries: Entries) -> None:
        """Gives the variables their values, by the names that files have for them.

        Raises:
            ValueError: if there are others, or numbers that are not finite.
        """
        variables = {own_name(variable): variable for variable in self.variables}
        problems = compare(variables, entries)
        shapes = describe_shapes(problems["of another shape"], variables, entries)
        problems["of another shape"] = shapes
        if any(problems.values()):
            listed = "; ".join(f"{what}: {', '.join(n[:5])}" for what, n in problems.items() if n)
            raise ValueError(f"The weights do not fit the detector; {listed}")
        for name, variable in variables.items():
            value = entries[name].read()
            if not np.isfinite(value).all():
                raise ValueError(f"The weights {name} have values that are not finite")
            variable.assign(value)

    def detect(
        self, images: Iterable, canvas: tuple[int, int] | None = None
    ) -> Iterator[Detections]:
        """The `Detections` of each image: the path of a file, or an array (H, W, 3) of 0..255 RGB.

        Images are evaluated one by one, as the squeeze of SE blocks averages over the border, too:
        another image in the batch would change the canvas, and with it every gate.

        Args:
            images: of any sizes.
            canvas: the height and width that each is padded to, as in an exported file, and made
                smaller for where it has more; None is its own size, up to a multiple of 32.

        Raises:
            ValueError: for `images` that are one image, or none; for another canvas; and, when its
                turn comes, for an image that is not of 0..255 or cannot be decoded.
            OSError: for a file that cannot be read, in its turn.
        """
        check_images(images)
        # Of any size without a canvas: tracing one for each size takes longer than detecting.
        size = (None, None) if canvas is None else check_canvas(canvas)
        self.check_taken(size)
        function = self._function(*size)
        return self._detect_each(images, function, canvas)

    def check_taken(self, canvas: tuple[int | None, int | None]) -> None:
        """Raises ValueError for a canvas of another size than the backbone's, if it has one."""
        shape = self.backbone.inputs[0].shape
        fixed = shape[2:] if keras.config.image_data_format() == "channels_first" else shape[1:3]
        if None not in fixed and fixed != canvas:
            raise ValueError(
                f"`canvas` must be the size that the backbone takes, {fixed}. Received: "
                f"{None if None in canvas else canvas}"
            )

    def _detect_each(self, images, function, canvas):
        for image in images:
            image = read_image(image, len(self.preprocessing.mean))
            padded = prepare([image], self.preprocessing, self.spec.short, self.spec.long, canvas)
            found = function(padded.images, padded.sizes[0])
            arrays = {name: value.numpy() for name, value in found.items()}
            yield to_detections(arrays, image.shape[:2] / padded.sizes[0].numpy(), self.class_names)

    def function(self, height: int, width: int) -> Any:
        """What `detect` computes for a canvas of this size, as a `tf.function` of static shapes.

        Its inputs are `images`, float32 (1, height, width, 3), normalised and padded with zeros at
        the right and at the bottom, and `size`, int32 (2,), the height and width without that
        border. Its outputs, by name, are `boxes` (most, 4), x1, y1, x2, y2 in pixels of the canvas,
        `scores` (most,), `classes` int32 (most,), and `count`, int32: after so many come zeros.

        Raises:
            ValueError: unless both sides are multiples of 32.
        """
        return self._function(*check_canvas((height, width)))

    def _function(self, height, width):
        """The `tf.function` of a canvas, of any size for None."""
        if (height, width) not in self._functions:
            shape = (1, height, width, len(self.preprocessing.mean))
            self._functions[height, width] = tf.function(
                self._detect_in_canvas,
                input_signature=[
                    tf.TensorSpec(shape, tf.float32, name="images"),
                    tf.TensorSpec((2,), tf.int32, name="size"),
                ],
                autograph=False,
            )
        return self._functions[height, width]

    def _detect_in_canvas(self, images, size):
        boxes, scores, classes, count = self.detect_in_canvas(images[0], size)
        return {"boxes": boxes, "scores": scores, "classes": classes, "count": count}

    def detect_in_canvas(self, image, size):
        """One normalised image (H, W, C), of which `size`, int32 (2,), is not border -> boxes
        (most, 4) in its pixels, scores (most,), classes int32 (most,), and how many there are;
        after the last come zeros.
        """
        outputs, padded = self.propose_maps(image[None], training=False), map_sides(image[None])
        proposals, _, _ = self.propose(outputs, 0, padded, size, self.spec.proposals)
        images = tf.zeros_like(proposals[:, 0], tf.int32)
        classes, deltas = self.classify(outputs, images, proposals)
        return self.choose(classes, deltas, proposals, padded, size)

    def propose_maps(self, images, training: bool):
        """Images (N, H, W, C) -> the outputs of `proposer`."""
        if keras.config.image_data_format() == "channels_first":
            images = tf.transpose(images, (0, 3, 1, 2))
        return self.proposer(images, training=training)

    def propose(self, outputs, index, padded, size, limits):
        """The proposals of image `index` of a batch: boxes (n, 4) within the image, their
        probabilities (n,), and how many there are; after the last come zeros.

        `limits` is how many boxes are taken per level before suppression, and how many are left.
        """
        grids = [map_sides(outputs[level]) for level in PYRAMID]
        counts = [grid[0] * grid[1] * len(self.spec.anchors.ratios) for grid in grids]
        logits = tf.split(outputs["objectness"][index], counts)
        deltas = tf.split(outputs["deltas"][index], counts)
        found = [
            self._best_of_level(level, *each, padded, limits[0])
            for level, each in enumerate(zip(logits, deltas, grids, strict=True))
        ]
        boxes, logits, levels = (tf.concat(parts, axis=0) for parts in zip(*found, strict=True))
        boxes = tf.stop_gradient(box.clip(boxes, size))
        logits = tf.stop_gradient(logits)
        # Not by their sigmoids, of which many are 1: runtimes take equal ones in another order.
        chosen, count = select_best(
            boxes,
            tf.where(box.short_side(boxes) >= LEAST_PROPOSAL, logits, NONE),
            levels,
            overlap=self.spec.proposal_overlap,
            most=limits[1],
            extent=tf.reduce_max(padded),
        )
        return take(boxes, chosen, count), take(tf.sigmoid(logits), chosen, count), count

    def _best_of_level(self, level, logits, deltas, grid, padded, most):
        """The boxes, logits and level of the anchors with the largest logits."""
        count = grid[0] * grid[1] * len(self.spec.anchors.ratios)
        most = min(most, count) if isinstance(count, int) else tf.minimum(most, count)
        scores, indices = tf.math.top_k(logits, most)
        anchors = self.spec.anchors.boxes(level, indices, grid, padded)
        boxes = box.decode(tf.gather(deltas, indices), anchors, PROPOSAL_WEIGHTS)
        return boxes, scores, tf.fill(tf.shape(indices), level)

    def classify(self, outputs, images, rois):
        """Logits (n, 1 + classes) and deltas (n, 1 + classes, 4) of boxes (n, 4) in the images of a
        batch, int32 (n,).
        """
        table = tabulate([outputs[level] for level in PYRAMID[:4]])
        return self.classify_from(table, images, rois)

    def classify_from(self, table: MapTable, images, rois):
        """The same from the table of the batch's maps."""
        pooled = pool(
            table,
            images,
            rois,
            levels_of(rois, self.spec.canonical),
            side=self.spec.pool_side,
            points=self.spec.pool_points,
        )
        found = self.head(pooled)
        return found["classes"], found["deltas"]

    def choose(self, classes, deltas, proposals, padded, size):
        """The best detections of an image, as `detect_in_canvas` returns them."""
        scores = tf.nn.softmax(classes)[:, 1:]
        boxes = box.clip(box.decode(deltas[:, 1:], proposals[:, None], HEAD_WEIGHTS), size)
        is_box = (box.short_side(boxes) >= LEAST_DETECTION) & (
            box.short_side(proposals)[:, None] > 0
        )
        if not all(self.class_names):
            is_box &= [bool(name) for name in self.class_names]
        boxes = tf.reshape(boxes, (-1, 4))
        groups = tf.tile(tf.range(len(self.class_names)), [tf.shape(proposals)[0]])
        chosen, count = select_best(
            boxes,
            tf.reshape(tf.where(is_box, scores, NONE), (-1,)),
            groups,
            overlap=self.spec.overlap,
            most=self.spec.most,
            extent=tf.reduce_max(padded),
            least=self.spec.score,
        )
        scores = tf.reshape(scores, (-1,))
        found = take(boxes, chosen, count), take(scores, chosen, count)
        return *found, take(groups, chosen, count), count


def _check_names(names):
    """The names as a tuple. Raises ValueError unless they are different texts, at least one that is
    not "".
    """
    is_several = isinstance(names, Iterable) and not isinstance(names, str)
    given = tuple(names) if is_several else ()
    named = [name for name in given if name != ""]
    is_text = all(isinstance(name, str) for name in given)
    are_names = named and is_text and len(set(named)) == len(named)
    received = list(given) if is_several else names
    check_argument("class_names", received, are_names, "different names, at least one")
    return given


def _check_headless(backbone):
    """Raises ValueError for a network whose output is no map, such as a classifier's."""
    shapes = [tuple(each.shape) for each in getattr(backbone, "outputs", None) or ()]
    if len(shapes) == 1 and len(shapes[0]) != 4:
        raise ValueError(
            "`backbone` must be a network without a classifier or pooling, by include_top=False. "
            f"Received: {backbone.name!r}, whose output has the shape {shapes[0]}"
        )
