"""The trainer on JAX, without TensorFlow, on eight virtual devices and on one:

    KERAS_BACKEND=jax pytest -m backend tests/backends/test_jax_training.py

That a step is the arithmetic of a recipe is known from TensorFlow's (tests/training/test_step.py),
which test_engines.py compares with this one. JAX compiles for seconds what TensorFlow runs at once.
"""

import os
import signal

import keras
import little
import numpy as np
import pytest

import keras_senet
from keras_senet import cli, data, models
from keras_senet.models.shake_shake import ShakeShakeResNet
from keras_senet.preprocessing import Preprocessing
from keras_senet.training import Recipe, Terminated, Trainer
from keras_senet.training.backends import load_backend
from keras_senet.training.objective import CrossEntropy

jax = pytest.importorskip("jax")
pytestmark = [
    pytest.mark.backend,
    pytest.mark.skipif(keras.backend.backend() != "jax", reason="is JAX's"),
]

# An epoch is five steps.
RECIPE = Recipe(
    epochs=2,
    batch_size=16,
    warmup_epochs=0.5,
    label_smoothing=0.1,
    weight_decay=0.01,
    augmentation=data.Augmentation(pad_and_crop=2, flip=True, mixup=0.2),
)


@pytest.fixture(autouse=True)
def little_data_and_network(monkeypatch):
    little.put_in_place(monkeypatch.setitem, monkeypatch.setattr)


def make(workdir, recipe=RECIPE, **options):
    return Trainer(recipe, workdir, verbose=False, **options)


def run(trainer, first, last):
    """Those steps; the last outcome."""
    for number, batch in zip(range(first, last), trainer._batches(first), strict=False):
        outcome = trainer.step(batch, number)
    trainer.step.publish()
    return outcome


def values(trainer):
    """All that a checkpoint has."""
    return {name: np.asarray(v) for name, v in trainer.checkpoints.variables.items()}


def assert_close(trainer, other, scale=1e-5):
    """Each array within a fraction of its largest value."""
    found, expected = values(trainer), values(other)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        atol = scale * max(1.0, np.abs(value).max())
        np.testing.assert_allclose(found[name], value, rtol=0, atol=atol, err_msg=name)


def test_a_killed_run_continues_to_the_same_weights(tmp_path, monkeypatch):
    """In the middle of the second epoch, one step after a checkpoint, with every kind of state."""
    recipe = RECIPE.override(ema=0.9, accumulation=2, clip_norm=1.0, class_weights=True)
    with monkeypatch.context() as patch:
        little.keep_after(patch, 8, tmp_path / "whole", tmp_path / "killed")
        whole = little.train(tmp_path / "whole", recipe, checkpoint_steps=7)
    continued = little.train(tmp_path / "killed", recipe)
    assert continued.began_at == 7
    little.assert_equal_weights(continued, whole)
    assert continued.workdir.metrics.read() == whole.workdir.metrics.read()
    again = little.train(tmp_path / "whole", recipe)  # has ended: nothing is trained
    little.assert_equal_weights(again, whole)
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert {"model.keras", "model.weights.h5", "best.weights.h5", "per_class.csv"} <= names


def test_a_signal_stops_after_a_checkpoint(tmp_path, monkeypatch):
    little.do_after(monkeypatch, 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Terminated):
        make(tmp_path).train()
    assert make(tmp_path).checkpoints.restore()[0] == 2


@pytest.mark.parametrize("fields", [{"ema": 0.5, "clip_norm": 0.1}, {"accumulation": 2}], ids=str)
def test_eight_devices_are_one(tmp_path, fields):
    recipe = RECIPE.override(**fields)
    eight, one = (make(tmp_path / name, recipe, strategy=name) for name in ("auto", "none"))
    assert (eight.devices.replicas, one.devices.replicas) == (8, 1)
    outcomes = [run(trainer, 0, 3) for trainer in (eight, one)]
    assert outcomes[0].loss == pytest.approx(outcomes[1].loss, rel=1e-5)
    assert outcomes[0].figures == outcomes[1].figures
    assert_close(eight, one)


def test_micro_batches_are_the_whole_batch(tmp_path):
    """Without batch normalisation, whose statistics are those of a micro-batch."""
    recipe = RECIPE.override(frozen_bn_epochs=2)
    trainers = [
        make(tmp_path / str(count), recipe.override(accumulation=count), strategy="none")
        for count in (1, 4)
    ]
    for trainer in trainers:
        run(trainer, 0, 3)
    assert_close(*trainers)


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_trains(tmp_path, precision):
    fields = {"optimizer": "adamw", "decoupled": True, "learning_rate": 0.01}
    first = make(tmp_path / "float32", RECIPE.override(**fields), strategy="none")
    other = make(
        tmp_path / precision, RECIPE.override(precision=precision, **fields), strategy="none"
    )
    other.model.set_weights(first.model.get_weights())
    losses = [run(trainer, 0, 4).loss for trainer in (first, other)]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert all(np.isfinite(value).all() for value in values(other).values())


def apply_as_keras(optimizer, gradients, variables):
    """Without a state, which is Keras' way on JAX."""
    before = [[v.value for v in each] for each in (optimizer.variables, variables)]
    weights, own = optimizer.stateless_apply(before[0], gradients, before[1])
    pairs = zip([*variables, *optimizer.variables], [*weights, *own], strict=True)
    for variable, value in pairs:
        variable.assign(value)


def test_loss_scaling_is_that_of_keras():
    """Steps of finite gradients, and one of gradients that are not."""
    found = []
    for apply in (load_backend()._apply_scaled, apply_as_keras):
        kernel = keras.Variable(np.ones(3, "float32"))
        inner = keras.optimizers.SGD(0.1, momentum=0.9)
        optimizer = keras.optimizers.LossScaleOptimizer(inner, dynamic_growth_steps=2)
        optimizer.build([kernel])
        seen = []
        for factor in (1.0, np.inf, 2.0, 3.0, 4.0):
            gradients = [keras.ops.convert_to_tensor(np.float32([1, 2, 3]) * np.float32(factor))]
            apply(optimizer, gradients, [kernel])
            seen += [np.array(v) for v in (kernel, *optimizer.variables)]
        found.append(seen)
    for value, expected in zip(*found, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_the_gradient_of_a_clearly_wrong_prediction_is_not_lost():
    """By its logits it is softmax - target, as on TensorFlow: in float64 by NumPy."""
    logits = np.float32([[60, 0, 3], [0, 9, -20], [5, 5, 5]])
    targets = np.eye(3, dtype="float32")[[1, 2, 0]]
    objective = CrossEntropy(Preprocessing.scaled(8), batch_size=3, label_smoothing=0.1)

    def loss(x):
        return objective(lambda _: keras.ops.softmax(x), (np.zeros((3, 1, 1, 3)), targets), None)[0]

    found, gradient = jax.value_and_grad(loss)(logits)
    wide = logits.astype("float64")
    smooth = targets * 0.9 + 0.1 / 3
    shares = np.exp(wide - wide.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    assert float(found) == pytest.approx(-(smooth * np.log(shares)).sum() / 3, rel=1e-6)
    np.testing.assert_allclose(gradient, (shares - smooth) / 3, rtol=1e-5, atol=1e-7)


def test_what_is_frozen_stays_to_the_last_bit(tmp_path, monkeypatch):
    """In the head's epoch all but the head, after it the stem and the first stage."""
    monkeypatch.setattr(little, "NETWORK", little.TWO_STAGES)
    keras.utils.set_random_seed(1)
    weights = tmp_path / "seven.weights.h5"
    keras_senet.save_weights(little.NETWORK(weights=None, classes=7), weights)
    recipe = RECIPE.override(
        weights=str(weights), epochs=3, head_epochs=1, head_rate=4.0, layer_decay=0.5,
        freeze=(0, 1), frozen_bn_epochs=1, ema=0.5,
    )  # fmt: skip
    trainer = make(tmp_path / "run", recipe)
    before = values(trainer)
    run(trainer, 0, 5)
    after = values(trainer)
    of_model = [name for name in before if name.startswith(("model/", "average/"))]
    head = [name for name in of_model if "predictions" in name]
    assert len(head) == 4
    for name in of_model:
        assert np.array_equal(before[name], after[name]) == (name not in head), name
    run(trainer, 5, 7)
    third = values(trainer)
    for name in of_model:
        is_frozen = name.split("/")[1].startswith(("stem", "stage1"))
        assert np.array_equal(before[name], third[name]) == is_frozen, name
    run(trainer, 10, 11)  # the last epoch: batch normalisation stays
    last = values(trainer)
    for name in of_model:
        if "_bn" in name and name.startswith("model/"):
            np.testing.assert_array_equal(last[name], third[name], err_msg=name)


@pytest.fixture
def shaken(monkeypatch):
    """A network whose layers draw random numbers."""
    spec = ShakeShakeResNet((1, 1), width=16)
    shake = keras_senet.application(spec, name="shake", input_size=8, min_size=8, classes=10)
    monkeypatch.setattr(models, "get", lambda name: shake)


def test_random_layers_follow_seed_and_step(tmp_path, shaken):
    """The same step again has the same loss, on any number of devices; another step has another."""
    recipe = RECIPE.override(learning_rate=1e-30, weight_decay=0.0, momentum=0.0)
    found = []
    for strategy in ("auto", "none"):
        trainer = make(tmp_path / strategy, recipe, strategy=strategy)
        batch = next(iter(trainer._batches(0)))
        found.append([trainer.step(batch, number).loss for number in (3, 3, 4)])
        assert all("next" not in vars(each) for each in trainer.step.seeds.generators)
    (a, again, other), on_one = found
    assert a == pytest.approx(again, rel=1e-6)
    assert abs(other - a) > 1e-4
    assert on_one == pytest.approx(found[0], rel=1e-5)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    trainer = make(tmp_path, RECIPE.override(learning_rate=1e30, warmup_epochs=0.0))
    with pytest.raises(FloatingPointError, match=r"at step \d, at a learning rate of .*e\+"):
        trainer.train()
    assert trainer.checkpoints.latest is None


@pytest.mark.parametrize(
    ("fields", "options", "message"),
    [
        ({}, {"strategy": "mirrored"}, "'auto' is all devices. Received: strategy='mirrored'"),
        ({"batch_size": 12}, {}, "multiple of 8.*batch_size=12"),
        ({"accumulation": 4}, {}, "multiple of 32.*batch_size=16"),
    ],
    ids=str,
)
def test_what_jax_does_not_do_is_refused(tmp_path, fields, options, message):
    with pytest.raises(ValueError, match=message):
        make(tmp_path / "run", RECIPE.override(**fields), **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("sync_bn", [False, True])
def test_it_says_that_statistics_are_of_all_devices(tmp_path, sync_bn):
    trainer = make(tmp_path, RECIPE.override(sync_bn=sync_bn))
    said = "on JAX batch normalisation sees the images of all 8 devices, as with `sync_bn`"
    assert [note for note in trainer.workdir.notes if "sees" in note] == [said] * (not sync_bn)
    assert make(tmp_path / "one", strategy="none").workdir.notes == []


def test_tensorflows_workers_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{}")
    with pytest.raises(ValueError, match="TF_CONFIG.*jax.distributed"):
        make(tmp_path)


def test_hosts_without_their_numbers_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "localhost:1")
    monkeypatch.delenv("JAX_NUM_PROCESSES", raising=False)
    with pytest.raises(ValueError, match="`JAX_NUM_PROCESSES` must be a number .*Received: ''"):
        make(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_checkpoints_of_earlier_versions_are_tensorflows(tmp_path):
    trainer = make(tmp_path)
    (tmp_path / "checkpoints").mkdir(exist_ok=True)
    (tmp_path / "checkpoints" / "ckpt-3.index").write_bytes(b"")
    with pytest.raises(ValueError, match=r"ckpt-3' is of an earlier version.*KERAS_BACKEND"):
        trainer.train()


def test_the_command_trains(tmp_path, capsys):
    flags = "--recipe digits --batch-size 16 --epochs 1 --warmup-epochs 0 --quiet".split()
    assert cli.main(["train", "--workdir", str(tmp_path / "run"), *flags]) == 0
    assert "results in" in capsys.readouterr().out
    assert (
        cli.main(["train", "--workdir", str(tmp_path / "a"), *flags, "--strategy", "mirrored"]) == 2
    )
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "strategy" in error
