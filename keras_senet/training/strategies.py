"""Where training runs: one device, several, or several machines."""

import functools
import os

import tensorflow as tf

from keras_senet.fields import check_choice

STRATEGIES = ("auto", "none", "mirrored")


def make_strategy(name: str = "auto") -> tf.distribute.Strategy:
    """The strategy of this name: "auto" is several workers if TF_CONFIG names them, all GPUs if
    there are several.
    """
    check_choice("strategy", name, STRATEGIES)
    if name == "auto" and "TF_CONFIG" in os.environ:
        return tf.distribute.MultiWorkerMirroredStrategy()
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    devices = tuple(device.name for device in tf.config.list_logical_devices(kind))
    if name == "mirrored" or (name == "auto" and kind == "GPU" and len(devices) > 1):
        return _mirror(devices)
    return tf.distribute.get_strategy()


@functools.cache
def _mirror(devices):
    """The `MirroredStrategy` of these devices, one per process.

    TensorFlow counts the collectives of each strategy from 1: those of a second one would meet the
    first one's.
    """
    return tf.distribute.MirroredStrategy(devices)


class Workers:
    """The processes that train together under a strategy: one, or several that TF_CONFIG names.

    several   whether there are several
    is_chief  whether this one writes the work directory
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        resolver = getattr(strategy, "cluster_resolver", None)
        self.strategy = strategy
        self.several = resolver is not None
        self.is_chief = resolver is None or not resolver.task_id

    def check_equal(self, number: int, message: str) -> None:
        """Raises ValueError with the message unless all workers pass the same number."""
        if self.several:
            total = self._add(lambda: tf.constant(number, tf.int64))
            if int(total) != number * self.strategy.num_replicas_in_sync:
                raise ValueError(message)

    def barrier(self) -> None:
        """Waits for all workers: one that ends before the others would end them."""
        if self.several:
            self._add(lambda: tf.constant(1.0))

    def _add(self, make_number):
        return self.strategy.reduce("SUM", self.strategy.run(make_number), axis=None)
