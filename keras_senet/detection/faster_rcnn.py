"""Faster R-CNN with a feature pyramid on any backbone."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_senet.detection import boxes as box
from keras_senet.detection.canvas import prepare, read_image
from keras_senet.detection.network import PYRAMID, make_head, make_proposer
from keras_senet.detection.pooling import levels_of, pool
from keras_senet.detection.spec import FasterRCNN
from keras_senet.detection.suppression import NONE, select_best, take
from keras_senet.weights.names import Entries, compare, describe_shapes, own_name

PROPOSAL_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
HEAD_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
LEAST_PROPOSAL, LEAST_DETECTION = 1e-3, 1e-2  # pixels of a side


class Detections(NamedTuple):
    """What was found in an image, the most certain first.

    boxes    float32 (N, 4): x1, y1, x2, y2 in pixels of the image
    scores   float32 (N,): probabilities
    classes  int64 (N,): 0, 1, ...
    names    the classes' names
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    names: list[str]


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
        ValueError: for a backbone without feature maps at strides 4 to 32, or class names that are
            not different.
    """

    def __init__(self, spec: FasterRCNN, backbone: keras.Model, class_names: Sequence[str]):
        self.spec, self.backbone = spec, backbone
        self.class_names = tuple(class_names)
        named = [name for name in self.class_names if name]
        if not named or len(set(named)) < len(named):
            raise ValueError(
                "`class_names` must be different names, at least one. "
                f"Received: class_names={list(self.class_names)}"
            )
        self.proposer: Any = make_proposer(backbone, spec.channels, len(spec.anchors.ratios))
        self.head: Any = make_head(
            spec.channels, spec.pool_side, spec.hidden, len(self.class_names)
        )
        self.preprocessing = backbone.preprocessing
        self._detect = tf.function(
            self.detect_in_canvas,
            input_signature=[
                tf.TensorSpec((None, None, len(self.preprocessing.mean)), tf.float32),
                tf.TensorSpec((2,), tf.int32),
            ],
            autograph=False,
        )

    @property
    def variables(self) -> list[keras.Variable]:
        """All of them, of the backbone, the pyramid and both heads."""
        return [*self.proposer.variables, *self.head.variables]

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

    def detect(self, images: Iterable) -> Iterator[Detections]:
        """The `Detections` of each image: the path of a file, or an array (H, W, 3) of 0..255 RGB.

        Images are evaluated one by one, as the squeeze of SE blocks averages over the border, too:
        another image in the batch would change the canvas, and with it every gate.
        """
        for image in images:
            image = read_image(image, len(self.preprocessing.mean))
            canvas = prepare([image], self.preprocessing, self.spec.short, self.spec.long)
            boxes, scores, classes, count = self._detect(canvas.images[0], canvas.sizes[0])
            factor = image.shape[:2] / canvas.sizes[0].numpy()
            found = int(count)
            classes = classes[:found].numpy()
            yield Detections(
                box.scale(boxes[:found], factor).numpy(),
                scores[:found].numpy(),
                classes,
                [self.class_names[each] for each in classes],
            )

    def detect_in_canvas(self, image, size):
        """One normalised image (H, W, C), of which `size`, int32 (2,), is not border -> boxes
        (most, 4) in its pixels, scores (most,), classes int64 (most,), and how many there are;
        after the last come zeros.
        """
        outputs = self.propose_maps(image[None], training=False)
        proposals, _, _ = self.propose(outputs, 0, tf.shape(image)[:2], size, self.spec.proposals)
        classes, deltas = self.classify(
            outputs, tf.zeros_like(proposals[:, 0], tf.int32), proposals
        )
        return self.choose(classes, deltas, proposals, size)

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
        grids = [tf.shape(outputs[level])[1:3] for level in PYRAMID]
        counts = [grid[0] * grid[1] * len(self.spec.anchors.ratios) for grid in grids]
        logits = tf.split(outputs["objectness"][index], counts)
        deltas = tf.split(outputs["deltas"][index], counts)
        found = [
            self._best_of_level(level, *each, padded, limits[0])
            for level, each in enumerate(zip(logits, deltas, grids, strict=True))
        ]
        boxes, scores, levels = (tf.concat(parts, axis=0) for parts in zip(*found, strict=True))
        boxes = tf.stop_gradient(box.clip(boxes, size))
        # Sigmoids: `NONE` is below all of them.
        scores = tf.where(
            box.short_side(boxes) >= LEAST_PROPOSAL, tf.sigmoid(tf.stop_gradient(scores)), NONE
        )
        chosen, count = select_best(
            boxes,
            scores,
            levels,
            overlap=self.spec.proposal_overlap,
            most=limits[1],
            extent=tf.reduce_max(padded),
        )
        return take(boxes, chosen, count), take(scores, chosen, count), count

    def _best_of_level(self, level, logits, deltas, grid, padded, most):
        """The boxes, logits and level of the anchors with the largest logits."""
        scores, indices = tf.math.top_k(logits, tf.minimum(most, tf.size(logits)))
        anchors = self.spec.anchors.boxes(level, indices, grid, padded)
        boxes = box.decode(tf.gather(deltas, indices), anchors, PROPOSAL_WEIGHTS)
        return boxes, scores, tf.fill(tf.shape(indices), level)

    def classify(self, outputs, images, rois):
        """Logits (n, 1 + classes) and deltas (n, 1 + classes, 4) of boxes (n, 4) in the images of a
        batch, int32 (n,).
        """
        pooled = pool(
            [outputs[level] for level in PYRAMID[:4]],
            images,
            rois,
            levels_of(rois, self.spec.canonical),
            side=self.spec.pool_side,
            points=self.spec.pool_points,
        )
        found = self.head(pooled)
        return found["classes"], found["deltas"]

    def choose(self, classes, deltas, proposals, size):
        """The best detections of an image, as `detect_in_canvas` returns them."""
        probabilities = tf.nn.softmax(classes)[:, 1:]
        boxes = box.decode(deltas[:, 1:], proposals[:, None], HEAD_WEIGHTS)
        boxes = tf.reshape(box.clip(boxes, size), (-1, 4))
        groups = tf.tile(tf.range(len(self.class_names)), [tf.shape(proposals)[0]])
        scores = tf.reshape(probabilities, (-1,))
        is_box = (box.short_side(boxes) >= LEAST_DETECTION) & tf.repeat(
            box.short_side(proposals) > 0, len(self.class_names)
        )
        if not all(self.class_names):
            is_box &= tf.tile([bool(name) for name in self.class_names], tf.shape(proposals)[:1])
        chosen, count = select_best(
            boxes,
            tf.where(is_box, scores, NONE),
            groups,
            overlap=self.spec.overlap,
            most=self.spec.most,
            extent=tf.reduce_max(size),
            least=self.spec.score,
        )
        found = tf.cast(take(groups, chosen, count), tf.int64)
        return take(boxes, chosen, count), take(scores, chosen, count), found, count
