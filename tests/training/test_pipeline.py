"""Which pipeline makes the batches of a run."""

import json

import numpy as np
import pytest

from keras_senet import data
from keras_senet.recipes import RECIPES, Recipe
from keras_senet.runs.record import read_pipeline
from keras_senet.runs.workdir import WorkDir
from keras_senet.training.inputs import resolve_pipeline

IMAGES = data.Dataset(np.zeros((4, 8, 8, 3), "uint8"), np.arange(4) % 2, ("a", "b"))
BOTH, ONE = ("device", "tf.data"), ("tf.data",)


@pytest.mark.parametrize(
    ("fields", "begun", "pipelines", "expected"),
    [
        ({}, None, BOTH, "device"),
        ({}, None, ONE, "tf.data"),
        ({}, "tf.data", BOTH, "tf.data"),
        ({}, "device", BOTH, "device"),
        ({"pipeline": "tf.data"}, None, BOTH, "tf.data"),
        ({"pipeline": "device"}, None, BOTH, "device"),
        ({"pipeline": "tf.data"}, "device", BOTH, "tf.data"),  # which `WorkDir` refuses
        ({"pipeline": "device"}, "tf.data", BOTH, "device"),
        ({}, None, BOTH[::-1], "tf.data"),  # which is preferred there
        ({"pipeline": "device"}, None, BOTH[::-1], "device"),
        ({"randaugment": 1}, None, BOTH, "tf.data"),
        ({"image_size": 16}, None, BOTH, "tf.data"),
    ],
)
def test_it_is_decided_when_a_run_begins(fields, begun, pipelines, expected):
    recipe = Recipe().override(**fields)
    found = resolve_pipeline(recipe, IMAGES, begun, pipelines)
    assert found == recipe.override(pipeline=expected)
    assert found.result == recipe.result


@pytest.mark.parametrize(
    ("fields", "pipelines", "reason"),
    [
        ({"min_area": 0.3}, BOTH, "the device does not do min_area=0.3"),
        ({}, ONE, "this engine has 'tf.data'"),
    ],
)
def test_a_device_that_cannot_be_is_refused(fields, pipelines, reason):
    recipe = Recipe().override(pipeline="device", **fields)
    with pytest.raises(ValueError, match=f"`pipeline` must be 'tf.data' or 'auto' here: {reason}"):
        resolve_pipeline(recipe, IMAGES, None, pipelines)


@pytest.mark.parametrize("pipeline", ["auto", "device"])
def test_a_run_on_the_device_is_not_continued_where_replicas_would_each_have_whole_batches(
    pipeline,
):
    with pytest.raises(ValueError, match="The run makes its batches on the device.*'tf.data'"):
        resolve_pipeline(Recipe(pipeline=pipeline), IMAGES, "device", ONE)


def test_runs_of_earlier_versions_have_tf_data():
    assert Recipe.from_json({"model": "SEResNet20"}).pipeline == "tf.data"
    assert {recipe.pipeline for recipe in RECIPES.values()} == {"auto"}


def test_a_run_of_an_earlier_version_is_continued(tmp_path):
    WorkDir(tmp_path, Recipe(pipeline="tf.data"), {})
    file = tmp_path / "recipe.json"
    content = json.loads(file.read_text())
    del content["recipe"]["pipeline"]
    file.write_text(json.dumps(content))
    WorkDir(tmp_path, resolve_pipeline(Recipe(), IMAGES, read_pipeline(tmp_path), BOTH), {})
    with pytest.raises(ValueError, match="pipeline is 'tf.data' there, 'device' here"):
        WorkDir(tmp_path, Recipe(pipeline="device"), {})
    assert read_pipeline(tmp_path / "none") is None
