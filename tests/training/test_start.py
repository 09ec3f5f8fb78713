"""The weights that a run begins from: from every kind of place, with their variant, preprocessing
and head; and what is refused before there is a work directory.
"""

import dataclasses
import json
import os
import re

import keras
import little
import numpy as np
import pytest
from eager import run_eagerly
from runs import ONE_EPOCH

import keras_senet
from keras_senet import cli, models
from keras_senet.models.resnet import ResNet
from keras_senet.preprocessing import Preprocessing
from keras_senet.training import Trainer
from keras_senet.training.fit import FitTrainer

RECIPE = dataclasses.replace(little.RECIPE, epochs=1)
OWN = Preprocessing((10.0, 20.0, 30.0), (50.0, 60.0, 70.0), 8, 0.9, "bicubic")


def network(classes=10, seed=0):
    """The little network with random weights, and a preprocessing of its own."""
    keras.utils.set_random_seed(100 + seed)
    model = little.NETWORK(weights=None, classes=classes)
    model.preprocessing = OWN
    return model


def begin(workdir, weights, engine=Trainer, **fields):
    return engine(RECIPE.override(weights=str(weights), **fields), workdir, verbose=False)


def assert_body(trainer, model, head):
    """The trainer's network has a model's weights, those of the head too or not."""
    kept = []
    for a, b in zip(trainer.model.weights, model.weights, strict=True):
        if "predictions" in a.path:
            kept.append(a.shape == b.shape and np.array_equal(a.numpy(), b.numpy()))
        else:
            np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)
    assert kept == [head, head or kept[1]]


@pytest.mark.parametrize(
    ("engine", "name", "classes"),
    [
        # What loads is the same in both engines.
        pytest.param(engine, name, classes, marks=pytest.mark.slow if slow else ())
        for engine in (Trainer, FitTrainer)
        for name in ("w.weights.h5", "w.safetensors")
        for classes in (10, 7)
        for slow in [engine is FitTrainer and (name, classes) != ("w.weights.h5", 7)]
    ],
)
def test_a_file_with_the_same_head_or_a_new_one(tmp_path, engine, name, classes):
    model = network(classes)
    keras_senet.save_weights(model, tmp_path / name)
    trainer = begin(tmp_path / "run", tmp_path / name, engine)
    assert_body(trainer, model, classes == 10)
    assert trainer.model.output_shape == (None, 10)
    assert trainer.model.preprocessing == OWN
    assert ("a new head" in trainer.workdir.notes[0]) == (classes == 7)


def test_the_variant_is_that_of_the_weights(tmp_path, monkeypatch):
    """timm's strides, from a file that says so and from a whole network; also when it continues."""
    spec = ResNet((1, 1))
    tiny = keras_senet.application(spec, name="tiny", input_size=32, classes=10)
    monkeypatch.setattr(models, "get", lambda name: tiny)
    other = tiny.variant(spec.forms["timm"])
    model = other(weights=None, classes=3, input_shape=(32, 32, 3))
    path = tmp_path / "timm.weights.h5"
    keras_senet.save_weights(model, path)
    for weights in (path, _keras_file(model, tmp_path)):
        trainer = begin(tmp_path / weights.stem, weights, image_size=32)
        assert trainer.model.spec == spec.forms["timm"] != spec
        assert_body(trainer, model, head=False)
        stored = json.loads((tmp_path / weights.stem / "recipe.json").read_text())["start"]
        assert stored["spec"]["unit"]["stride_on"] == 2
        again = begin(tmp_path / weights.stem, weights, image_size=32)
        assert again.model.spec == trainer.model.spec


def _keras_file(model, folder):
    model.save(folder / "timm_network.keras")
    return folder / "timm_network.keras"


def test_a_finished_run_and_one_with_its_best_weights(tmp_path, finished, whole):
    trainer = begin(tmp_path / "a", finished)
    assert_body(trainer, whole.model, head=True)
    (finished / "model.weights.h5").unlink()
    trainer = begin(tmp_path / "b", finished)
    whole_best = little.NETWORK(weights=str(finished / "best.weights.h5"))
    assert_body(trainer, whole_best, head=True)
    (finished / "best.weights.h5").unlink()
    with pytest.raises(FileNotFoundError, match=r"no weights yet.*no model\.weights\.h5"):
        begin(tmp_path / "c", finished)
    assert not (tmp_path / "c").exists()


def test_the_network_of_a_run_is_the_run(tmp_path, finished, whole):
    trainer = begin(tmp_path / "a", finished / "model.keras")
    assert_body(trainer, whole.model, head=True)
    assert trainer.model.preprocessing == whole.model.preprocessing


@pytest.mark.parametrize(("names", "head"), [("0123456789", True), ("9876543210", False)])
def test_a_run_of_other_classes_has_another_head(tmp_path, finished, whole, names, head):
    stored = json.loads((finished / "recipe.json").read_text())
    (finished / "recipe.json").write_text(json.dumps(stored | {"class_names": list(names)}))
    assert_body(begin(tmp_path / "a", finished), whole.model, head)


@run_eagerly()
def test_weights_are_not_needed_once_there_is_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keras_senet.save_weights(network(7), "w.weights.h5")
    recipe = RECIPE.override(weights="w.weights.h5")
    trainer = Trainer(recipe, tmp_path / "run", verbose=False, max_steps=3)
    trainer.train()
    expected = trainer.model.get_weights()
    os.remove("w.weights.h5")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = Trainer(recipe, tmp_path / "run", verbose=False, max_steps=3)
    again.train()
    for a, b in zip(again.model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(a, b)
    assert again.model.preprocessing == OWN


@pytest.mark.parametrize("engine", [Trainer, FitTrainer])
def test_before_the_first_checkpoint_they_must_be_the_same(tmp_path, monkeypatch, engine):
    monkeypatch.chdir(tmp_path)
    keras_senet.save_weights(network(7), "w.weights.h5")
    begin(tmp_path / "run", "w.weights.h5", engine)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert_body(begin(tmp_path / "run", "w.weights.h5", engine), network(7), head=False)
    keras_senet.save_weights(network(7, seed=1), tmp_path / "w.weights.h5")
    with pytest.raises(ValueError, match=r"w\.weights\.h5' changed since the run began"):
        begin(tmp_path / "run", "w.weights.h5", engine)
    os.remove(tmp_path / "w.weights.h5")
    with pytest.raises((OSError, ValueError), match=r"w\.weights\.h5"):
        begin(tmp_path / "run", "w.weights.h5", engine)


def test_other_weights_are_another_recipe(tmp_path):
    for name in ("a", "b"):
        keras_senet.save_weights(network(7), tmp_path / f"{name}.weights.h5")
    begin(tmp_path / "run", tmp_path / "a.weights.h5")
    with pytest.raises(ValueError, match=r"another recipe: weights is .*a\.weights\.h5' there"):
        begin(tmp_path / "run", tmp_path / "b.weights.h5")
    with pytest.raises(ValueError, match=r"another recipe: .*weights is .* there, None here"):
        Trainer(RECIPE, tmp_path / "run", verbose=False)


def test_an_earlier_run_without_these_fields_goes_on(finished, whole):
    stored = json.loads((finished / "recipe.json").read_text())
    for name in ("weights", "freeze", "head_epochs", "head_rate", "layer_decay"):
        del stored["recipe"][name]
    (finished / "recipe.json").write_text(json.dumps(stored))
    trainer = Trainer(little.RECIPE, finished, verbose=False)
    trainer.train()
    for a, b in zip(trainer.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """A folder with weights of another architecture in each kind of file: with a description, and
    without; to be read only.
    """
    folder = tmp_path_factory.mktemp("others")
    other = little.NETWORK.variant(dataclasses.replace(little.NETWORK.spec, depths=(2,)))
    model = other(weights=None)
    keras_senet.save_weights(model, folder / "own.weights.h5")
    keras_senet.save_weights(model, folder / "own.safetensors")
    model.save_weights(folder / "keras.weights.h5")
    model.save(folder / "network.keras")
    (folder / "broken.keras").write_bytes(b"PK\x03\x04nothing")
    return folder


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own.weights.h5", "another architecture.*depths"),
        ("own.safetensors", "another architecture.*depths"),
        ("keras.weights.h5", "do not fit"),
        ("network.keras", "do not fit.*left over"),
        ("nothing.weights.h5", r"'hf://owner/name', a training work directory, a \.keras file"),
        ("imagenet", "no published weights|must be None"),
        ("own.weights.h5#ema", "no part 'ema'"),
        (".", r"a training work directory, a \.keras file"),
        ("broken.keras", "broken.keras' is damaged"),
    ],
)
def test_weights_that_do_not_fit_are_one_line_and_leave_nothing(
    others, monkeypatch, capsys, name, message
):
    monkeypatch.chdir(others)
    # Without a model it is that of the weights.
    model = ("--model", "SEResNet20")
    arguments = ["train", *ONE_EPOCH, *model, "--weights", name, "--workdir", "run"]
    assert cli.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line), line
    assert not (others / "run").exists()


def test_a_run_of_another_network_says_so(tmp_path, finished):
    with pytest.raises(ValueError, match="must be of SEResNet32.*a run of SEResNet20"):
        begin(tmp_path / "a", finished, model="SEResNet32")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--freeze", "7"],
            r"--freeze must be stages of SEResNet20: 0, 1, 2, 3\. Received: --freeze 7",
        ),
        (["--freeze", "1"], "--freeze must be .* without --weights"),
        (["--head-epochs", "1"], "--head-epochs must be 0 without --weights"),
    ],
)
def test_fields_that_cannot_be(tmp_path, capsys, flags, message):
    assert cli.main(["train", *ONE_EPOCH, *flags, "--workdir", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line), line
    assert not (tmp_path / "run").exists()
