"""The four losses of Faster R-CNN."""

from typing import Any, NamedTuple

import tensorflow as tf

from keras_senet.detection import boxes as box
from keras_senet.detection.data.truths import Truths
from keras_senet.detection.faster_rcnn import HEAD_WEIGHTS, PROPOSAL_WEIGHTS, Detector
from keras_senet.detection.matching import BACKGROUND, IGNORED, match, sample
from keras_senet.detection.network import PYRAMID, predict_anchors
from keras_senet.detection.pooling import tabulate, take_around
from keras_senet.detection.spec import Sampling

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
    anchors, rois = _sample(
        detector, outputs, tf.shape(images)[1:3], sizes, truths, sampling, seeds
    )
    table, logits, deltas = propose_at(detector, outputs, anchors.places)
    found = _lose_on_anchors(anchors, logits, deltas, sampling)
    images_of_rois = tf.repeat(tf.range(images.shape[0]), sampling.rois)
    boxes = tf.reshape(rois.places, (-1, 4))
    logits, deltas = detector.classify_from(table, images_of_rois, boxes)
    return found | _lose_on_rois(rois, logits, deltas, sampling)


def _lose_on_anchors(anchors, logits, deltas, sampling):
    is_box = anchors.rows > 0
    objectness = tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(is_box, tf.float32), logits)
    proposals = _distance(deltas, anchors, ANCHORS_BETA)
    return {
        "objectness": _sum_where(anchors.valid, objectness) / sampling.anchors,
        "proposals": _sum_where(anchors.valid & is_box, proposals) / sampling.anchors,
    }


def _lose_on_rois(rois, logits, deltas, sampling):
    logits, deltas = (
        tf.reshape(each, (-1, sampling.rois, *each.shape[1:])) for each in (logits, deltas)
    )
    classes = tf.nn.sparse_softmax_cross_entropy_with_logits(rois.rows, logits)
    boxes = _distance(tf.gather(deltas, rois.rows, batch_dims=2), rois, sampling.beta)
    return {
        "classes": _sum_where(rois.valid, classes) / sampling.rois,
        "boxes": _sum_where(rois.valid & (rois.rows > 0), boxes) / sampling.rois,
    }


class Samples(NamedTuple):
    """What is trained on of images, so many anchors or RoIs each, and for what.

    places  the numbers of anchors, int32 (N, n), or the RoIs, float32 (N, n, 4)
    rows    int32 (N, n): 0 for background, else 1, or of RoIs the class counted from 1
    deltas  float32 (N, n, 4), the encoded boxes
    valid   bool (N, n), whether each is a sample
    """

    places: Any
    rows: Any
    deltas: Any
    valid: Any


def _sample(detector, outputs, padded, sizes, truths, sampling, seeds):
    """The `Samples` of anchors and of RoIs. Nothing is trained by way of them."""
    anchors = _all_anchors(detector, outputs, padded)
    fixed = {name: tf.stop_gradient(outputs[name]) for name in (*PYRAMID, "objectness", "deltas")}
    limits = detector.spec.train_proposals

    def sample_image(index):
        count, size = truths.counts[index], sizes[index]
        boxes, classes = truths.boxes[index, :count], truths.classes[index, :count]
        seed = None if seeds is None else seeds[index]
        proposals, _, found = detector.propose(fixed, index, padded, size, limits)
        return (
            _sample_anchors(anchors, boxes, size, sampling, seed),
            _sample_rois(proposals, found, boxes, classes, sampling, seed),
        )

    kinds = tuple(Samples(kind, tf.int32, tf.float32, tf.bool) for kind in (tf.int32, tf.float32))
    # In a loop: the graph does not grow with the batch.
    found = tf.map_fn(sample_image, tf.range(sizes.shape[0]), fn_output_signature=kinds)
    return tf.nest.map_structure(tf.stop_gradient, found)


def propose_at(detector: Detector, outputs, numbers) -> tuple:
    """The table of the maps, and the logits (N, n) and deltas (N, n, 4) of the anchors of each
    image with these numbers (N, n).

    They are those of `outputs`. But the gradient by way of these, zero nearly everywhere, would be
    computed for all places of all maps, and keep what training needs nowhere else.
    """
    ratios = len(detector.spec.anchors.ratios)
    count, each = numbers.shape
    numbers = tf.reshape(numbers, (-1,))
    table = tabulate([outputs[level] for level in PYRAMID])
    images = tf.repeat(tf.range(count), each)
    table, around = take_around(table, images, numbers // ratios)
    found = predict_anchors(detector.proposer, around)
    logits, deltas = (tf.gather(kind, numbers % ratios, batch_dims=1) for kind in found)
    return table, tf.reshape(logits, (count, each)), tf.reshape(deltas, (count, each, 4))


def _all_anchors(detector, outputs, padded):
    """The anchors of all levels, (n, 4)."""
    found = []
    for level, name in enumerate(PYRAMID):
        grid = tf.shape(outputs[name])[1:3]
        count = grid[0] * grid[1] * len(detector.spec.anchors.ratios)
        found.append(detector.spec.anchors.boxes(level, tf.range(count), grid, padded))
    return tf.concat(found, axis=0)


def _sample_anchors(anchors, truths, size, sampling, seed):
    labels = match(box.iou(truths, anchors), *sampling.anchors_overlap, keep_best=True)
    if not sampling.straddling:
        within = tf.reduce_all(tf.abs(anchors - box.clip(anchors, size)) == 0, axis=-1)
        labels = tf.where(within, labels, IGNORED)
    keys = _keys(seed, tf.size(labels), 0)
    indices, valid = sample(labels, keys, sampling.anchors, sampling.anchors_matched)
    labels, anchors = tf.gather(labels, indices), tf.gather(anchors, indices)
    rows = tf.cast(valid & (labels >= 0), tf.int32)
    target = _deltas_to(truths, labels, anchors, PROPOSAL_WEIGHTS)
    return Samples(indices, rows, target, valid)


def _sample_rois(proposals, count, truths, classes, sampling, seed):
    """Of the first `count` proposals and the truths."""
    rois = tf.concat([proposals, truths], axis=0)
    number = tf.range(tf.shape(rois)[0])
    overlap = sampling.rois_overlap
    labels = match(box.iou(truths, rois), overlap, overlap, keep_best=False)
    labels = tf.where((number < count) | (number >= proposals.shape[0]), labels, IGNORED)
    keys = _keys(seed, tf.size(labels), 1)
    indices, valid = sample(labels, keys, sampling.rois, sampling.rois_matched)
    rois, labels = tf.gather(rois, indices), tf.gather(labels, indices)
    rows = tf.gather(tf.concat([classes + 1, [0]], axis=0), tf.maximum(labels, 0))
    rows = tf.where(valid & (labels >= 0), rows, 0)
    target = _deltas_to(truths, labels, rois, HEAD_WEIGHTS)
    return Samples(rois, rows, target, valid)


def _keys(seed, count, purpose):
    """Random numbers of 0..1 (count,), or falling ones without a seed."""
    if seed is None:
        return 1 - tf.range(count, dtype=tf.float32) / tf.cast(count, tf.float32)
    own = tf.random.experimental.stateless_fold_in(seed, purpose)
    return tf.random.stateless_uniform((count,), own)


def _deltas_to(truths, labels, boxes, weights):
    """The encoded truth (n, 4) of each box with its label; zeros without one.

    Where there are fewer proposals than samples, a box may have no sides, and no finite deltas: by
    way of the gradient, these would reach the weights even from what is no sample.
    """
    padded = tf.concat([truths, tf.zeros((1, 4))], axis=0)
    deltas = box.encode(tf.gather(padded, tf.maximum(labels, 0)), boxes, weights)
    return tf.where((labels > BACKGROUND)[:, None], deltas, 0.0)


def _distance(found, samples, beta):
    """Half the square of each difference over beta below beta, then linear: (N, n) of deltas."""
    difference = tf.abs(found - samples.deltas)
    smooth = tf.where(difference < beta, 0.5 * difference**2 / beta, difference - 0.5 * beta)
    return tf.reduce_sum(smooth, axis=-1)


def _sum_where(condition, values):
    return tf.reduce_sum(tf.where(condition, values, 0.0))
