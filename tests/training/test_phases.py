"""Fine-tuning by its phases: against the same arithmetic written out with Keras' own optimizers, to
the last bit where nothing may change, and after a kill in each phase.
"""

import contextlib
import dataclasses
import math
import re
import shutil

import keras
import little
import numpy as np
import pytest
import tensorflow as tf
from eager import run_eagerly
from little import assert_equal_weights, do_after, keep_after, kill, train

import keras_senet
from keras_senet.data import Augmentation
from keras_senet.graphs import stages_of
from keras_senet.layers.shake_shake import ShakeShake
from keras_senet.training import Recipe, Trainer
from keras_senet.training.fit import FitTrainer

# An epoch is five steps.
RECIPE = Recipe(
    weights="is given by each test",
    epochs=3,
    batch_size=16,
    augmentation=Augmentation(flip=True),
    weight_decay=0.01,
    learning_rate=0.05,
    warmup_epochs=1.0,
    head_epochs=1,
    head_rate=4.0,
    layer_decay=0.5,
    freeze=(0, 1),
)
# From the image to the classes, and what stands for each in the names of layers
GROUPS = ("stem", "stage1", "stage2", "predictions")
BODY, FROZEN = GROUPS[:3], GROUPS[:2]
NETWORK = little.TWO_STAGES


@pytest.fixture(autouse=True)
def two_stages(little_data_and_network, monkeypatch):
    """One is frozen, but where the rates of both are to differ: there only the stem is."""
    monkeypatch.setattr(little, "NETWORK", NETWORK)


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Weights of the network, for seven classes: the head is new."""
    model = NETWORK(weights=None, classes=7)
    random = np.random.default_rng(3)
    for variable in model.weights:
        value = random.uniform(0.5, 1.5, variable.shape)
        is_scale = variable.name in ("gamma", "moving_variance")
        variable.assign(value if is_scale else 0.3 * (value - 1))
    path = tmp_path_factory.mktemp("weights") / "seven.weights.h5"
    keras_senet.save_weights(model, path)
    return str(path)


def group_of(variable):
    return variable.path.split("/")[-2].split("_")[0]


def in_group(model, *groups):
    return {v.path: v.numpy() for v in model.weights if group_of(v) in groups}


def assert_same(model, expected):
    now = {v.path: v.numpy() for v in model.weights}
    assert expected
    for path, value in expected.items():
        np.testing.assert_array_equal(now[path], value, err_msg=path)


def run(trainer, first, last):
    for number, batch in zip(range(first, last), trainer._batches(first), strict=False):
        outcome = trainer.step(batch, number)
    return outcome


def plain_optimizer(recipe):
    decay = recipe.weight_decay if recipe.decoupled else None
    cls = {
        "sgd": lambda: keras.optimizers.SGD(momentum=recipe.momentum, weight_decay=decay),
        "adamw": lambda: keras.optimizers.AdamW(weight_decay=decay),
        "lamb": lambda: keras.optimizers.Lamb(weight_decay=decay),
    }
    optimizer = cls[recipe.optimizer]()
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def rate(recipe, number):
    """One epoch of the head, one of warm-up, one of a cosine; in steps of five an epoch."""
    if number < 5:
        return recipe.learning_rate
    if number < 10:
        return recipe.learning_rate * (number - 4) / 5
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (number - 10) / 5))


def reference_steps(trainer, steps):
    """One optimizer of Keras' for each group of layers and phase, with its own rate."""
    recipe, model = trainer.recipe, keras.models.clone_model(trainer.model)
    model.set_weights(trainer.model.get_weights())
    factors = dict(zip(GROUPS, (0.25, 0.5, 1.0, 4.0), strict=True))
    frozen = {True: BODY, False: ("stem",)}
    batches = trainer.data.batches(0, steps)
    for number, (images, targets) in enumerate(batches):
        is_head = number < 5
        if number in (0, 5):
            optimizers = {group: plain_optimizer(recipe) for group in GROUPS}
            for layer in model.layers:
                layer.trainable = layer.name.split("_")[0] not in frozen[is_head]
        variables = model.trainable_variables
        with tf.GradientTape() as tape:
            predicted = model(tf.cast(images, "float32") / 127.5 - 1, training=True)
            loss = keras.losses.categorical_crossentropy(targets, predicted)
            loss = tf.reduce_mean(loss)
        gradients = tape.gradient(loss, [v.value for v in variables])
        if not recipe.decoupled:
            gradients = [
                g + recipe.weight_decay * v if v.name == "kernel" else g
                for g, v in zip(gradients, variables, strict=True)
            ]
        if recipe.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, recipe.clip_norm)
        for group, optimizer in optimizers.items():
            pairs = [p for p in zip(gradients, variables, strict=True) if group_of(p[1]) == group]
            if pairs:
                optimizer.learning_rate = rate(recipe, number) * factors[group]
                optimizer.apply(*zip(*pairs, strict=True))
    return model


@pytest.mark.parametrize(
    "fields",
    [
        {"clip_norm": 0.1},  # the others are trained eagerly: each traces two phases
        {"optimizer": "adamw", "decoupled": True},
        pytest.param(
            {"optimizer": "lamb", "decoupled": True, "clip_norm": 1.0}, marks=pytest.mark.slow
        ),
        pytest.param({"decoupled": True}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_phases_are_the_arithmetic_of_the_recipe(tmp_path, weights, fields):
    recipe = RECIPE.override(weights=weights, freeze=(0,), **fields)
    trainer = Trainer(recipe, tmp_path, verbose=False, strategy="none")
    expected = reference_steps(trainer, 8)
    with run_eagerly() if recipe.decoupled else contextlib.nullcontext():
        run(trainer, 0, 8)
    moved = 0
    # AdamW divides a gradient by its size, and so the rounding of one that is nearly 0 too.
    atol = 2e-4 if recipe.optimizer == "adamw" else 2e-6
    for variable, value in zip(trainer.model.weights, expected.weights, strict=True):
        np.testing.assert_allclose(
            variable.numpy(), value.numpy(), rtol=2e-4, atol=atol, err_msg=variable.path
        )
        moved += group_of(variable) == "stage1"
    assert moved


@pytest.mark.parametrize(
    ("fields", "strategy"),
    [
        ({"ema": 0.5, "accumulation": 2, "optimizer": "adamw", "decoupled": True}, "none"),
        ({"ema": 0.5, "sync_bn": True}, "mirrored"),
        pytest.param(
            {"precision": "mixed_float16", "clip_norm": 1.0}, "none", marks=pytest.mark.slow
        ),
        pytest.param(
            {"optimizer": "lamb", "decoupled": True, "precision": "mixed_bfloat16"},
            "mirrored",
            marks=pytest.mark.slow,
        ),
    ],
    ids=str,
)
def test_what_is_frozen_stays_to_the_last_bit(tmp_path, weights, fields, strategy):
    """In the first phase all but the head, in the second the frozen stages: weights, statistics,
    and their averages. 5 s for two replicas: each phase is traced for both.
    """
    recipe = RECIPE.override(weights=weights, **fields)
    trainer = Trainer(recipe, tmp_path, verbose=False, strategy=strategy)
    model = trainer.model
    body, head = in_group(model, *BODY), in_group(model, "predictions")
    run(trainer, 0, 5)
    assert_same(model, body)
    assert all(not np.array_equal(v.numpy(), head[v.path]) for v in model.weights[-2:])
    run(trainer, 5, 7)
    frozen = in_group(model, *FROZEN)
    assert all(np.array_equal(body[path], value) for path, value in frozen.items())
    changed = in_group(model, "stage2")
    assert all(not np.array_equal(body[path], value) for path, value in changed.items())
    if recipe.ema:
        with trainer.average.applied():
            assert_same(model, frozen)
    assert all(layer.trainable for layer in model.layers)


@pytest.mark.slow
def test_two_replicas_are_one(tmp_path, weights):
    """Four traces. That they are one in a step is in test_step.py, and that both stay frozen
    above.
    """
    recipe = RECIPE.override(weights=weights, sync_bn=True, ema=0.5)
    one, two = (
        Trainer(recipe, tmp_path / strategy, verbose=False, strategy=strategy)
        for strategy in ("none", "mirrored")
    )
    for trainer in (one, two):
        run(trainer, 0, 8)
    pairs = [
        *zip(one.model.weights, two.model.weights, strict=True),
        *zip(*(t.average.averages for t in (one, two)), strict=True),
    ]
    for a, b in pairs:
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "strategy"),
    [({"accumulation": 2}, "none"), ({"sync_bn": True, "precision": "mixed_float16"}, "mirrored")],
    ids=str,
)
@pytest.mark.slow
def test_a_run_that_is_killed_in_each_phase_ends_with_the_same_weights(
    tmp_path, monkeypatch, weights, fields, strategy
):
    """The third phase is without batch normalisation; the processes do 4 steps of the run, 3 + 4
    and 6 + 7. Nine traces.
    """
    recipe = RECIPE.override(weights=weights, frozen_bn_epochs=1, **fields)
    whole = train(tmp_path / "whole", recipe, strategy=strategy)
    for step in (4, 4, 7):
        with monkeypatch.context() as patch:
            do_after(patch, step, kill)
            with pytest.raises(SystemError):
                train(tmp_path / "killed", recipe, strategy=strategy, checkpoint_steps=3)
    continued = train(tmp_path / "killed", recipe, strategy=strategy)
    assert_equal_weights(continued, whole)
    assert continued.workdir.metrics.read() == whole.workdir.metrics.read()


@run_eagerly()
def test_a_killed_run_ends_with_the_same_weights(tmp_path, monkeypatch, weights):
    """Killed in the head's phase, a step after a checkpoint, from which it goes on into the next
    phase; and between both, as the last checkpoint is that of the head's last step. The file of the
    weights is gone by then. Over 5 s on a slow machine: three runs.
    """
    copy = tmp_path / "copy.weights.h5"
    shutil.copy(weights, copy)
    recipe = RECIPE.override(
        weights=str(copy), frozen_bn_epochs=1, optimizer="adamw", decoupled=True, ema=0.9
    )
    with monkeypatch.context() as patch:
        for step in (4, 6):
            keep_after(patch, step, tmp_path / "whole", tmp_path / str(step))
        whole = train(tmp_path / "whole", recipe, max_steps=8, checkpoint_steps=3)
    copy.unlink()
    for step, began_at in ((4, 3), (6, 5)):
        continued = train(tmp_path / str(step), recipe, max_steps=8)
        assert continued.began_at == began_at
        assert_equal_weights(continued, whole)
        assert continued.workdir.metrics.read() == whole.workdir.metrics.read()
    rates = [row["learning_rate"] for row in whole.workdir.metrics.read()]
    assert rates == [pytest.approx(0.05)]


def test_a_frozen_layer_draws_no_random_numbers():
    shake = ShakeShake()
    shake.trainable = False
    a, b = np.ones((2, 1, 1, 1), "float32"), np.zeros((2, 1, 1, 1), "float32")
    np.testing.assert_array_equal(shake([a, b], training=True), 0.5 * (a + b))


@pytest.mark.parametrize("engine", [Trainer, FitTrainer])
@run_eagerly()
def test_both_engines_freeze_and_scale_rates(tmp_path, weights, engine):
    """One step of SGD without momentum is the rate times the gradient: its size shows the rate."""
    fields = {"head_epochs": 0, "momentum": 0.0, "weight_decay": 0.0, "warmup_epochs": 0.0}
    recipe = RECIPE.override(weights=weights, schedule="constant", freeze=(0,), **fields)
    moved = {}
    for factor in (1.0, 0.5):
        changed = dataclasses.replace(recipe, head_rate=factor, layer_decay=factor)
        trainer = engine(changed, tmp_path / str(factor), verbose=False, max_steps=1)
        before = {v.path: v.numpy() for v in trainer.model.trainable_variables}
        before |= in_group(trainer.model, "stem")
        trainer.train()
        moved[factor] = {
            v.path: v.numpy() - before[v.path] for v in trainer.model.weights if v.path in before
        }
    saved = keras.models.load_model(tmp_path / "1.0" / "model.keras")
    assert all(layer.trainable for layer in saved.layers)  # of the next training, too
    expected = {"stem": 0.0, "stage1": 0.5, "stage2": 1.0, "predictions": 0.5}
    for path, change in moved[1.0].items():
        factor = expected[re.split("[_/]", path)[0]]
        np.testing.assert_allclose(moved[0.5][path], factor * change, rtol=1e-3, atol=1e-6)
        assert (factor == 0) == (not change.any()), path


def test_stages_are_those_of_the_names():
    model = NETWORK(weights=None)
    by_name = {layer.name: stage for layer, stage in stages_of(model).items()}
    assert by_name["stem_conv1"] == 0
    assert by_name["stage2_block1_se"] == 2
    assert by_name["predictions"] is None


@run_eagerly()
def test_keras_loop_trains_the_head_first_and_goes_on_after_it(tmp_path, weights, monkeypatch):
    """Continued from the backup at the end of the head's epoch, where an uninterrupted run begins
    with another optimizer. Over 5 s on a slow machine: two runs of Keras' loop.
    """
    recipe = RECIPE.override(weights=weights, epochs=2, ema=0.5, warmup_epochs=0.0)
    end_epoch, after_head = FitTrainer.end_epoch, []

    def end_epoch_and_copy(trainer, epoch, logs):
        end_epoch(trainer, epoch, logs)
        if epoch == 1:
            after_head.append(in_group(trainer.model, *BODY))
            ignored = shutil.ignore_patterns(".lock")
            shutil.copytree(trainer.workdir.path, tmp_path / "part", ignore=ignored)

    with monkeypatch.context() as patch:
        patch.setattr(FitTrainer, "end_epoch", end_epoch_and_copy)
        whole = FitTrainer(recipe, tmp_path / "whole", verbose=False)
        body = in_group(whole.model, *BODY)
        whole.train()
    for path, value in body.items():
        np.testing.assert_array_equal(after_head[0][path], value, err_msg=path)
    continued = FitTrainer(recipe, tmp_path / "part", verbose=False)
    continued.train()
    assert continued.began_at == 5
    assert_same(whole.model, {p: v for p, v in body.items() if p.startswith(FROZEN)})
    trained = in_group(whole.model, "stage2")
    assert all(not np.array_equal(body[path], value) for path, value in trained.items())
    for a, b in zip(continued.model.weights, whole.model.weights, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6, err_msg=a.path)
    assert [row["epoch"] for row in continued.workdir.metrics.read()] == [1, 2]
