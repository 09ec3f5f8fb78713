"""The same weights have the same outputs on TensorFlow, JAX and torch: `pytest -m backend`."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import TINY

BACKENDS = ("jax", "torch")
TESTS = Path(__file__).parents[1]
pytestmark = pytest.mark.backend


def run(backend, mode, folder):
    """Writes or reads weights in a process of another backend; fails if the backend is missing."""
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(TESTS)}
    command = [sys.executable, str(TESTS / "backends" / "outputs.py"), mode, str(folder)]
    process = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr[-3000:]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """TensorFlow writes for the others, and reads what each of them writes."""
    random = np.random.default_rng(0)
    folders = {backend: tmp_path_factory.mktemp(backend) for backend in ("tensorflow", *BACKENDS)}
    for folder in folders.values():
        for size in {tiny.size for tiny in TINY.values()}:
            images = random.normal(size=(4, size, size, 3)).astype("float32")
            np.save(folder / f"images_{size}.npy", images)
    run("tensorflow", "write", folders["tensorflow"])
    for backend in BACKENDS:
        run(backend, "read", folders["tensorflow"])
        run(backend, "write", folders[backend])
        run("tensorflow", "read", folders[backend])
    return folders


@pytest.mark.parametrize("writer", ["tensorflow", "other"])
@pytest.mark.parametrize("name", [name for name in TINY if name != "preact_pad"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_outputs_agree(outputs, backend, name, writer):
    folder = outputs["tensorflow" if writer == "tensorflow" else backend]
    ours, theirs = (np.load(folder / f"{name}.{b}.npy") for b in ("tensorflow", backend))
    assert ours.std() > 1e-3
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(ours).max()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_network_is_folded(outputs, backend):
    expected, found = (
        np.load(outputs["tensorflow"] / f"{name}.npy")
        for name in ("small.tensorflow", f"folded.{backend}")
    )
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("backend", BACKENDS)
def test_layers_work(backend):
    """The tests of layers that do not need TensorFlow, in a process of another backend."""
    environment = os.environ | {"KERAS_BACKEND": backend}
    flags = ["-q", "-n0", "-p", "no:cacheprovider", "-W", "default"]
    process = subprocess.run(
        [sys.executable, "-m", "pytest", *flags, str(TESTS / "test_shake_shake.py")],
        env=environment,
        capture_output=True,
        text=True,
        cwd=TESTS.parent,
    )
    assert process.returncode == 0, process.stdout[-3000:]
