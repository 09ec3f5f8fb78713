"""Recipes: what they accept, how they are changed, and the named ones."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from keras_senet import models
from keras_senet.data import Augmentation
from keras_senet.recipes import RECIPES, VARIANTS, Recipe
from keras_senet.recipes.se_text import read_se, write_se
from keras_senet.runs.record import read_recipe
from keras_senet.se import SE
from keras_senet.training.network import spec_of

RECIPE = Recipe(epochs=2, batch_size=16)
RESULTS = Path(__file__).parents[2] / "results" / "ablation"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "SEResNet51"}, "SEResNet51"),
        ({"model": "SEResNet32", "depths": (1, 1)}, "each of its 3 stages.*depths=\\(1, 1\\)"),
        ({"model": "SEResNet32", "depths": (1, 0, 1)}, "depths=\\(1, 0, 1\\)"),
        ({"model": "SEMobileNet", "depths": (1,)}, "must be empty for SEMobileNet"),
        ({"se": "none"}, "of type SE or None.*se='none'"),
        ({"dataset": ""}, "dataset=''"),
        ({"optimizer": "rmsprop"}, "optimizer='rmsprop'"),
        ({"schedule": "steps"}, "schedule='steps'"),
        ({"warmup": "none"}, "warmup='none'"),
        ({"normalization": "std"}, "normalization='std'"),
        ({"precision": "float8"}, "precision='float8'"),
        ({"epochs": 0}, "epochs=0"),
        ({"batch_size": 1.5}, "batch_size=1.5"),
        ({"accumulation": 0}, "accumulation=0"),
        ({"seed": -1}, "seed=-1"),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"learning_rate": float("nan")}, "finite and above 0.*learning_rate=nan"),
        ({"decay": float("inf")}, "finite and above 0.*decay=inf"),
        ({"depths": (1, 1, 10**9)}, "or 1 to 1000 for each of its 3 stages"),
        ({"depths": (1.5, 1, 1)}, "of type tuple of integers"),
        ({"weight_decay": -1.0}, "weight_decay=-1.0"),
        ({"momentum": 1.0}, "momentum=1.0"),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0"),
        ({"ema": 1.0}, "ema=1.0"),
        ({"clip_norm": -1.0}, "clip_norm=-1.0"),
        ({"warmup_epochs": float("inf")}, "finite and at least 0.*warmup_epochs=inf"),
        ({"warmup_epochs": 3.0}, "from 0 to epochs=2.*warmup_epochs=3.0"),
        ({"frozen_bn_epochs": 3}, "from 0 to epochs=2.*frozen_bn_epochs=3"),
        ({"milestones": (2.0,)}, "below epochs=2.*milestones="),
        ({"milestones": (1.5, 1.0)}, "rising.*milestones="),
        ({"milestones": [1.0]}, "tuple of numbers.*milestones="),
        ({"sync_bn": True, "accumulation": 2}, "accumulation=2"),
        ({"class_weights": True, "class_balanced": True}, "False with class_balanced=True.*True"),
        ({"validation_fraction": 0.0}, "above 0 and below 1.*validation_fraction=0.0"),
        ({"validation_fraction": 1.0}, "above 0 and below 1.*validation_fraction=1.0"),
        ({"epochs": True}, "epochs=True"),
        ({"learning_rate": "0.1"}, "learning_rate='0.1'"),
        ({"flip": "no"}, "flip='no'"),
        ({"mixup": -0.1}, "mixup=-0.1"),
    ],
    ids=str,
)
def test_a_wrong_field_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        RECIPE.override(**fields)


def test_the_augmentation_is_one():
    with pytest.raises(ValueError, match="of type Augmentation.*augmentation=None"):
        Recipe(augmentation=None)


def test_with_fewer_epochs_the_first_ones_are_fewer_too():
    recipe = RECIPES["finetune"]
    assert recipe.head_epochs == 2
    short = recipe.override(epochs=1)
    assert (short.head_epochs, short.warmup_epochs) == (1, 1.0)
    with pytest.raises(ValueError, match="from 0 to epochs=1. Received: head_epochs=2"):
        recipe.override(epochs=1, head_epochs=2)


def test_override_reaches_the_augmentation_and_forgets_the_result():
    recipe = dataclasses.replace(RECIPE, result="99%")
    changed = recipe.override(flip=True, epochs=3)
    assert (changed.augmentation, changed.epochs, changed.result) == (
        Augmentation(flip=True),
        3,
        "not run",
    )
    assert recipe.override(epochs=2).result == "99%"
    assert changed.flat()["flip"] is True
    assert "augmentation" not in changed.flat()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("default", SE()),
        ("none", None),
        ("reduction=8", SE(reduction=8)),
        ("squeeze=none,gate=tanh,use_bias=False", SE(16, None, "tanh", use_bias=False)),
        ("position=pre,stages=2+3", SE(position="pre", stages=(2, 3))),
    ],
)
def test_se_blocks_are_read_from_text_and_written_as_it(text, expected):
    assert read_se(text) == expected
    assert write_se(expected) == text
    assert read_se(text.replace("None", "none").replace(",", " , ")) == expected


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "''"),
        ("reduction", "'reduction'"),
        ("ratio=3", "'ratio=3'"),
        ("gate=step", "gate='step'"),
        ("use_bias=false", "use_bias='false'"),
        ("stages=2+x", "stages=2+x"),
    ],
)
def test_a_wrong_text_of_se_blocks_is_named(text, named):
    with pytest.raises(ValueError, match=re.escape(f"Received: {named}")):
        read_se(text)


def test_depths_and_se_blocks_are_those_of_the_spec():
    spec = spec_of(Recipe(model="SEResNet32", depths=(1, 2, 1), se=SE(reduction=4)))
    assert spec == dataclasses.replace(models.SEResNet32.spec, depths=(1, 2, 1), se=SE(reduction=4))
    assert spec_of(Recipe(model="SEMobileNet")) == models.SEMobileNet.spec


VARIED = [Recipe(se=None), Recipe(se=SE(8, None, stages=(2, 3)), milestones=(1.0, 2.0))]


@pytest.mark.parametrize("recipe", [*RECIPES.values(), *VARIED], ids=[*RECIPES, "plain", "se"])
def test_a_recipe_is_the_same_when_it_was_written_as_json(recipe):
    again = Recipe.from_json(json.loads(json.dumps(dataclasses.asdict(recipe))))
    assert again == recipe
    assert dataclasses.asdict(again) == dataclasses.asdict(recipe)


@pytest.mark.parametrize("name", RECIPES)
def test_named_recipes_say_where_they_are_from(name):
    recipe = RECIPES[name]
    assert recipe.source
    assert recipe.result == "not run" or any(digit in recipe.result for digit in "0123456789")
    assert models.get(recipe.model)


def test_the_papers_numbers():
    """Section 5 and the appendix of the paper, in rows of (batch, rate, epochs, decay)."""
    rows = {
        "imagenet": (1024, 0.6, 100, 1e-4),
        "imagenet-authors": (256, 0.1, 100, 1e-4),
        "imagenet-ablation": (256, 0.1, 270, 1e-4),
        "imagenet-mobile": (256, 0.1, 400, 4e-5),
        "senet154": (2048, 1.0, 100, 1e-4),
        "cifar10-wide": (128, 0.1, 200, 5e-4),
        "cifar10-shake": (128, 0.2, 1800, 1e-4),
        "cifar100-shake": (32, 0.025, 1800, 5e-4),
    }
    for name, row in rows.items():
        recipe = RECIPES[name]
        assert (
            recipe.batch_size,
            recipe.learning_rate,
            recipe.epochs,
            recipe.weight_decay,
        ) == row, name


@pytest.mark.parametrize(
    "workdir", sorted(RESULTS.glob("*/seed*")), ids=lambda path: path.parent.name
)
def test_recipes_that_earlier_versions_wrote_are_read(workdir):
    """Their SE blocks are a text; the folder has the variant's name."""
    assert read_recipe(workdir).se == VARIANTS[workdir.parent.name].se
