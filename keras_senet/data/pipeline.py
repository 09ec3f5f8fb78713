"""tf.data pipelines that can start at any step: what is at a step follows from (seed, step) alone."""

import tensorflow as tf


def steps_per_epoch(dataset, batch_size):
    """How many whole batches there are. Raises ValueError if there is none."""
    if batch_size > len(dataset):
        raise ValueError(
            f"`batch_size` must be at most the number of images, {len(dataset)}. Received: batch_size={batch_size}"
        )
    return len(dataset) // batch_size


def training_batches(dataset, batch_size, *, seed, augment, first_step, last_step):
    """Batches (images uint8 (batch, H, W, 3), labels (batch,)) of the steps first_step .. last_step - 1.

    Each epoch goes through the images in another order and drops the incomplete batch at its end.
    `augment(image, seed)` is applied to each image with a seed made of (seed, epoch, index).
    """
    used = steps_per_epoch(dataset, batch_size) * batch_size  # an epoch's images
    last = tf.constant(len(dataset) - 1, tf.int64)
    images, labels = tf.constant(dataset.images), tf.constant(dataset.labels)

    def example(count):
        epoch_seed = tf.stack([tf.constant(seed, tf.int64), count // used])
        index = tf.random.experimental.index_shuffle(count % used, epoch_seed, last)
        return augment(images[index], tf.random.experimental.stateless_fold_in(epoch_seed, index)), labels[index]

    return (
        tf.data.Dataset.range(first_step * batch_size, last_step * batch_size)
        .map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(batch_size, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def evaluation_batches(dataset, batch_size):
    """All images in their order: batches (images, labels), the last one smaller."""
    return tf.data.Dataset.from_tensor_slices((dataset.images, dataset.labels)).batch(batch_size).prefetch(1)
