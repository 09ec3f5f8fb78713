"""A run on TensorFlow, one on JAX, and runs that go from one to the other: the same to rounding.

JAX trains in processes of its own, which compile for 20 s or more.
"""

import shlex
import shutil
import signal

import little
import numpy as np
import pytest
import runs

import keras_senet
from keras_senet import cli
from keras_senet.runs.tables import Metrics
from keras_senet.training.checkpoints import list_steps
from keras_senet.training.tensor_file import read_tensors

pytestmark = pytest.mark.backend

# Twenty steps, augmented, every kind of state.
FLAGS = shlex.split(
    "--recipe digits --pipeline device --batch-size 16 --epochs 4 --learning-rate 0.02 "
    "--warmup-epochs 0.5 --label-smoothing 0.1 --mixup 0.2 --cutout 2 --color-jitter 0.2 "
    "--ema 0.9 --clip-norm 1 --nesterov --checkpoint-steps 3 --keep 99"
)


def train_on_jax(workdir, *flags):
    process = runs.start(
        workdir,
        *flags,
        environment={"KERAS_BACKEND": "jax"},
        program=("-W", "ignore", little.__file__),
    )
    assert runs.finish(process) == [0], workdir.with_suffix(".log").read_text()[-3000:]


def train_on_tensorflow(workdir, *flags):
    with pytest.MonkeyPatch.context() as patch:
        little.put_in_place(patch.setitem, patch.setattr)
        assert cli.main(["train", "--workdir", str(workdir), "--quiet", *flags]) == 0


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """The folders of two runs from the same weights: one on TensorFlow, one on JAX."""
    folder = tmp_path_factory.mktemp("runs")
    weights = folder / "first.weights.h5"
    keras_senet.save_weights(little.NETWORK(weights=None), weights)
    flags = [*FLAGS, "--weights", str(weights)]
    train_on_tensorflow(folder / "tensorflow", *flags)
    train_on_jax(folder / "jax", *flags)
    return folder / "tensorflow", folder / "jax"


def check_equal_to_rounding(first, second):
    """Weights within 1e-5 of their largest value; the optimizer's moments, sums of gradients
    that partly cancel, within 1e-4 of theirs.
    """
    assert first.keys() == second.keys()
    for name, value in first.items():
        share = 1e-4 if name.startswith("optimizer/") else 1e-5
        atol = share * np.abs(value).max()
        np.testing.assert_allclose(second[name], value, rtol=0, atol=atol, err_msg=name)


def losses(workdir):
    return [row["loss"] for row in Metrics(workdir / "metrics.csv").read()]


def test_three_steps_have_the_same_weights(begun):
    """Weights and the optimizer's state, to rounding; and twenty the same losses."""
    first, second = (
        read_tensors(workdir / "checkpoints" / "ckpt-3.safetensors")[0] for workdir in begun
    )
    check_equal_to_rounding(first, second)
    assert losses(begun[1]) == pytest.approx(losses(begun[0]), rel=1e-4)


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_run_goes_on_with_the_other_backend(begun, tmp_path, backend, capsys):
    """After the second epoch, to the metrics of a whole run."""
    whole = begun[0 if backend == "jax" else 1]
    shutil.copytree(whole, tmp_path / "run")
    checkpoints = tmp_path / "run" / "checkpoints"
    for step in list_steps(checkpoints):
        if step > 10:
            (checkpoints / f"ckpt-{step}.safetensors").unlink()
    if backend == "jax":
        train_on_jax(tmp_path / "run")
        said = (tmp_path / "run.log").read_text()
    else:
        train_on_tensorflow(tmp_path / "run")
        said = capsys.readouterr().err
    names = ["tensorflow", "jax"] if backend == "jax" else ["jax", "tensorflow"]
    assert "backend is {!r} there, {!r} here".format(*names) in said
    rows, expected = (Metrics(each / "metrics.csv").read() for each in (tmp_path / "run", whole))
    assert [row["step"] for row in rows] == [5, 10, 15, 20]
    assert rows[:2] == expected[:2]
    for row, same in zip(rows, expected, strict=True):
        for name in ("loss", "test_loss", "learning_rate"):
            assert row[name] == pytest.approx(same[name], rel=1e-3), name


@pytest.mark.slow
def test_two_hosts_train_as_one(begun, tmp_path):
    """Half of each batch on each, joined by `jax.distributed`; both write into one folder."""
    address = f"localhost:{runs.free_port()}"
    weights = begun[0].parent / "first.weights.h5"
    processes = [
        runs.start(
            tmp_path / "two",
            *FLAGS,
            "--weights",
            weights,
            "--max-steps",
            3,
            environment={
                "KERAS_BACKEND": "jax",
                "JAX_COORDINATOR_ADDRESS": address,
                "JAX_NUM_PROCESSES": "2",
                "JAX_PROCESS_ID": str(number),
            },
            program=("-W", "ignore", little.__file__),
        )
        for number in range(2)
    ]
    assert runs.finish(*processes) == [0, 0], (tmp_path / "two.log").read_text()[-3000:]
    first, second = (
        read_tensors(each / "checkpoints" / "ckpt-3.safetensors")[0]
        for each in (begun[1], tmp_path / "two")
    )
    check_equal_to_rounding(first, second)


@pytest.mark.slow
def test_a_run_on_jax_that_is_killed_again_and_again(tmp_path):
    """Five times at random moments; bit-identical at the end."""
    environment = {"KERAS_BACKEND": "jax"}
    text = " ".join(FLAGS).replace("epochs 4", "epochs 400").replace("steps 3", "steps 20")
    flags = [*text.replace("keep 99", "keep 2").split(), "--evaluate-epochs", "0"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"

    def begin(workdir):
        program = ("-W", "ignore", little.__file__)
        return runs.start(workdir, *flags, environment=environment, program=program)

    assert runs.finish(begin(whole)) == [0]
    statuses, _ = runs.run_and_stop(lambda: [begin(broken)], broken, signal.SIGKILL, 5)
    assert runs.finish(begin(broken)) == [0]
    assert statuses == [-signal.SIGKILL] * 5
    runs.assert_equal_runs(whole, broken)
