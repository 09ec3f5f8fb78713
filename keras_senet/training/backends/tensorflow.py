"""Training on TensorFlow: one step on all replicas of a `tf.distribute.Strategy`."""

import contextlib
import ctypes
import functools
import os
from collections.abc import Callable, Iterable, Sequence, Set
from typing import Any

import keras
import tensorflow as tf

from keras_senet.fields import check_choice
from keras_senet.graphs import flat_layers, keep_gradients_local, update_by
from keras_senet.training.phases import find_phase, fixed
from keras_senet.training.step import Step
from keras_senet.training.totals import Outcome

fold_in = tf.random.experimental.stateless_fold_in


class Devices:
    """Where training runs: one device, several, or several machines.

    strategy   a `tf.distribute.Strategy`, or the name of one: "auto" is several workers if
               TF_CONFIG names them, all GPUs if there are several
    """

    lost: tuple[type[BaseException], ...] = (tf.errors.OpError,)

    def __init__(self, strategy: Any = "auto"):
        self.strategy = make_strategy(strategy) if isinstance(strategy, str) else strategy
        resolver = getattr(self.strategy, "cluster_resolver", None)
        self.replicas = self.strategy.num_replicas_in_sync
        self.several = resolver is not None
        self.is_chief = resolver is None or not resolver.task_id
        self.pipelines = ("tf.data", "device") if self.replicas == 1 else ("tf.data",)

    def scope(self) -> contextlib.AbstractContextManager:
        return self.strategy.scope()

    def check_equal(self, number: int, message: str) -> None:
        if self.several:
            total = self._add(lambda: tf.constant(number, tf.int64))
            if int(total) != number * self.replicas:
                raise ValueError(message)

    def barrier(self) -> None:
        if self.several:  # one that ends before the others would end them
            self._add(lambda: tf.constant(1.0))

    def _add(self, make_number):
        return self.strategy.reduce("SUM", self.strategy.run(make_number), axis=None)

    def distribute(self, data: Any, first: int, last: int, skip: Set[int]) -> Iterable[Any]:
        def batches(context=None):
            parts = None
            if context:
                count = self.replicas // context.num_input_pipelines
                start = context.input_pipeline_id * count
                parts = range(start, start + count)
            return data.batches(first, last, replicas=self.replicas, parts=parts, skip=skip)

        if self.replicas == 1:
            return batches()
        return self.strategy.distribute_datasets_from_function(batches)


def split_cpu(count: int) -> None:
    """Makes so many devices of the CPU, before TensorFlow starts."""
    (cpu,) = tf.config.list_physical_devices("CPU")
    devices = [tf.config.LogicalDeviceConfiguration()] * count
    tf.config.set_logical_device_configuration(cpu, devices)


def run_in_turn() -> None:
    """Makes TensorFlow run one operation after another, each on all threads, unless it has started
    or the user says otherwise: what two need at once is not added up (for the step of a detector
    150 MiB).
    """
    if "TF_NUM_INTEROP_THREADS" not in os.environ:
        with contextlib.suppress(RuntimeError):  # it has started
            tf.config.threading.set_inter_op_parallelism_threads(1)


STRATEGIES = ("auto", "none", "mirrored")


def make_strategy(name: str = "auto") -> tf.distribute.Strategy:
    """The strategy of this name: see `Devices`."""
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


class TrainStep(Step):
    """A step of a recipe.

    Gradients and the statistics of batch normalisation are summed over the replicas at once. So all
    replicas have equal weights and statistics at every step: evaluation, checkpoints and freezing
    need no care.
    """

    fold_in = staticmethod(fold_in)

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.strategy, self.replicas = self.devices.strategy, self.devices.replicas
        # On the device before a graph is traced, whose constants they would be
        self._images = () if self.source is None else (self.source.images, self.source.labels)
        layers = flat_layers(self.model)
        self.norms = [each for each in layers if isinstance(each, keras.layers.BatchNormalization)]
        for optimizer in {id(phase.optimizer): phase.optimizer for phase in self.phases}.values():
            keep_gradients_local(optimizer)  # summed here, before clipping and decay
            if self.replicas == 1:  # several meet in an update
                update_by(optimizer, compute_in_turn)
        # Batches of images of other sizes have one more graph, and not one for each size.
        self._compiled = tf.function(
            self._run, autograph=False, jit_compile=self.recipe.xla or None, reduce_retracing=True
        )

    def publish(self) -> None:
        """The model, the optimizers and the average have their values at any time."""

    def __call__(self, batch: Any, number: int, stop: bool = False) -> Outcome:
        scalars = tf.constant(number, tf.int64), tf.constant(float(stop))
        values = call_compiled(self._compiled, batch, *scalars, find_phase(self.phases, number))
        return Outcome(self.objective.figures, values)

    def _run(self, batch, number, stop, index):
        arguments = (batch, number, stop, self.phases[index].optimizer)
        # Around all replicas, for the tracing: their threads take turns.
        with self._training(self.phases[index]), self.seeds:
            if self.replicas == 1:
                return self._run_replica(*arguments)
            outcome = self.strategy.run(self._run_replica, args=arguments)
        return self.strategy.experimental_local_results(outcome)[0]

    def _run_replica(self, batch, number, stop, optimizer):
        context = tf.distribute.get_replica_context()
        replica = tf.cast(context.replica_id_in_sync_group, tf.int64)
        seed = fold_in(tf.stack([tf.constant(self.recipe.seed, tf.int64), number]), replica)
        if self.source is not None:
            batch = self.source.make_batch(*self._images, *batch)
        batch = batch, self._seed_images(number, replica)
        variables = self.model.trainable_variables
        gradients, figures = self._differentiate(batch, variables, seed, optimizer)
        trained = (norm for norm in self.norms if norm.trainable)
        pairs = ((norm.moving_mean, norm.moving_variance) for norm in trained)
        statistics = [variable for pair in pairs for variable in pair]
        gradients, figures = self._reduce(context, gradients, [*figures, stop], statistics)
        # After the last gradient: until then activations occupy the memory that an update needs.
        with tf.control_dependencies([tf.group(*gradients)]):
            failed = self._update(gradients, variables, optimizer)
        if self.average is not None:
            self.average.update(number)
        loss, *figures, stop = figures
        failed = tf.cast(failed | ~tf.math.is_finite(loss), tf.float32)
        return tf.stack([loss, *figures, failed, stop])

    def _seed_images(self, number, replica):
        """A seed for each image of a replica, int64 (n, 2): the recipe's, and its place in the
        training. So the draws of an image do not depend on how its batch is divided.
        """
        size = self.recipe.batch_size // self.replicas
        places = number * self.recipe.batch_size + replica * size + tf.range(size, dtype=tf.int64)
        return tf.stack([tf.fill([size], tf.constant(self.recipe.seed, tf.int64)), places], 1)

    @contextlib.contextmanager
    def _training(self, phase):
        """Within, the layers are as a phase trains them; the model itself is not changed."""
        kept = [(norm, norm.synchronized) for norm in self.norms]
        with fixed(phase.untrained):
            for norm in self.norms:
                norm.synchronized = self.recipe.sync_bn and norm.trainable
            try:
                yield
            finally:
                for norm, synchronized in kept:
                    norm.synchronized = synchronized

    def _differentiate(self, batch, variables, seed, optimizer):
        """The sums of gradient, loss and figures over this replica's images, by micro-batches."""
        count = self.recipe.accumulation
        if count == 1:
            return self._differentiate_micro_batch(batch, variables, seed, optimizer)
        parts = tf.nest.map_structure(lambda t: _divide(t, count), batch)

        def add(i, sums):
            part = tf.nest.map_structure(lambda t: t[i], parts)
            found = self._differentiate_micro_batch(part, variables, fold_in(seed, i), optimizer)
            return i + 1, tf.nest.map_structure(tf.add, sums, found)

        figures = [tf.zeros(()) for _ in ("loss", *self.objective.figures)]
        zeros = [tf.zeros(v.shape, v.dtype) for v in variables], figures
        # One after another: micro-batches at the same time would need the memory that this saves.
        _, sums = tf.while_loop(
            lambda i, _: i < count, add, (tf.constant(0), zeros), parallel_iterations=1
        )
        return sums

    def _differentiate_micro_batch(self, batch, variables, seed, optimizer):
        batch, seeds = batch
        watched = [v.value for v in variables]
        # Only these: nothing is kept, and nothing goes back, below the first layer that is trained.
        tape = tf.GradientTape(watch_accessed_variables=False)
        with self.seeds.seeded(seed), tape:
            tape.watch(watched)
            loss, figures = self.objective(self._call, batch, seeds)
            scaled = optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, watched)
        return gradients, [loss, *(figures[name] for name in self.objective.figures)]

    def _reduce(self, context, gradients, figures, statistics):
        """Sums gradients and figures over the replicas, and makes the statistics their mean."""
        if self.replicas == 1:
            return gradients, figures
        on_device = map(tf.identity, statistics)
        values = [*gradients, tf.stack(figures), *on_device]
        sums = context.all_reduce(tf.distribute.ReduceOp.SUM, values)
        for statistic, total in zip(statistics, sums[len(gradients) + 1 :], strict=True):
            statistic.assign(total / self.replicas)
        return sums[: len(gradients)], tf.unstack(sums[len(gradients)])

    def _map(self, function, *lists):
        return compute_in_turn(function, *lists)

    def _update(self, gradients, variables, optimizer):
        """Adds L2 regularisation, clips, applies; returns whether the gradients were not finite."""
        recipe = self.recipe
        gradients = self._add_decay(gradients, variables, optimizer.scale_loss)
        norm = tf.linalg.global_norm(gradients)
        if recipe.clip_norm:
            limit = optimizer.scale_loss(tf.constant(recipe.clip_norm))
            gradients, _ = tf.clip_by_global_norm(gradients, limit, use_norm=norm)
        optimizer.apply(gradients, variables)
        if recipe.precision == "mixed_float16":
            return tf.constant(False)  # loss scaling skips the step: nothing went wrong
        return ~tf.math.is_finite(norm)


def call_compiled(function: Any, *arguments: Any) -> Any:
    """What a `tf.function` returns. After a call that has compiled it, the system gets back the
    memory that this took, which the C library would keep: for the step of a detector 160 MiB.
    """
    count = function.experimental_get_tracing_count()
    found = function(*arguments)
    if function.experimental_get_tracing_count() > count:
        with contextlib.suppress(OSError, AttributeError):  # glibc only
            ctypes.CDLL("libc.so.6").malloc_trim(0)
    return found


def compute_in_turn(function: Callable, *lists: Sequence) -> list:
    """What a function returns for each row of lists, in a graph, one after another: together, their
    temporary tensors take as much memory as all weights, several times.
    """
    graph = tf.compat.v1.get_default_graph()
    found, before = [], []
    for row in zip(*lists, strict=True):
        count = len(graph.get_operations())
        with tf.control_dependencies(before):
            found.append(function(*row))
        before = graph.get_operations()[count:] or before
    return found


def _divide(tensor, count):
    """(n, ...) -> (count, n / count, ...); sides may be known only when the graph runs."""
    sides = tensor.shape[1:] if tensor.shape.is_fully_defined() else tf.shape(tensor)[1:]
    return tf.reshape(tensor, tf.concat([[count, tensor.shape[0] // count], sides], 0))
