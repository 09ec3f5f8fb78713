"""Runs of `keras-senet train` in processes of their own, which are killed and started again."""

import json
import multiprocessing
import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import time

import h5py
import numpy as np

PATIENCE = 600  # seconds
ONE_EPOCH = shlex.split("--recipe digits --epochs 1 --batch-size 16 --warmup-epochs 0 --quiet")


def start(workdir, *flags, environment=None, program=("-m", "keras_senet_cli")):
    """One process that trains into `workdir`; its output goes to `workdir`.log."""
    command = [
        sys.executable,
        *program,
        "train",
        "--workdir",
        str(workdir),
        "--quiet",
        *map(str, flags),
    ]
    with open(f"{workdir}.log", "a") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=log, env=os.environ | (environment or {})
        )


def start_workers(workdir, count, *flags, **options):
    """As many processes, that find one another by TF_CONFIG."""
    return [
        start(workdir, *flags, environment={"TF_CONFIG": config}, **options)
        for config in make_configs(count)
    ]


class Forked:
    """A process that need not import TensorFlow, which takes 5 s: the one that it is forked from
    has, and has not started it. It runs `run_little`, and is told and asked as those of `start`.
    """

    def __init__(self, config, workdir, *flags):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tensorflow", "keras_senet.cli", "keras_senet.training"])
        arguments = ["train", "--workdir", workdir, "--quiet", *flags]
        self.process = context.Process(
            target=run_little, args=(config, f"{workdir}.log", *map(str, arguments)), daemon=True
        )
        self.process.start()

    def poll(self):
        return self.process.exitcode

    def wait(self, timeout=None):
        self.process.join(timeout)
        return self.process.exitcode

    def send_signal(self, number):
        os.kill(self.process.pid, number)


def run_little(config, log, *arguments):
    """`keras-senet` with a TF_CONFIG and `little`'s dataset and network."""
    import little

    from keras_senet import cli

    os.environ["TF_CONFIG"] = config
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    little.put_in_place()
    sys.exit(cli.main(list(arguments)))


def make_configs(count):
    """TF_CONFIG of as many workers on this machine."""
    cluster = {"worker": [f"localhost:{free_port()}" for _ in range(count)]}
    tasks = [{"type": "worker", "index": index} for index in range(count)]
    return [json.dumps({"cluster": cluster, "task": task}) for task in tasks]


def free_port():
    with socket.socket() as server:
        server.bind(("localhost", 0))
        return server.getsockname()[1]


def finish(*processes):
    """Waits for all; returns their exit statuses."""
    return [process.wait(PATIENCE) for process in processes]


def run_and_stop(begin, workdir, number, times, seed=0):
    """Starts the run so many times, and each time sends one of its processes a signal at a random
    moment after its first new checkpoint.

    Returns the exit statuses of those processes, and how many checkpoints each start added.
    """
    moments = random.Random(seed)
    statuses, added = [], []
    for _ in range(times):
        before = checkpoints(workdir)
        processes = begin()
        wait_for_checkpoint(workdir, before, processes)
        time.sleep(moments.uniform(0, 2))
        hit = moments.choice(processes)
        hit.send_signal(number)
        statuses.append(hit.wait(PATIENCE))
        end(processes)
        added.append(len(checkpoints(workdir) - before))
    return statuses, added


def end(processes):
    """The other processes end by themselves, having lost one, or are killed."""
    for process in processes:
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()


def checkpoints(workdir):
    return {file.name for file in (workdir / "checkpoints").glob("ckpt-*.safetensors")}


def wait_for_checkpoint(workdir, before, processes):
    deadline = time.monotonic() + PATIENCE
    while not checkpoints(workdir) - before and all(
        process.poll() is None for process in processes
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def weights(workdir):
    """All arrays of `model.weights.h5` by name."""
    arrays = {}
    with h5py.File(workdir / "model.weights.h5") as file:
        file.visititems(
            lambda name, item: (
                arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
    assert arrays
    return arrays


def assert_equal_runs(a, b):
    """The same weights to the last bit, and the same table of metrics, if an epoch ended."""
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)
    tables = [
        path.read_text() if path.exists() else None
        for path in (a / "metrics.csv", b / "metrics.csv")
    ]
    assert tables[0] == tables[1]
