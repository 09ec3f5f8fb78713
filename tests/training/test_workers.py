"""Two processes under MultiWorkerMirroredStrategy, with little data."""

import shlex
import signal
import types

import numpy as np
import pytest
import runs
import tensorflow as tf
from eager import run_eagerly

from keras_senet import cli
from keras_senet.training.backends.tensorflow import Devices
from keras_senet.training.tensor_file import read_tensors

FLAGS = shlex.split(
    "--recipe digits --batch-size 16 --sync-bn --ema 0.9 --seed 3 --checkpoint-steps 3 --keep 99"
)


def start(workdir, *flags):
    return [runs.Forked(config, workdir, *FLAGS, *flags) for config in runs.make_configs(2)]


class TwoWorkers:
    """A strategy of two workers, the other of which has a number of its own."""

    num_replicas_in_sync = 2

    def __init__(self, task, other):
        self.cluster_resolver, self.other = types.SimpleNamespace(task_id=task), other

    def run(self, function):
        return function()

    def reduce(self, kind, value, axis):
        return value + tf.cast(self.other, value.dtype)


def test_workers_that_continue_from_different_checkpoints_are_refused():
    first, second = (Devices(TwoWorkers(task, other=5)) for task in (0, 1))
    assert (first.is_chief, second.is_chief) == (True, False)
    second.check_equal(5, "different")
    with pytest.raises(ValueError, match="different"):
        second.check_equal(3, "different")
    alone = Devices(tf.distribute.get_strategy())
    alone.check_equal(3, "different")
    assert (alone.several, alone.is_chief) == (False, True)


LONG = ("--epochs", 24, "--evaluate-epochs", 0)


def stop(workdir):
    """SIGTERM reaches one, long before the end; both end with 75, at the same checkpoint."""
    processes = start(workdir, *LONG)
    runs.wait_for_checkpoint(workdir, set(), processes)
    processes[1].send_signal(signal.SIGTERM)
    assert runs.finish(*processes) == [75, 75], workdir.with_suffix(".log").read_text()[-2000:]
    assert not (workdir / "model.keras").exists()


def test_two_workers_train_as_one_stop_at_one_step_and_continue(tmp_path):
    """After three steps of float32 the weights are those of one worker, here, with the whole batch.

    Twice two processes: what signals and servers do is of processes. Over 10 s.
    """
    one, two = tmp_path / "one", tmp_path / "two"
    stop(two)
    with run_eagerly():
        flags = ["train", "--workdir", str(one), "--quiet", *FLAGS, "--max-steps", "3"]
        assert cli.main(flags) == 0
    first, second = (read_tensors(f / "checkpoints" / "ckpt-3.safetensors")[0] for f in (one, two))
    assert len(first) > 40
    for name, value in first.items():
        np.testing.assert_allclose(value, second[name], rtol=1e-5, atol=1e-5, err_msg=name)
    stopped = max(int(name.split("-")[1].split(".")[0]) for name in runs.checkpoints(two))
    assert runs.finish(*start(two, *LONG, "--max-steps", stopped + 3)) == [0, 0]
    assert (two / "model.keras").exists()


@pytest.mark.slow
def test_a_run_of_two_workers_that_was_stopped_is_as_one_that_was_not(tmp_path):
    """Three times two processes. That one process does is in test_recovery.py."""
    stop(tmp_path / "broken")
    assert runs.finish(*start(tmp_path / "broken", *LONG)) == [0, 0]
    assert runs.finish(*start(tmp_path / "whole", *LONG)) == [0, 0]
    runs.assert_equal_runs(tmp_path / "whole", tmp_path / "broken")
