"""Training on JAX: one compiled step over all devices, of one host or of several."""

import contextlib
import functools
import importlib.util
import os
from collections.abc import Iterable, Set
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from keras_senet.fields import check_argument
from keras_senet.training.phases import find_phase, fixed, named_optimizers
from keras_senet.training.step import Step
from keras_senet.training.totals import Outcome

AXIS = "batch"  # of the mesh: along it batches are divided, and everything else is the same


class Devices:
    """The devices that train together: all of them, of every host that `jax.distributed` joins.

    Raises:
        ValueError: for a strategy that is TensorFlow's.
    """

    pipelines = ("device", "tf.data")
    lost: tuple[type[BaseException], ...] = ()  # JAX ends the process where another one is lost

    def __init__(self, strategy: Any = "auto"):
        accepted = "'auto' or 'none' on JAX, where 'auto' is all devices"
        check_argument("strategy", strategy, strategy in ("auto", "none"), accepted)
        if strategy == "auto":
            _join_hosts()
        _hide_gpus()
        devices = jax.devices() if strategy == "auto" else jax.local_devices()[:1]
        self.replicas = len(devices)
        self.processes = len({device.process_index for device in devices})
        self.several = self.processes > 1
        self.is_chief = not self.several or jax.process_index() == 0
        mesh = Mesh(np.array(devices), (AXIS,))
        self.everywhere = NamedSharding(mesh, PartitionSpec())
        self.divided = NamedSharding(mesh, PartitionSpec(AXIS))
        self.within = NamedSharding(mesh, PartitionSpec(None, AXIS))  # micro-batches

    def scope(self) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext()

    def check_equal(self, number: int, message: str) -> None:
        if self.several and len(set(multihost_utils.process_allgather(number).tolist())) > 1:
            raise ValueError(message)

    def barrier(self) -> None:
        if self.several:
            multihost_utils.sync_global_devices("keras_senet")

    def distribute(self, data: Any, first: int, last: int, skip: Set[int]) -> Iterable[Any]:
        parts = [jax.process_index()] if self.several else [0]
        batches = data.batches(first, last, replicas=self.processes, parts=parts, skip=skip)
        return batches.as_numpy_iterator()

    def place(self, values: Any, sharding: NamedSharding) -> Any:
        """A tree of arrays, which every process has whole, on the devices."""
        if not self.several:
            return jax.device_put(values, sharding)
        return self.feed(jax.tree.map(np.asarray, values), sharding)

    def feed(self, values: Any, sharding: NamedSharding) -> Any:
        """A tree of NumPy arrays, which every process has whole, as a compiled function takes them:
        itself where that places them, which is faster.
        """
        if not self.several:
            return values

        def put(value):
            return jax.make_array_from_callback(value.shape, sharding, value.__getitem__)

        return jax.tree.map(put, values)


def split_cpu(count: int) -> None:
    """Makes so many devices of the CPU, before JAX starts."""
    jax.config.update("jax_num_cpu_devices", count)


def run_in_turn() -> None:
    """Nothing to do: XLA plans the memory of a step as a whole."""


def _join_hosts():
    if "TF_CONFIG" in os.environ:
        raise ValueError(
            "TF_CONFIG names the workers of TensorFlow. On JAX, hosts are joined by "
            "jax.distributed: JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID"
        )
    if "JAX_COORDINATOR_ADDRESS" in os.environ and not jax.distributed.is_initialized():
        given = [_read_count(f"JAX_{name}") for name in ("NUM_PROCESSES", "PROCESS_ID")]
        jax.distributed.initialize(os.environ["JAX_COORDINATOR_ADDRESS"], *given)


def _read_count(name):
    given = os.environ.get(name, "")
    if not given.isdecimal():
        raise ValueError(
            f"`{name}` must be a number where JAX_COORDINATOR_ADDRESS is set. Received: {given!r}"
        )
    return int(given)


def _hide_gpus():
    """From TensorFlow, if it is installed to read images: it would take their memory."""
    if jax.default_backend() == "gpu" and importlib.util.find_spec("tensorflow"):
        import tensorflow as tf

        tf.config.set_visible_devices([], "GPU")


class TrainStep(Step):
    """A step of a recipe.

    All values that a step changes (weights, statistics, optimizers, averages) are one list of
    arrays, which the compiled step takes and returns. From the first step on the Keras variables
    have none of them, until `publish`.

    A batch is divided among the devices, but its statistics, its draws and its sums are of all of
    it: as many devices as there are give the numbers of one.
    """

    fold_in = staticmethod(jax.random.fold_in)

    def __init__(self, *args: Any):
        super().__init__(*args)
        devices, source, average = self.devices, self.source, self.average
        optimizers = named_optimizers(self.phases).values()
        self.variables = [*self.model.weights, *(v for each in optimizers for v in each.variables)]
        self.variables += average.averages if average else []
        self._state: list[jax.Array] | None = None
        self._images: tuple = ()
        if source is not None:
            self._images = devices.place((source.images, source.labels), devices.everywhere)
        self._compiled = functools.cache(self._compile)

    def __call__(self, batch: Any, number: int, stop: bool = False) -> Outcome:
        if self._state is None:
            values = [variable.value for variable in self.variables]
            self._state = self.devices.place(values, self.devices.everywhere)
        run = self._compiled(find_phase(self.phases, number))
        arguments = self._place_batch(batch), *self._place_scalars(number, stop)
        self._state, values = run(self._state, self._images, *arguments)
        return Outcome(self.objective.figures, values)

    def publish(self) -> None:
        """Gives the variables of the model, the optimizers and the average their values."""
        if self._state is None:
            return
        for variable, value in zip(self.variables, self._state, strict=True):
            variable.assign(value.addressable_data(0))
        self._state = None

    def _place_batch(self, batch):
        devices = self.devices
        if self.source is not None or not devices.several:
            return devices.feed(batch, devices.divided)
        # Of images, each process has its own part
        put = functools.partial(jax.make_array_from_process_local_data, devices.divided)
        return jax.tree.map(put, batch)

    def _place_scalars(self, number, stop):
        devices, number = self.devices, np.asarray(number, "int32")
        flags = np.full(devices.replicas, stop, "float32")  # of each device's process
        return devices.feed(number, devices.everywhere), devices.feed(flags, devices.divided)

    def _compile(self, index):
        everywhere, divided = self.devices.everywhere, self.devices.divided
        return jax.jit(
            functools.partial(self._run, self.phases[index]),
            donate_argnums=0,
            in_shardings=(everywhere, everywhere, divided, everywhere, divided),
            out_shardings=(everywhere, everywhere),
        )

    def _run(self, phase, state, images, batch, number, stop):
        key = jax.random.fold_in(jax.random.PRNGKey(self.recipe.seed), number)
        if self.source is not None:
            batch = self.source.make_batch(*images, *batch)
        batch = batch, self._seed_images(number)
        with fixed(phase.untrained), self.seeds:
            trained = self.model.trainable_variables
            known = {id(variable) for variable in trained}
            others = [v for v in self.model.weights if id(v) not in known]
            gradients, figures, statistics = self._differentiate(
                phase, state, trained, others, batch, key
            )
            with self._scope(state, others, statistics) as scope:
                failed = self._update(phase.optimizer, gradients, trained)
                if self.average is not None:
                    self.average.update(number)
            state = [scope.get_current_value(variable) for variable in self.variables]
        failed = failed | ~jnp.isfinite(figures[0])
        return state, jnp.stack([*figures, failed.astype("float32"), stop.max()])

    def _seed_images(self, number):
        """A seed for each image, integers (n, 2): the recipe's, and its place in the training."""
        places = number * self.recipe.batch_size + jnp.arange(self.recipe.batch_size)
        return jnp.stack([jnp.full_like(places, self.recipe.seed), places], 1)

    def _scope(self, state, variables=(), values=()):
        """Within, the variables have the values of the state, but for those that are given."""
        pairs = [*zip(self.variables, state, strict=True), *zip(variables, values, strict=True)]
        return keras.StatelessScope(pairs)

    def _differentiate(self, phase, state, trained, others, batch, key):
        """(gradients by the trained variables, figures: sums over the batch; the other variables'
        values after it), one micro-batch after another.
        """
        variables = [*trained, *others]

        def compute(values, statistics, batch, key):
            with (
                self._scope(state, variables, [*values, *statistics]) as scope,
                self.seeds.seeded(key),
            ):
                loss, figures = self.objective(self._call, *batch)
                scaled = phase.optimizer.scale_loss(loss)
            after = [scope.get_current_value(variable) for variable in others]
            found = [loss, *(figures[name] for name in self.objective.figures)]
            return scaled, (jnp.stack(found), after)

        differentiate = jax.grad(compute, has_aux=True)
        with self._scope(state):
            values, statistics = ([v.value for v in each] for each in (trained, others))
        if self.recipe.accumulation > 1:
            return self._accumulate(differentiate, values, statistics, batch, key)
        gradients, (figures, statistics) = differentiate(values, statistics, batch, key)
        return gradients, figures, statistics

    def _accumulate(self, differentiate, values, statistics, batch, key):
        count = self.recipe.accumulation

        def add(sums, part):
            i, micro_batch = part
            gradients, figures, statistics = sums
            more, (found, statistics) = differentiate(
                values, statistics, micro_batch, jax.random.fold_in(key, i)
            )
            return (jax.tree.map(jnp.add, gradients, more), figures + found, statistics), None

        def divide(whole):
            parts = whole.reshape(count, -1, *whole.shape[1:])
            return jax.lax.with_sharding_constraint(parts, self.devices.within)

        zeros = jax.tree.map(jnp.zeros_like, values), jnp.zeros(1 + len(self.objective.figures))
        parts = jnp.arange(count), jax.tree.map(divide, batch)
        (gradients, figures, statistics), _ = jax.lax.scan(add, (*zeros, statistics), parts)
        return gradients, figures, statistics

    def _update(self, optimizer, gradients, variables):
        """Adds L2 regularisation, clips, applies; returns whether the gradients were not finite."""
        gradients = self._add_decay(gradients, variables, optimizer.scale_loss)
        norm = jnp.sqrt(sum(jnp.sum(jnp.square(g)) for g in gradients))
        if self.recipe.clip_norm:
            limit = optimizer.scale_loss(jnp.float32(self.recipe.clip_norm))
            gradients = [g * (limit / jnp.maximum(norm, limit)) for g in gradients]
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            _apply_scaled(optimizer, gradients, variables)
            return jnp.array(False)  # loss scaling skips the step: nothing went wrong
        optimizer.apply(gradients, variables)
        return ~jnp.isfinite(norm)


def _apply_scaled(optimizer, gradients, variables):
    """As the optimizer's own `apply`, which assigns within branches, where no scope sees it."""
    inner = optimizer.inner_optimizer
    finite = optimizer.check_finite(gradients)
    scale, counted = optimizer.dynamic_scale.value, optimizer.step_counter.value
    changed = [*variables, *inner.variables]
    before = [variable.value for variable in changed]
    inner.apply([gradient / scale for gradient in gradients], variables)
    for variable, value in zip(changed, before, strict=True):
        variable.assign(jnp.where(finite, variable.value, value))
    is_due = counted == optimizer.dynamic_growth_steps - 1
    factor = jnp.where(finite, jnp.where(is_due, 2.0, 1.0), 0.5)
    optimizer.dynamic_scale.assign(scale * factor)
    optimizer.step_counter.assign(jnp.where(finite & ~is_due, counted + 1, 0))
