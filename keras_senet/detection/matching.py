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
    found = [
        _choose_largest(labels >= 0, keys, int(count * positives)),
        _choose_largest(labels == BACKGROUND, keys, count),
    ]
    indices, valid = (tf.concat(parts, axis=0) for parts in zip(*found, strict=True))
    first = tf.argsort(tf.cast(valid, tf.int32), direction="DESCENDING", stable=True)[:count]
    return tf.gather(indices, first), tf.gather(valid, first)


def _choose_largest(condition, keys, count):
    """The indices, int32 (count,), of the largest keys where a condition holds, and whether each is
    one: there may be fewer.
    """
    keys = tf.where(condition, keys, -1.0)
    values, indices = tf.math.top_k(keys, tf.minimum(count, tf.size(keys)))
    missing = [[0, count - tf.size(indices)]]
    values, indices = tf.pad(values, missing, constant_values=-1), tf.pad(indices, missing)
    return tf.ensure_shape(indices, (count,)), tf.ensure_shape(values >= 0, (count,))
