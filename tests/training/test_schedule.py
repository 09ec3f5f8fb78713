"""The learning rate, step by step, against the formulas."""

import dataclasses
import math

import keras
import numpy as np
import pytest

from keras_senet.runs.history import Segment
from keras_senet.training import RECIPES, Recipe
from keras_senet.training.optimizer import Schedule, make_optimizer, make_schedule
from keras_senet.training.phases import make_rates

RECIPE = Recipe(epochs=4, learning_rate=2.0)


def rates(steps_per_epoch=10, **fields):
    recipe = dataclasses.replace(RECIPE, **fields)
    schedule = make_schedule(recipe, steps_per_epoch)
    return [float(schedule(i)) for i in range(recipe.epochs * steps_per_epoch)]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"schedule": "constant"}, [2.0] * 40),
        ({"schedule": "linear"}, [2 - i / 20 for i in range(40)]),
        ({"schedule": "cosine"}, [1 + math.cos(math.pi * i / 40) for i in range(40)]),
        (
            {"schedule": "cosine", "warmup_epochs": 1.0},
            [(i + 1) / 5 for i in range(10)] + [1 + math.cos(math.pi * i / 30) for i in range(30)],
        ),
        ({"schedule": "step", "milestones": (1.0, 3.0)}, [2.0] * 10 + [0.2] * 20 + [0.02] * 10),
        ({"schedule": "step", "milestones": (2.0,), "decay": 0.5}, [2.0] * 20 + [1.0] * 20),
        (
            {
                "schedule": "constant",
                "warmup": "constant",
                "warmup_epochs": 0.5,
                "warmup_rate": 0.1,
            },
            [0.1] * 5 + [2.0] * 35,
        ),
        (
            {"schedule": "constant", "warmup_epochs": 0.5, "warmup_rate": 1.0},
            [1.2, 1.4, 1.6, 1.8, 2.0] + [2.0] * 35,
        ),
    ],
    ids=str,
)
def test_rates(fields, expected):
    np.testing.assert_allclose(rates(**fields), expected, rtol=1e-5, atol=1e-6)


def test_the_cifar_protocol_has_the_steps_of_its_paper():
    """He et al. 2016: 0.01 for 400 steps, then 0.1, divided by 10 at 32,000 and 48,000."""
    schedule = make_schedule(RECIPES["cifar10"], 390)
    found = {
        i: round(float(schedule(i)), 6)
        for i in (0, 399, 400, 31_999, 32_000, 47_999, 48_000, 63_959)
    }
    assert found == {
        0: 0.01,
        399: 0.01,
        400: 0.1,
        31_999: 0.1,
        32_000: 0.01,
        47_999: 0.01,
        48_000: 0.001,
        63_959: 0.001,
    }


@pytest.mark.parametrize("name", ["sgd", "adamw"])  # Keras 3.15 does not find its own Lamb again
def test_an_optimizer_can_be_saved(name):
    recipe = dataclasses.replace(RECIPE, optimizer=name, decoupled=name != "sgd")
    optimizer = make_optimizer(recipe, make_schedule(recipe, 10))
    restored = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert restored.get_config() == optimizer.get_config()


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb"])
def test_an_optimizer_without_decoupled_decay(name):
    recipe = dataclasses.replace(RECIPE, optimizer=name, decoupled=False)
    optimizer = make_optimizer(recipe, make_schedule(recipe, 10))
    assert not optimizer.weight_decay


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb"])
def test_decoupled_decay_spares_all_but_kernels(name):
    layer = keras.Sequential([keras.layers.Dense(3), keras.layers.BatchNormalization()])
    layer.build((None, 2))
    recipe = dataclasses.replace(
        RECIPE,
        optimizer=name,
        decoupled=True,
        weight_decay=0.1,
        schedule="constant",
        learning_rate=0.5,
    )
    optimizer = make_optimizer(recipe, make_schedule(recipe, 10))
    for variable in layer.trainable_variables:
        variable.assign(keras.ops.ones_like(variable))
    optimizer.apply(
        [keras.ops.zeros_like(v) for v in layer.trainable_variables], layer.trainable_variables
    )
    found = {v.name: float(keras.ops.mean(v)) for v in layer.trainable_variables}
    assert found == pytest.approx({"kernel": 0.95, "bias": 1.0, "gamma": 1.0, "beta": 1.0})


def test_rates_of_an_extended_run_by_the_formulas():
    """4 epochs of 10 steps, then a restart to 7 with another rate, a warm-up and milestones, and an
    extension of that to 9; as Keras saves and loads them, too.
    """
    first = dataclasses.replace(RECIPE, schedule="linear")
    again = dataclasses.replace(
        RECIPE, epochs=7, schedule="step", milestones=(2.0,), learning_rate=1.0, warmup_epochs=0.5
    )
    segments = [
        Segment(first),
        Segment(again, 4, 4),
        Segment(dataclasses.replace(again, epochs=9), 7, 4),
    ]
    expected = [2 - i / 20 for i in range(40)]
    expected += [0.2, 0.4, 0.6, 0.8, 1.0] + [1.0] * 15 + [0.1] * 30
    chain = make_rates(segments, 10)
    loaded = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(chain))
    for schedule in (chain, loaded):
        np.testing.assert_allclose([float(schedule(i)) for i in range(90)], expected, rtol=1e-5)
    assert isinstance(make_rates(segments[:1], 10), Schedule)
