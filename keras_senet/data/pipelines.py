"""What the pipelines of training and evaluation share."""

import os

import tensorflow as tf


def fetch_in_graph(dataset, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """(images as `fetch` returns them, their orientations, labels) of indices (n,), in a graph."""

    def fetch(indices):
        raw, labels = dataset.fetch(indices)
        return raw, dataset.headers(raw)[1], labels

    kind = dataset.raw
    raw, orientations, labels = tf.numpy_function(
        fetch, [indices], (kind.dtype, tf.int32, tf.int64)
    )
    return (
        tf.ensure_shape(raw, (*indices.shape, *kind.shape)),
        tf.ensure_shape(orientations, indices.shape),
        tf.ensure_shape(labels, indices.shape),
    )


def map_reading(dataset: tf.data.Dataset, read, parallel: int) -> tf.data.Dataset:
    """`read` for each element in order, `parallel` at once, in threads of their own: they wait for
    the disk, and must not block those that decode.
    """
    return dataset.map(read, parallel, deterministic=True, use_unbounded_threadpool=True)


def map_decoding(dataset: tf.data.Dataset, decode, per_core: int = 16) -> tf.data.Dataset:
    """`decode` for each element in order.

    With no more images at once than threads, all would wait for the image that takes longest.
    """
    return dataset.map(decode, per_core * _count_cores(), deterministic=True)


def set_options(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The dataset with the options of a pipeline that decodes images in parallel."""
    options = tf.data.Options()
    options.threading.private_threadpool_size = _count_cores() + 1  # one may wait for Python
    options.threading.max_intra_op_parallelism = 1  # one thread per image; more wait for each other
    # It takes an epoch of 1,000 images to find the number that `map_decoding` sets.
    options.autotune.enabled = False
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.with_options(options)


def _count_cores():
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
