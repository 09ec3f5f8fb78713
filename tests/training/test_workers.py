"""Two processes under MultiWorkerMirroredStrategy, with little data."""

import shlex
import signal

import little
import numpy as np
import runs

from keras_senet import cli

LITTLE = (little.__file__,)
FLAGS = shlex.split("--recipe digits --batch-size 16 --sync-bn --ema 0.9 --seed 3 --checkpoint-steps 3")


def start(workdir, *flags):
    return runs.start_workers(workdir, 2, *FLAGS, *flags, program=LITTLE)


def test_two_workers_train_as_one_and_leave_one_run(tmp_path):
    """Behind three steps of float32 the weights are those of one worker, here, with the whole batch.

    Five to ten seconds, as each worker starts TensorFlow and a server.
    """
    one, two = tmp_path / "one", tmp_path / "two"
    processes = start(two, "--max-steps", 3)
    assert cli.main(["train", "--workdir", str(one), "--quiet", *FLAGS, "--max-steps", "3"]) == 0
    assert runs.finish(*processes) == [0, 0], (tmp_path / "two.log").read_text()[-2000:]
    first, second = runs.weights(one), runs.weights(two)
    for name, value in first.items():
        np.testing.assert_allclose(value, second[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_told_to_stop_both_stop_at_one_step_and_continue(tmp_path):
    """SIGTERM reaches one of them, long before the end; both end with 75 behind the same checkpoint.

    Three times two processes: what signals and servers do is of processes. 20 to 40 seconds.
    """
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    long = ("--epochs", 24, "--evaluate-epochs", 0)
    processes = start(broken, *long)
    runs.wait_for_checkpoint(broken, set(), processes)
    processes[1].send_signal(signal.SIGTERM)
    assert runs.finish(*processes) == [75, 75], (tmp_path / "broken.log").read_text()[-2000:]
    assert not (broken / "model.keras").exists()
    assert runs.finish(*start(whole, *long)) == [0, 0]
    assert runs.finish(*start(broken, *long)) == [0, 0]
    runs.assert_equal_runs(whole, broken)
