"""Pairs of training images mixed: Mixup and CutMix."""

import tensorflow as tf

from keras_senet.data.operations import derive_seed, to_uint8


def draw_mixing(mixup, cutmix, size, seed):
    """How a pair is mixed: (share of the image itself, box (top, left, bottom, right) that comes
    from the other).

    With both alphas each has an equal chance. Mixup has an empty box, CutMix the share 1 - box /
    image. Sources: Zhang et al. 2017, arXiv 1710.09412; Yun et al. 2019, arXiv 1905.04899.
    """
    draws = tf.random.stateless_uniform((3,), seed)
    blends = draws[0] < (0.5 if mixup and cutmix else float(bool(mixup)))
    share = tf.where(
        blends, _beta(mixup, derive_seed(seed, 1)), _beta(cutmix, derive_seed(seed, 2))
    )
    side = tf.cast(size * tf.sqrt(1 - share), tf.int32)
    middle = tf.cast(draws[1:] * size, tf.int32)
    box = tf.clip_by_value(tf.concat([middle - side // 2, middle - side // 2 + side], 0), 0, size)
    area = tf.cast((box[2] - box[0]) * (box[3] - box[1]), tf.float32)
    return tf.where(blends, share, 1 - area / size**2), tf.where(blends, tf.zeros_like(box), box)


def _beta(alpha, seed):
    """A draw from Beta(alpha, alpha)."""
    gammas = tf.random.stateless_gamma((2,), seed, max(alpha, 1e-3), dtype=tf.float64)
    return tf.cast((gammas[0] + 1e-300) / (tf.reduce_sum(gammas) + 2e-300), tf.float32)


def mix_pairs(images, targets, shares, boxes):
    """Each image (b, H, W, C) with its neighbour, 2k with 2k + 1: images uint8, targets (b,
    classes).
    """
    size = images.shape[1]
    cast = tf.cast(images, tf.float32)
    others = _neighbours(cast)
    rows, columns = (
        (tf.range(size) >= boxes[:, i, None]) & (tf.range(size) < boxes[:, i + 2, None])
        for i in range(2)
    )
    inside = (rows[:, :, None] & columns[:, None, :])[..., None]
    blends = tf.reduce_all(tf.equal(boxes, 0), axis=1)
    kept = tf.where(blends, shares, 1.0)[:, None, None, None]
    mixed = tf.where(inside, others, kept * cast + (1 - kept) * others)
    return to_uint8(mixed), shares[:, None] * targets + (1 - shares[:, None]) * _neighbours(targets)


def _neighbours(values):
    """Elements 2k and 2k + 1 exchanged."""
    pairs = tf.reshape(values, (-1, 2, *values.shape[1:]))
    return tf.reshape(pairs[:, ::-1], tf.shape(values))
