"""The best boxes of each of several groups: levels of proposals, or classes of detections."""

import tensorflow as tf

COLUMNS = 10  # of the square in which groups are laid out
NONE = -1e30  # the score of what is not a box
ANY = -1e29  # between it and the scores of boxes, which may be logits


def select_best(boxes, scores, groups, *, overlap: float, most: int, extent, least: float = ANY):
    """The indices, int32 (most,), of the best boxes, best first, and how many they are.

    Of boxes of one group that overlap by more than `overlap` (their IoU) only the best is taken.
    After the last index come zeros.

    Args:
        boxes: float32 (N, 4).
        scores: (N,), in which `NONE` marks what is not a box.
        groups: int32 (N,): groups do not suppress one another.
        extent: the image's longer side, in pixels, an integer.
        least: scores are above it; by default all but `NONE` are.
    """
    chosen, count = tf.raw_ops.NonMaxSuppressionV4(
        boxes=boxes + offsets(groups, extent),
        scores=scores,
        max_output_size=most,
        iou_threshold=overlap,
        score_threshold=least,
        pad_to_max_output_size=True,
    )
    return tf.ensure_shape(chosen, (most,)), count


def offsets(groups, extent) -> tf.Tensor:
    """How far the boxes of groups (...) are moved, (..., 4), so that no two groups overlap.

    They are moved along both axes: along one, 90 groups would cost float32 precision.
    """
    step = tf.cast(_power_of_two_above(extent), tf.float32)
    x = tf.cast(groups % COLUMNS, tf.float32) * step
    y = tf.cast(groups // COLUMNS, tf.float32) * step
    return tf.stack([x, y, x, y], axis=-1)


def take(values, chosen, count):
    """The values (N, ...) at the indices that `select_best` chose, and zeros after the last."""
    found = tf.gather(values, chosen)
    valid = tf.reshape(tf.range(tf.size(chosen)) < count, (-1, *[1] * (found.shape.rank - 1)))
    return tf.where(valid, found, tf.zeros((), found.dtype))


def _power_of_two_above(extent):
    """The smallest power of two above an integer of up to 2^30."""
    powers = tf.constant([2**n for n in range(31)], tf.int32)
    return tf.reduce_min(tf.where(powers > extent, powers, powers[-1]))
