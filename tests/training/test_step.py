"""One step against the same arithmetic written out, on one replica and on two."""

import contextlib
import ctypes
from types import SimpleNamespace

import keras
import little
import numpy as np
import pytest
import tensorflow as tf
from eager import run_eagerly

import keras_senet
from keras_senet import data, models
from keras_senet.data import Augmentation
from keras_senet.models.shake_shake import ShakeShakeResNet
from keras_senet.training import Recipe, Trainer
from keras_senet.training.average import Average
from keras_senet.training.backends.tensorflow import call_compiled
from keras_senet.training.optimizer import make_schedule

RECIPE = Recipe(
    epochs=2,
    batch_size=16,
    augmentation=Augmentation(flip=True),
    warmup_epochs=0.5,
    weight_decay=0.01,
)


def global_batches(trainer, count):
    """The first batches, whole: images 0..255 float32, targets."""
    return [(x.numpy().astype("float32"), t.numpy()) for x, t in trainer.data.batches(0, count)]


def run(trainer, steps, first=0):
    for number, batch in zip(range(first, steps), trainer._batches(first), strict=False):
        outcome = trainer.step(batch, number)
    return outcome


def class_weights(trainer):
    """N / (K n_c), counted one by one."""
    labels = trainer.train_set.labels.tolist()
    counts = [labels.count(label) for label in range(10)]
    there = [count for count in counts if count]
    weights = [len(labels) / (len(there) * count) if count else 0.0 for count in counts]
    assert sum(weights[label] for label in labels) / len(labels) == pytest.approx(1)
    return np.array(weights, "float32")


def reference_steps(trainer, steps, parts):
    """SGD with momentum; each of `parts` has its own batch statistics."""
    recipe, model = trainer.recipe, keras.models.clone_model(trainer.model)
    model.set_weights(trainer.model.get_weights())
    variables = model.trainable_variables
    velocity = [np.zeros(v.shape, "float32") for v in variables]
    schedule = make_schedule(recipe, trainer.steps_per_epoch)
    for i, (images, targets) in enumerate(global_batches(trainer, steps)):
        weights = targets @ class_weights(trainer) if recipe.class_weights else 1.0
        targets = targets * (1 - recipe.label_smoothing) + recipe.label_smoothing / 10
        with tf.GradientTape() as tape:
            pieces = np.split(images / 127.5 - 1, parts)
            probabilities = tf.concat([model(piece, training=True) for piece in pieces], axis=0)
            losses = -tf.reduce_sum(targets * tf.math.log(probabilities), axis=-1)
            loss = tf.reduce_mean(weights * losses)
        gradients = tape.gradient(loss, [v.value for v in variables])
        gradients = [
            g.numpy() + (recipe.weight_decay * v.numpy() if v.name == "kernel" else 0)
            for v, g in zip(variables, gradients, strict=True)
        ]
        norm = np.sqrt(sum((g**2).sum() for g in gradients))
        clip = min(1.0, recipe.clip_norm / norm) if recipe.clip_norm else 1.0
        for j, (v, g) in enumerate(zip(variables, gradients, strict=True)):
            step = float(schedule(i)) * clip * g
            velocity[j] = recipe.momentum * velocity[j] - step
            v.assign(
                v.numpy()
                + (recipe.momentum * velocity[j] - step if recipe.nesterov else velocity[j])
            )
    return [v.numpy() for v in variables]


@pytest.mark.parametrize(
    ("fields", "strategy", "parts"),
    [
        # Each option by itself and on fewer replicas than below: each row traces a step.
        # Micro-batches on two replicas are among the class weights' rows.
        pytest.param({}, "none", 1, marks=pytest.mark.slow),
        pytest.param({"nesterov": True, "label_smoothing": 0.1}, "none", 1, marks=pytest.mark.slow),
        pytest.param({"clip_norm": 0.1}, "none", 1, marks=pytest.mark.slow),
        pytest.param({"clip_norm": 0.1}, "mirrored", 2, marks=pytest.mark.slow),
        pytest.param({"accumulation": 4}, "none", 4, marks=pytest.mark.slow),
        pytest.param({"sync_bn": True, "clip_norm": 0.1}, "mirrored", 1, marks=pytest.mark.slow),
        ({"nesterov": True, "label_smoothing": 0.1, "clip_norm": 0.1}, "none", 1),
        pytest.param({"accumulation": 2}, "mirrored", 4, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_steps_are_the_arithmetic_of_the_recipe(tmp_path, fields, strategy, parts):
    """With TensorFlow's optimized graphs, as users have them, and as other tests here do not."""
    trainer = Trainer(RECIPE.override(**fields), tmp_path, verbose=False, strategy=strategy)
    expected = reference_steps(trainer, 3, parts)
    with little.optimizing_graphs(True):
        run(trainer, 3)
    assert_trained(trainer, expected)


def assert_trained(trainer, expected):
    """Each replica saw other images; what is saved from one of them must be what all have."""
    for variable, value in zip(trainer.model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(variable.numpy(), value, rtol=2e-4, atol=2e-6)
    for variable in trainer.model.non_trainable_variables:
        copies = trainer.devices.strategy.experimental_local_results(variable.value)
        assert len(copies) == trainer.devices.replicas
        for copy in copies:
            np.testing.assert_array_equal(copy.numpy(), copies[0].numpy())


def all_before(operation):
    """The names of all operations that one waits for."""
    names, found = set(), [operation]
    while found:
        operation = found.pop()
        before = [*(tensor.op for tensor in operation.inputs), *operation.control_inputs]
        found += [each for each in before if each.name not in names]
        names.update(each.name for each in before)
    return names


def test_weights_are_updated_after_the_last_gradient_one_by_one(tmp_path):
    """What an update needs in memory, several times its variable, is then not added to what the
    backward pass needs, nor to what the other updates do.
    """
    trainer = Trainer(RECIPE, tmp_path, verbose=False)
    batch, scalars = next(iter(trainer._batches(0))), (tf.constant(0, tf.int64), tf.constant(0.0))
    graph = trainer.step._compiled.get_concrete_function(batch, *scalars, 0).graph
    operations = graph.get_operations()
    kernels = {op.name for op in operations if op.type == "Conv2DBackpropFilter"}
    waited_for = {op: all_before(op) for op in operations if op.type.startswith("Assign")}
    updates = {op: names for op, names in waited_for.items() if names & kernels}
    assert all(kernels <= names for names in updates.values())
    of_floats = {op.name: updates[op] for op in updates if op.get_attr("dtype") == tf.float32}
    assert len(of_floats) == 2 * len(trainer.model.trainable_variables)  # and their momentum
    before = sorted(len(names & of_floats.keys()) for names in of_floats.values())
    assert before == list(range(len(of_floats)))


def test_what_compiling_left_is_given_back(monkeypatch):
    trimmed = []
    library = SimpleNamespace(malloc_trim=trimmed.append)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    function = tf.function(lambda x: x + 1)
    assert [int(call_compiled(function, tf.constant(i))) for i in range(3)] == [1, 2, 3]
    assert trimmed == [0]
    assert float(call_compiled(function, tf.constant(2.5))) == 3.5
    assert trimmed == [0, 0]
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())  # another C library
    assert call_compiled(function, tf.constant([1])).numpy().tolist() == [2]


@pytest.fixture
def unequal(monkeypatch):
    """Classes of very different sizes, and one without images."""
    digits = data.DATASETS["digits"]

    def load(split):
        images = digits(split).images
        labels = np.minimum(np.arange(len(images)) // 4, 8) if split == "train" else 0
        return data.Dataset(images, np.full(len(images), labels), tuple("0123456789"))

    monkeypatch.setitem(data.DATASETS, "digits", load)


@pytest.mark.parametrize(
    ("fields", "strategy", "parts"),
    [
        ({"label_smoothing": 0.1, "mixup": 0.4}, "none", 1),
        ({"accumulation": 2, "cutmix": 1.0, "mixup": 0.4}, "mirrored", 4),
    ],
    ids=str,
)
def test_class_weights_are_those_of_their_formula(tmp_path, unequal, fields, strategy, parts):
    """The same steps, and the loss of a step in float64 by NumPy; predictions are counted as
    before. 5 s on two replicas, whose loops are traced for long; on one the step runs eagerly.
    """
    recipe = RECIPE.override(class_weights=True, **fields)
    trainer = Trainer(recipe, tmp_path, verbose=False, strategy=strategy)
    expected = reference_steps(trainer, 3, parts)
    (images, targets), model = global_batches(trainer, 1)[0], trainer.model
    pieces = [model(piece, training=True).numpy() for piece in np.split(images / 127.5 - 1, parts)]
    probabilities = np.concatenate(pieces).astype("float64")
    smooth = targets * (1 - recipe.label_smoothing) + recipe.label_smoothing / 10
    losses = -(smooth * np.log(probabilities)).sum(-1) * (targets @ class_weights(trainer))
    correct = (probabilities.argmax(-1) == targets.argmax(-1)).sum()
    with run_eagerly() if strategy == "none" else contextlib.nullcontext():
        first = run(trainer, 1)
        run(trainer, 3, first=1)
    assert float(first.loss) == pytest.approx(losses.mean(), rel=1e-5)
    assert float(first.figures["correct"]) == correct
    assert_trained(trainer, expected)


def test_two_replicas_with_half_the_batch_are_one(tmp_path, unequal):
    """With synchronised batch normalisation, weights and statistics agree to 1e-5 after 3 steps."""
    recipe = RECIPE.override(sync_bn=True, ema=0.5, clip_norm=0.1, class_weights=True)
    one, two = (
        Trainer(recipe, tmp_path / strategy, verbose=False, strategy=strategy)
        for strategy in ("none", "mirrored")
    )
    with run_eagerly():  # of both, two replicas take long to trace
        outcomes = [run(one, 3)]
    outcomes.append(run(two, 3))
    assert float(outcomes[0].loss) == pytest.approx(float(outcomes[1].loss), rel=1e-5)
    assert float(outcomes[0].figures["correct"]) == float(outcomes[1].figures["correct"])
    pairs = [
        *zip(one.model.weights, two.model.weights, strict=True),
        *zip(*(t.average.averages for t in (one, two)), strict=True),
    ]
    for a, b in pairs:
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-5)


def test_frozen_batch_normalisation_stays_as_it_is(tmp_path):
    trainer = Trainer(RECIPE.override(frozen_bn_epochs=1), tmp_path, verbose=False, max_steps=5)
    trainer.train()
    layers = [
        layer
        for layer in trainer.model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    before = [layer.get_weights() for layer in layers]
    first_kernel = trainer.model.get_weights()[0].copy()
    trainer.last = trainer.steps
    trainer.train()
    for layer, expected in zip(layers, before, strict=True):
        assert layer.trainable
        for value, same in zip(layer.get_weights(), expected, strict=True):
            np.testing.assert_array_equal(value, same)
    assert not np.array_equal(trainer.model.get_weights()[0], first_kernel)


def test_the_average_is_that_of_its_formula():
    model = keras.Sequential([keras.layers.Dense(1, use_bias=False)])
    model.build((None, 1))
    (kernel,) = model.weights
    kernel.assign([[1.0]])
    average, expected = Average(model, 0.5), 1.0
    for step in range(20):
        kernel.assign([[float(step)]])
        average.update(tf.constant(step, tf.int64))
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    with average.applied():
        assert float(kernel[0, 0]) == pytest.approx(expected, rel=1e-6)
    assert float(kernel[0, 0]) == 19.0


@pytest.fixture
def shaken(monkeypatch):
    """A network whose layers draw random numbers."""
    spec = ShakeShakeResNet((1, 1), width=16)
    shake = keras_senet.application(spec, name="shake", input_size=8, min_size=8, classes=10)
    monkeypatch.setattr(models, "get", lambda name: shake)


def test_random_layers_follow_seed_step_and_replica(tmp_path, shaken, monkeypatch):
    """The same step again has the same loss; another step, seed or replica does not.

    5 s: a step of Shake-Shake is traced for two replicas.
    """
    recipe = RECIPE.override(learning_rate=1e-30, weight_decay=0.0, flip=False)

    def losses(strategy, seed, numbers):
        trainer = Trainer(
            recipe.override(seed=seed),
            tmp_path / f"{strategy}{seed}",
            verbose=False,
            strategy=strategy,
        )
        trainer.model.set_weights(trainer.model.get_weights() if seed == 0 else first)
        batch = next(iter(trainer._batches(0)))
        return trainer.model.get_weights(), [float(trainer.step(batch, n).loss) for n in numbers]

    with run_eagerly():
        first, (a, again, other) = losses("none", 0, (3, 3, 4))
    assert a == again != other
    halves = data.Dataset(
        np.tile(np.arange(48, dtype="uint8").reshape(1, 4, 4, 3), (80, 2, 2, 1)),
        np.zeros(80, "int64"),
        tuple("0123456789"),
    )
    monkeypatch.setattr(data, "load", lambda *args, **kwargs: halves)
    seen = []
    trainer = Trainer(recipe, tmp_path / "two", verbose=False, strategy="mirrored")
    original = trainer.step._differentiate_micro_batch

    def part(*args):
        gradients, figures = original(*args)
        seen.append(1)
        return gradients, [
            figures[0] * float(2 * len(seen) - 3),
            figures[1],
        ]  # the difference of two replicas

    monkeypatch.setattr(trainer.step, "_differentiate_micro_batch", part)
    outcome = trainer.step(next(iter(trainer._batches(0))), 0)
    assert len(seen) == 2
    assert abs(float(outcome.loss)) > 1e-6  # the same images on both: only the masks differ


@run_eagerly()
def test_the_generators_of_keras_are_restored(tmp_path, shaken):
    trainer = Trainer(RECIPE, tmp_path, verbose=False)
    run(trainer, 1)
    assert trainer.step.seeds.generators
    for generator in trainer.step.seeds.generators:
        assert "next" not in vars(generator)
        assert generator.next().shape == (2,)
