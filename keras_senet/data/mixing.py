"""Pairs of training images mixed: Mixup and CutMix."""

import tensorflow as tf

from keras_senet.data.operations import derive_seed, to_uint8


def draw_mixing(mixup: float, cutmix: float, size: int, seed) -> tuple[tf.Tensor, tf.Tensor]:
    """How a pair is mixed: (weight of the image itself, box (top, left, bottom, right) that comes
    from the other).

    With both alphas, Mixup and CutMix have equal probability. Mixup has an empty box, CutMix the
    weight 1 - area of the box / area of the image. Sources: Zhang et al. 2017, arXiv 1710.09412;
    Yun et al. 2019, arXiv 1905.04899.
    """
    draws = tf.random.stateless_uniform((3,), seed)
    is_mixup = draws[0] < (0.5 if mixup and cutmix else float(bool(mixup)))
    blended, cut = _draw_beta(mixup, derive_seed(seed, 1)), _draw_beta(cutmix, derive_seed(seed, 2))
    weight = tf.where(is_mixup, blended, cut)
    side = tf.cast(size * tf.sqrt(1 - weight), tf.int32)
    first = tf.cast(draws[1:] * size, tf.int32) - side // 2
    box = tf.clip_by_value(tf.concat([first, first + side], 0), 0, size)
    area = tf.cast((box[2] - box[0]) * (box[3] - box[1]), tf.float32)
    empty = tf.zeros_like(box)
    return tf.where(is_mixup, weight, 1 - area / size**2), tf.where(is_mixup, empty, box)


def _draw_beta(alpha, seed):
    gammas = tf.random.stateless_gamma((2,), seed, max(alpha, 1e-3), dtype=tf.float64)
    return tf.cast((gammas[0] + 1e-300) / (tf.reduce_sum(gammas) + 2e-300), tf.float32)


def mix_pairs(images, targets, weights, boxes) -> tuple[tf.Tensor, tf.Tensor]:
    """Images (b, H, W, C) mixed with neighbours, 2k with 2k + 1: uint8, targets (b, classes)."""
    size = images.shape[1]
    cast = tf.cast(images, tf.float32)
    others = _swap_pairs(cast)
    rows, columns = (
        (tf.range(size) >= boxes[:, i, None]) & (tf.range(size) < boxes[:, i + 2, None])
        for i in range(2)
    )
    inside = (rows[:, :, None] & columns[:, None, :])[..., None]
    is_mixup = tf.reduce_all(tf.equal(boxes, 0), axis=1)
    kept = tf.where(is_mixup, weights, 1.0)[:, None, None, None]
    mixed = tf.where(inside, others, kept * cast + (1 - kept) * others)
    weights = weights[:, None]
    return to_uint8(mixed), weights * targets + (1 - weights) * _swap_pairs(targets)


def _swap_pairs(values):
    """Elements 2k and 2k + 1 exchanged."""
    pairs = tf.reshape(values, (-1, 2, *values.shape[1:]))
    return tf.reshape(pairs[:, ::-1], tf.shape(values))
