"""The arithmetic of one training step, on all replicas."""

import contextlib
from typing import NamedTuple

import keras
import tensorflow as tf

from keras_senet.training.seeds import Draws


class Outcome(NamedTuple):
    """What a step gives, float32: mean loss, right answers, whether it failed, whether a worker is
    to stop.
    """

    loss: tf.Tensor
    correct: tf.Tensor
    failed: tf.Tensor
    stop: tf.Tensor


class Average:
    """The exponential moving average of a model's weights and of its batch normalisation's
    statistics.

    In the first steps the decay is (1 + step) / (10 + step), so that the initial weights do not
    stay in it.
    """

    def __init__(self, model, decay):
        self.decay = decay
        self.current = _floats(model.weights)
        # identity: Keras would take the very variable that it is given for its own
        self.averages = [
            keras.Variable(tf.identity(v.value), trainable=False, name=f"average_{i}")
            for i, v in enumerate(self.current)
        ]

    def update(self, step):
        step = tf.cast(step, tf.float32)
        rate = 1.0 - tf.minimum(self.decay, (1.0 + step) / (10.0 + step))
        for average, value in zip(self.averages, self.current, strict=True):
            average.assign(average + rate * (value - average))

    @contextlib.contextmanager
    def applied(self):
        """Within, the model has the averages for its weights."""
        kept = [value.numpy() for value in self.current]
        self.apply()
        try:
            yield
        finally:
            for value, before in zip(self.current, kept, strict=True):
                value.assign(before)

    def apply(self):
        for value, average in zip(self.current, self.averages, strict=True):
            value.assign(average)


def _floats(variables):
    return [v for v in variables if keras.backend.is_float_dtype(v.dtype)]


class TrainStep:
    """A step of a recipe: `step(images, targets, number, stop=...)` changes the weights and gives
    an `Outcome`.

    Gradients and the statistics of batch normalisation are summed over the replicas in one go. So
    all replicas have equal weights and statistics at every step: evaluation, checkpoints and
    freezing need no care.
    """

    def __init__(self, recipe, model, optimizer, average, strategy):
        self.recipe, self.model, self.optimizer = recipe, model, optimizer
        self.average, self.strategy = average, strategy
        self.replicas = strategy.num_replicas_in_sync
        self.norms = [
            layer
            for layer in model._flatten_layers()
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        inner._all_reduce_sum_gradients = lambda pairs: (
            pairs
        )  # Keras sums behind clipping and decay; done here before
        self.draws = Draws(model)
        self._compiled = tf.function(self._run, autograph=False, jit_compile=recipe.xla or None)

    def __call__(self, images, targets, number, stop=False, frozen=False):
        return Outcome(
            *self._compiled(
                images, targets, tf.constant(number, tf.int64), tf.constant(float(stop)), frozen
            )
        )

    def _run(self, images, targets, number, stop, frozen):
        arguments = (images, targets, number, stop, frozen)
        # Around all replicas, for the tracing: their threads take turns.
        with self._normalization(frozen), self.draws:
            if self.replicas == 1:
                return tf.unstack(self._replica(*arguments))
            outcome = self.strategy.run(self._replica, args=arguments)
        return tf.unstack(self.strategy.experimental_local_results(outcome)[0])

    def _replica(self, images, targets, number, stop, frozen):
        context = tf.distribute.get_replica_context()
        seed = tf.stack([tf.constant(self.recipe.seed, tf.int64), number])
        seed = tf.random.experimental.stateless_fold_in(
            seed, tf.cast(context.replica_id_in_sync_group, tf.int64)
        )
        variables = self.model.trainable_variables
        gradients, figures = self._gradients(images, targets, variables, seed)
        statistics = (
            []
            if frozen
            else [v for norm in self.norms for v in (norm.moving_mean, norm.moving_variance)]
        )
        gradients, figures = self._summed(context, gradients, [*figures, stop], statistics)
        failed = self._update(gradients, variables)
        if self.average is not None:
            self.average.update(number)
        loss, correct, stop = figures
        return tf.stack(
            [loss, correct, tf.cast(failed | ~tf.math.is_finite(loss), tf.float32), stop]
        )

    @contextlib.contextmanager
    def _normalization(self, frozen):
        """Within, batch normalisation is as the recipe has it; the model itself stays what it is."""
        kept = [(norm, norm.synchronized, norm.trainable) for norm in self.norms]
        for norm, _, trainable in kept:
            norm.synchronized, norm.trainable = self.recipe.sync_bn, trainable and not frozen
        try:
            yield
        finally:
            for norm, synchronized, trainable in kept:
                norm.synchronized, norm.trainable = synchronized, trainable

    def _gradients(self, images, targets, variables, seed):
        """The sum over this replica's images of gradient, loss and right answers, part by part."""
        parts = self.recipe.accumulation
        if parts == 1:
            return self._part(images, targets, variables, seed)
        images, targets = (tf.reshape(t, [parts, -1, *t.shape[1:]]) for t in (images, targets))

        def add(i, sums):
            part = self._part(
                images[i], targets[i], variables, tf.random.experimental.stateless_fold_in(seed, i)
            )
            return i + 1, tf.nest.map_structure(tf.add, sums, part)

        zeros = [tf.zeros(v.shape, v.dtype) for v in variables], [tf.zeros(()), tf.zeros(())]
        # one after another: parts at the same time would need the memory that this is to save
        _, sums = tf.while_loop(
            lambda i, _: i < parts, add, (tf.constant(0), zeros), parallel_iterations=1
        )
        return sums

    def _part(self, images, targets, variables, seed):
        smoothing = self.recipe.label_smoothing
        with self.draws.seeded(seed), tf.GradientTape() as tape:
            probabilities = self.model(self.model.preprocessing.normalize(images), training=True)
            losses = keras.losses.categorical_crossentropy(
                targets, probabilities, label_smoothing=smoothing
            )
            loss = tf.reduce_sum(losses) / self.recipe.batch_size
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, [v.value for v in variables])
        right = tf.equal(tf.argmax(probabilities, axis=-1), tf.argmax(targets, axis=-1))
        return gradients, [loss, tf.reduce_sum(tf.cast(right, tf.float32))]

    def _summed(self, context, gradients, figures, statistics):
        """Gradients and figures summed over the replicas; the statistics become the replicas' mean."""
        if self.replicas == 1:
            return gradients, figures
        values = [
            *gradients,
            tf.stack(figures),
            *map(tf.identity, statistics),
        ]  # identity: on a device
        sums = context.all_reduce(tf.distribute.ReduceOp.SUM, values)
        for statistic, total in zip(statistics, sums[len(gradients) + 1 :], strict=True):
            statistic.assign(total / self.replicas)
        return sums[: len(gradients)], tf.unstack(sums[len(gradients)])

    def _update(self, gradients, variables):
        """Adds coupled decay, clips, applies; whether the gradients were not finite."""
        recipe, scale = (
            self.recipe,
            self.optimizer.scale_loss,
        )  # under float16 the gradients are scaled
        if recipe.weight_decay and not recipe.decoupled:
            decay = scale(tf.constant(recipe.weight_decay))
            gradients = [
                g + decay * v if v.path.endswith("kernel") else g
                for g, v in zip(gradients, variables, strict=True)
            ]
        norm = tf.linalg.global_norm(gradients)
        if recipe.clip_norm:
            gradients, _ = tf.clip_by_global_norm(
                gradients, scale(tf.constant(recipe.clip_norm)), use_norm=norm
            )
        self.optimizer.apply(gradients, variables)
        # Loss scaling leaves steps out whose gradients are too large for float16: nothing went
        # wrong there.
        return (
            tf.constant(False) if recipe.precision == "mixed_float16" else ~tf.math.is_finite(norm)
        )
