"""Which anchors and proposals are trained on, and for what."""

import tensorflow as tf

BACKGROUND, IGNORED = -1, -2


def match(overlaps, low: float, high: float, *, keep_best: bool) -> tf.Tensor:
    """For each box the index, int32 (N,), of the truth that it is trained for, BACKGROUND or
    IGNORED.

    A box gets the truth that it overlaps most if their IoU is at least `high`; below `low` it is
    background, between both it is ignored.

    Args:
        overlaps: IoU of truths and boxes, (truths, N); without truths all is background.
        keep_best: whether the boxes that overlap a truth most, all of equal ones, get their own
            best truth, however small its IoU.
    """
    count = tf.shape(overlaps)[1]
    # A row below every IoU, so that there is a best truth where there are no truths.
    padded = tf.concat([overlaps, tf.fill((1, count), tf.constant(-1.0, overlaps.dtype))], axis=0)
    best = tf.argmax(padded, axis=0, output_type=tf.int32)
    value = tf.reduce_max(padded, axis=0)
    found = tf.where(value >= high, best, tf.where(value >= low, IGNORED, BACKGROUND))
    if keep_best:
        largest = tf.reduce_max(overlaps, axis=1, keepdims=True)
        found = tf.where(tf.reduce_any(overlaps == largest, axis=0), best, found)
    return found


def sample(labels, keys, count: int, positives: float) -> tuple[tf.Tensor, tf.Tensor]:
    """The indices, int32 (count,), of boxes that are trained on, and whether each is one.

    At most the fraction `positives` of them are matched ones (labels of at least 0), the rest is
    background; the ones with the largest keys are taken.

    Args:
        labels: of `match`, int32 (N,).
        keys: random numbers of 0..1, float32 (N,).
    """
    most = int(count * positives)
    is_matched, is_background = labels >= 0, labels == BACKGROUND
    matched = tf.minimum(tf.math.count_nonzero(is_matched, dtype=tf.int32), most)
    # 2..3 for the chosen matched ones, 1..2 for the background, below 0 for what is left.
    order = tf.where(is_matched, keys, -1.0)
    rank = tf.argsort(tf.argsort(order, direction="DESCENDING", stable=True))
    chosen = is_matched & (rank < matched)
    order = tf.where(chosen, 2 + keys, tf.where(is_background, 1 + keys, -1.0))
    values, indices = tf.math.top_k(order, tf.minimum(count, tf.shape(order)[0]))
    missing = count - tf.shape(indices)[0]
    indices = tf.pad(indices, [[0, missing]])
    valid = tf.pad(values > 0, [[0, missing]])
    return tf.ensure_shape(indices, (count,)), tf.ensure_shape(valid, (count,))
