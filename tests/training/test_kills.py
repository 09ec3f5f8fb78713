"""Runs of their own processes on CIFAR-10, killed at random moments and started again: equal to the
last bit.

`TFDS_DATA_DIR` must name a folder with CIFAR-10 as tensorflow_datasets prepares it.
"""

import os
import re
import shlex
import signal
import time

import numpy as np
import pytest
import runs
import tensorflow as tf

from keras_senet import data

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


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """640 of CIFAR-10's test images as files for training, and 20 for validation."""
    folder = tmp_path_factory.mktemp("photos")
    images = data.load("cifar10", "test", os.environ["TFDS_DATA_DIR"])
    counts = dict.fromkeys(images.class_names, 0)
    encoded, labels = images.fetch(np.arange(2000))
    for image, label in zip(encoded, labels, strict=True):
        name = images.class_names[label]
        counts[name] += 1
        if counts[name] <= 66:
            split = "train" if counts[name] <= 64 else "val"
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            path = folder / split / name / f"{counts[name]}.jpg"
            tf.io.write_file(str(path), tf.io.encode_jpeg(images.decode(image)))
    return folder


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--strategy", "mirrored", "--logical-cpus", "2", "--sync-bn", "--accumulation", "1"],
    ],
    ids=["one", "mirrored"],
)
def test_a_fine_tuning_that_is_killed_in_each_phase(tmp_path, photos, more):
    """The head's 40 steps, 40 of the last stages, 40 without batch normalisation; twice in each."""
    base, whole, broken = (tmp_path / name for name in ("base", "whole", "broken"))
    assert runs.finish(runs.start(base, *flags(8))) == [0]
    tuning = shlex.split(
        f"--dataset {photos} --weights {base} --freeze 0 1 --epochs 6 --head-epochs 2 "
        "--frozen-bn-epochs 2 --head-rate 4 --layer-decay 0.7 --learning-rate 0.01"
    )
    arguments = [*RECIPE, *tuning, *more]
    assert runs.finish(runs.start(whole, *arguments)) == [0]
    killed = []
    for target in (8, 24, 44, 64, 84, 104):
        process = runs.start(broken, *arguments)
        while last_step(broken) < target and process.poll() is None:
            time.sleep(0.05)
        time.sleep(0.1)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        killed.append(last_step(broken))
    assert [min(step // 40, 2) for step in killed] == [0, 0, 1, 1, 2, 2], killed
    assert runs.finish(runs.start(broken, *arguments)) == [0]
    runs.assert_equal_runs(whole, broken)


def last_step(workdir):
    """Of the last checkpoint; 0 without one."""
    return max((int(re.search(r"\d+", name)[0]) for name in runs.checkpoints(workdir)), default=0)
