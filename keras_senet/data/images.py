"""Image operations: each is made by a small factory and maps (image (H, W, C), seed (2,)) to an image."""

import tensorflow as tf


def pad_and_crop(pixels):
    """A random crop of the image's own size from the image padded by `pixels` of black on each side."""

    def operation(image, seed):
        padded = tf.pad(image, [[pixels, pixels], [pixels, pixels], [0, 0]])
        return tf.image.stateless_random_crop(padded, tf.shape(image), seed)

    return operation


def flip():
    """The image or its mirror image, with equal chance."""
    return tf.image.stateless_random_flip_left_right


def chain(operations):
    """All operations in turn, each with a seed of its own."""

    def operation(image, seed):
        for i, each in enumerate(operations):
            image = tf.ensure_shape(each(image, tf.random.experimental.stateless_fold_in(seed, i)), image.shape)
        return image

    return operation
