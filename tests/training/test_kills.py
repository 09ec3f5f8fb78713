"""Runs of their own processes on CIFAR-10, killed at random moments and started again: equal to the
last bit.

`TFDS_DATA_DIR` must name a folder with CIFAR-10 as tensorflow_datasets prepares it.
"""

import os
import shlex
import signal

import numpy as np
import pytest
import runs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("TFDS_DATA_DIR" not in os.environ, reason="needs CIFAR-10 in TFDS_DATA_DIR"),
]

# Every kind of state: a moving average, micro-batches, augmentation, mixed pairs.
RECIPE = shlex.split(
    "--recipe cifar10-short --batch-size 32 --accumulation 2 --ema 0.99 --mixup 0.2 --cutout 8 "
    "--color-jitter 0.2 --evaluate-epochs 0 --checkpoint-steps 4 --checkpoint-minutes 0"
)


def flags(steps, *more):
    return [*RECIPE, "--max-steps", steps, *more]


@pytest.mark.parametrize(
    ("number", "status", "more", "times"),
    [
        (signal.SIGKILL, -9, [], 10),
        (signal.SIGTERM, 75, [], 4),
        (
            signal.SIGKILL,
            -9,
            ["--strategy", "mirrored", "--logical-cpus", "2", "--sync-bn", "--accumulation", "1"],
            4,
        ),
    ],
    ids=["SIGKILL", "SIGTERM", "mirrored"],
)
def test_a_run_that_is_stopped_again_and_again(tmp_path, number, status, more, times):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert runs.finish(runs.start(whole, *flags(200, *more))) == [0]
    statuses, added = runs.run_and_stop(
        lambda: [runs.start(broken, *flags(200, *more))], broken, number, times
    )
    assert statuses == [status] * times
    assert all(count >= 1 for count in added)
    assert runs.finish(runs.start(broken, *flags(200, *more))) == [0]
    runs.assert_equal_runs(whole, broken)


def test_two_workers_of_which_one_is_killed(tmp_path):
    """Both are started again; the other had ended by itself, or waits for ever and is killed."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    arguments = flags(60, "--sync-bn", "--accumulation", "1")
    assert runs.finish(*runs.start_workers(whole, 2, *arguments)) == [0, 0]
    statuses, _ = runs.run_and_stop(
        lambda: runs.start_workers(broken, 2, *arguments), broken, signal.SIGKILL, 2
    )
    assert statuses == [-9, -9]
    assert runs.finish(*runs.start_workers(broken, 2, *arguments)) == [0, 0]
    runs.assert_equal_runs(whole, broken)


def test_two_workers_are_one(tmp_path):
    """Half the batch each: the weights of one worker after 3 steps of float32, with synchronised
    normalisation.
    """
    arguments = shlex.split("--recipe cifar10-short --batch-size 32 --max-steps 3 --sync-bn")
    one, two = tmp_path / "one", tmp_path / "two"
    assert runs.finish(runs.start(one, *arguments)) == [0]
    assert runs.finish(*runs.start_workers(two, 2, *arguments)) == [0, 0]
    first, second = runs.weights(one), runs.weights(two)
    for name, value in first.items():
        np.testing.assert_allclose(value, second[name], rtol=1e-5, atol=1e-5, err_msg=name)
