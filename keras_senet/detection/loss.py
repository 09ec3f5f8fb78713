"""The four losses of Faster R-CNN."""

from dataclasses import dataclass
from typing import NamedTuple

import tensorflow as tf

from keras_senet.detection import boxes as box
from keras_senet.detection.data.truths import Truths
from keras_senet.detection.faster_rcnn import HEAD_WEIGHTS, PROPOSAL_WEIGHTS, Detector
from keras_senet.detection.matching import BACKGROUND, IGNORED, match, sample
from keras_senet.detection.network import PYRAMID
from keras_senet.fields import check_field, require_types


@dataclass(frozen=True)
class Sampling:
    """Which anchors and proposals of an image are trained on.

    anchors         how many per image
    anchors_matched the largest fraction of them that belong to a box
    anchors_overlap IoU below which an anchor is background, and from which it belongs to a box
    rois            how many proposals per image
    rois_matched    the largest fraction of them that belong to a box
    rois_overlap    IoU from which a proposal belongs to a box; below it is background
    straddling      whether anchors that cross the image's border are trained on (torchvision; in
                    Detectron not)
    beta            where the loss of boxes turns from square to linear; Detectron: 1 in the head
    """

    anchors: int = 256
    anchors_matched: float = 0.5
    anchors_overlap: tuple[float, float] = (0.3, 0.7)
    rois: int = 512
    rois_matched: float = 0.25
    rois_overlap: float = 0.5
    straddling: bool = True
    beta: float = 1 / 9

    def __post_init__(self):
        require_types(self)
        for name in ("anchors", "rois"):
            check_field(self, name, getattr(self, name) >= 1, "at least 1")
        for name in ("anchors_matched", "rois_matched", "rois_overlap"):
            check_field(self, name, 0 < getattr(self, name) <= 1, "above 0 and at most 1")
        low, high = self.anchors_overlap
        check_field(self, "anchors_overlap", 0 < low <= high <= 1, "rising, above 0, at most 1")
        check_field(self, "beta", self.beta > 0, "above 0")


ANCHORS_BETA = 1 / 9  # of the proposals' boxes, in torchvision and Detectron


def losses(
    detector: Detector,
    images,
    sizes,
    truths: Truths,
    sampling: Sampling,
    seeds,
    *,
    training: bool,
):
    """The sums over a batch of the losses "objectness", "proposals", "classes" and "boxes" by name,
    each divided by the number of samples per image.

    Divided by the number of images they are torchvision's; these denominators do not depend on what
    is in the images, so that parts of a batch add up to the whole.

    Args:
        images: float32 (N, H, W, C), normalised, of a canvas.
        sizes: int32 (N, 2), of each without its border.
        seeds: of each image, int32 (N, 2): which anchors and proposals are drawn; None takes the
            first ones.
        training: whether batch normalisation uses the statistics of the batch.
    """
    outputs = detector.propose_maps(images, training)
    padded = tf.shape(images)[1:3]
    anchors = _all_anchors(detector, outputs, padded)
    totals, rois, targets = [], [], []
    for index in range(images.shape[0]):
        count = truths.counts[index]
        boxes, classes = truths.boxes[index, :count], truths.classes[index, :count]
        keys = None if seeds is None else seeds[index]
        totals.append(_of_proposals(outputs, index, anchors, boxes, sizes[index], sampling, keys))
        chosen, target = _sample_rois(
            detector, outputs, index, padded, sizes[index], boxes, classes, sampling, keys
        )
        rois.append(chosen)
        targets.append(target)
    numbers = tf.repeat(tf.range(images.shape[0]), sampling.rois)
    logits, deltas = detector.classify(outputs, numbers, tf.concat(rois, axis=0))
    target = Targets(*(tf.concat(parts, axis=0) for parts in zip(*targets, strict=True)))
    objectness, proposals = (tf.add_n(parts) for parts in zip(*totals, strict=True))
    return {
        "objectness": objectness,
        "proposals": proposals,
        **_of_head(logits, deltas, target, sampling),
    }


class Targets(NamedTuple):
    """What RoIs are trained for: their rows of the head's outputs (0: background), the encoded
    boxes, and whether each is a sample.
    """

    rows: tf.Tensor
    deltas: tf.Tensor
    valid: tf.Tensor


def _all_anchors(detector, outputs, padded):
    """The anchors of all levels, (n, 4)."""
    found = []
    for level, name in enumerate(PYRAMID):
        grid = tf.shape(outputs[name])[1:3]
        count = grid[0] * grid[1] * len(detector.spec.anchors.ratios)
        found.append(detector.spec.anchors.boxes(level, tf.range(count), grid, padded))
    return tf.concat(found, axis=0)


def _of_proposals(outputs, index, anchors, truths, size, sampling, seed):
    """The losses of an image's logits and deltas."""
    labels = match(box.iou(truths, anchors), *sampling.anchors_overlap, keep_best=True)
    if not sampling.straddling:
        within = tf.reduce_all(tf.abs(anchors - box.clip(anchors, size)) == 0, axis=-1)
        labels = tf.where(within, labels, IGNORED)
    keys = _keys(seed, tf.size(labels), 0)
    indices, valid = sample(labels, keys, sampling.anchors, sampling.anchors_matched)
    labels, anchors = tf.gather(labels, indices), tf.gather(anchors, indices)
    logits = tf.gather(outputs["objectness"][index], indices)
    deltas = tf.gather(outputs["deltas"][index], indices)
    matched = valid & (labels >= 0)
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(matched, tf.float32), logits)
    target = box.encode(_truth_of(truths, labels, anchors), anchors, PROPOSAL_WEIGHTS)
    distance = tf.reduce_sum(_smooth_l1(deltas, target, ANCHORS_BETA), axis=-1)
    return (
        _sum_where(valid, entropy) / sampling.anchors,
        _sum_where(matched, distance) / sampling.anchors,
    )


def _sample_rois(detector, outputs, index, padded, size, truths, classes, sampling, seed):
    """The RoIs (rois, 4) of an image that the head is trained on, and their `Targets`."""
    limits = detector.spec.train_proposals
    proposals, _, count = detector.propose(outputs, index, padded, size, limits)
    rois = tf.concat([proposals, truths], axis=0)
    number = tf.range(tf.shape(rois)[0])
    labels = match(
        box.iou(truths, rois), sampling.rois_overlap, sampling.rois_overlap, keep_best=False
    )
    labels = tf.where((number < count) | (number >= limits[1]), labels, IGNORED)
    keys = _keys(seed, tf.size(labels), 1)
    indices, valid = sample(labels, keys, sampling.rois, sampling.rois_matched)
    rois, labels = tf.gather(rois, indices), tf.gather(labels, indices)
    matched = valid & (labels >= 0)
    rows = tf.concat([classes + 1, [0]], axis=0)
    rows = tf.where(matched, tf.gather(rows, tf.maximum(labels, 0)), 0)
    deltas = box.encode(_truth_of(truths, labels, rois), rois, HEAD_WEIGHTS)
    return tf.stop_gradient(rois), Targets(rows, tf.stop_gradient(deltas), valid)


def _of_head(logits, deltas, target, sampling):
    entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(target.rows, logits)
    own = tf.gather(deltas, target.rows, batch_dims=1)
    distance = tf.reduce_sum(_smooth_l1(own, target.deltas, sampling.beta), axis=-1)
    return {
        "classes": _sum_where(target.valid, entropy) / sampling.rois,
        "boxes": _sum_where(target.valid & (target.rows > 0), distance) / sampling.rois,
    }


def _keys(seed, count, purpose):
    """Random numbers of 0..1 (count,), or falling ones without a seed."""
    if seed is None:
        return 1 - tf.range(count, dtype=tf.float32) / tf.cast(count, tf.float32)
    return tf.random.stateless_uniform((count,), seed + tf.constant([0, purpose], seed.dtype))


def _truth_of(truths, labels, boxes):
    """The truth (n, 4) of each box with its label; without one, the box itself."""
    padded = tf.concat([truths, tf.zeros((1, 4))], axis=0)
    found = tf.gather(padded, tf.maximum(labels, 0))
    return tf.where((labels > BACKGROUND)[:, None], found, boxes)


def _smooth_l1(found, target, beta):
    """Half the square over beta below beta, then linear."""
    difference = tf.abs(found - target)
    return tf.where(difference < beta, 0.5 * difference**2 / beta, difference - 0.5 * beta)


def _sum_where(condition, values):
    return tf.reduce_sum(tf.where(condition, values, 0.0))
