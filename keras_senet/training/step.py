"""The arithmetic of one training step, on all replicas."""

import contextlib
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_senet.graphs import flat_layers, keep_gradients_local
from keras_senet.recipes.recipe import Recipe
from keras_senet.training.average import Average
from keras_senet.training.phases import Phase, fixed
from keras_senet.training.seeds import StepSeeds

fold_in = tf.random.experimental.stateless_fold_in


class Outcome(NamedTuple):
    """What a step returns, float32: mean loss, correct predictions, whether it failed, whether a
    worker is to stop.
    """

    loss: tf.Tensor
    correct: tf.Tensor
    failed: tf.Tensor
    stop: tf.Tensor


class TrainStep:
    """A step of a recipe: `step(images, targets, number, stop=...)` changes the weights and returns
    an `Outcome`. `number` is that of the steps before it, and says which phase it belongs to.

    Gradients and the statistics of batch normalisation are summed over the replicas at once. So all
    replicas have equal weights and statistics at every step: evaluation, checkpoints and freezing
    need no care.

    Args:
        recipe: of the run.
        model: with `preprocessing`.
        phases: as of `make_phases`.
        average: the moving average of the model's weights, or None.
        strategy: where the step runs.
        class_weights: those of the loss of images of each class, float32 (classes,); None for 1.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: keras.Model,
        phases: Sequence[Phase],
        average: Average | None,
        strategy: tf.distribute.Strategy,
        class_weights: np.ndarray | None = None,
    ):
        self.recipe, self.model, self.phases = recipe, model, phases
        self.average, self.strategy = average, strategy
        self.class_weights = class_weights
        self.replicas = strategy.num_replicas_in_sync
        layers = flat_layers(model)
        self.norms = [each for each in layers if isinstance(each, keras.layers.BatchNormalization)]
        for phase in phases:
            keep_gradients_local(phase.optimizer)  # summed here, before clipping and decay
        self.seeds = StepSeeds(model, fold_in)
        self._compiled = tf.function(self._run, autograph=False, jit_compile=recipe.xla or None)

    def rate(self, number: int) -> float:
        """The learning rate of the step after `number` steps, before the factors of layers."""
        return self.phases[self._index(number)].rate(number)

    def _index(self, number):
        return max(i for i, phase in enumerate(self.phases) if phase.first <= number)

    def __call__(self, images, targets, number: int, stop: bool = False):
        scalars = tf.constant(number, tf.int64), tf.constant(float(stop))
        return Outcome(*self._compiled(images, targets, *scalars, self._index(number)))

    def _run(self, images, targets, number, stop, index):
        arguments = (images, targets, number, stop, self.phases[index].optimizer)
        # Around all replicas, for the tracing: their threads take turns.
        with self._training(self.phases[index]), self.seeds:
            if self.replicas == 1:
                return tf.unstack(self._run_replica(*arguments))
            outcome = self.strategy.run(self._run_replica, args=arguments)
        return tf.unstack(self.strategy.experimental_local_results(outcome)[0])

    def _run_replica(self, images, targets, number, stop, optimizer):
        context = tf.distribute.get_replica_context()
        seed = tf.stack([tf.constant(self.recipe.seed, tf.int64), number])
        seed = fold_in(seed, tf.cast(context.replica_id_in_sync_group, tf.int64))
        variables = self.model.trainable_variables
        gradients, figures = self._differentiate(images, targets, variables, seed, optimizer)
        trained = (norm for norm in self.norms if norm.trainable)
        pairs = ((norm.moving_mean, norm.moving_variance) for norm in trained)
        statistics = [variable for pair in pairs for variable in pair]
        gradients, figures = self._reduce(context, gradients, [*figures, stop], statistics)
        failed = self._update(gradients, variables, optimizer)
        if self.average is not None:
            self.average.update(number)
        loss, correct, stop = figures
        failed = tf.cast(failed | ~tf.math.is_finite(loss), tf.float32)
        return tf.stack([loss, correct, failed, stop])

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

    def _differentiate(self, images, targets, variables, seed, optimizer):
        """The sums over this replica's images of gradient, loss and correct predictions, one
        micro-batch after another.
        """
        count = self.recipe.accumulation
        if count == 1:
            return self._differentiate_micro_batch(images, targets, variables, seed, optimizer)
        images, targets = (tf.reshape(t, [count, -1, *t.shape[1:]]) for t in (images, targets))

        def add(i, sums):
            found = self._differentiate_micro_batch(
                images[i], targets[i], variables, fold_in(seed, i), optimizer
            )
            return i + 1, tf.nest.map_structure(tf.add, sums, found)

        zeros = [tf.zeros(v.shape, v.dtype) for v in variables], [tf.zeros(()), tf.zeros(())]
        # One after another: micro-batches at the same time would need the memory that this saves.
        _, sums = tf.while_loop(
            lambda i, _: i < count, add, (tf.constant(0), zeros), parallel_iterations=1
        )
        return sums

    def _differentiate_micro_batch(self, images, targets, variables, seed, optimizer):
        smoothing = self.recipe.label_smoothing
        watched = [v.value for v in variables]
        # Only these: nothing is kept, and nothing goes back, below the first layer that is trained.
        tape = tf.GradientTape(watch_accessed_variables=False)
        with self.seeds.seeded(seed), tape:
            tape.watch(watched)
            probabilities = self.model(self.model.preprocessing.normalize(images), training=True)
            losses = keras.losses.categorical_crossentropy(
                targets, probabilities, label_smoothing=smoothing
            )
            if self.class_weights is not None:
                losses *= tf.reduce_sum(targets * self.class_weights, axis=-1)
            loss = tf.reduce_sum(losses) / self.recipe.batch_size
            scaled = optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, watched)
        right = tf.equal(tf.argmax(probabilities, axis=-1), tf.argmax(targets, axis=-1))
        return gradients, [loss, tf.reduce_sum(tf.cast(right, tf.float32))]

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

    def _update(self, gradients, variables, optimizer):
        """Adds L2 regularisation, clips, applies; returns whether the gradients were not finite."""
        recipe, scale = self.recipe, optimizer.scale_loss  # float16's gradients are scaled
        if recipe.weight_decay and not recipe.decoupled:
            decay = scale(tf.constant(recipe.weight_decay))
            gradients = [
                g + decay * v if v.path.endswith("kernel") else g
                for g, v in zip(gradients, variables, strict=True)
            ]
        norm = tf.linalg.global_norm(gradients)
        if recipe.clip_norm:
            limit = scale(tf.constant(recipe.clip_norm))
            gradients, _ = tf.clip_by_global_norm(gradients, limit, use_norm=norm)
        optimizer.apply(gradients, variables)
        if recipe.precision == "mixed_float16":
            return tf.constant(False)  # loss scaling skips the step: nothing went wrong
        return ~tf.math.is_finite(norm)
