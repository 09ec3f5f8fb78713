"""`keras-senet train --engine fit` on JAX and torch, and continued there."""

import shlex

import little
import numpy as np
import pytest
import runs

from keras_senet.runs.tables import Metrics

pytestmark = pytest.mark.backend

FLAGS = shlex.split(
    "--recipe digits --engine fit --batch-size 16 --epochs 2 --warmup-epochs 0.5 "
    "--label-smoothing 0.1 --mixup 0.2"
)


def train(workdir, backend, *flags):
    process = runs.start(
        workdir,
        *FLAGS,
        *flags,
        environment={"KERAS_BACKEND": backend},
        program=("-W", "ignore", little.__file__),
    )
    assert runs.finish(process) == [0], workdir.with_suffix(".log").read_text()[-3000:]


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_run_that_is_continued_is_a_whole_one(tmp_path, backend):
    whole, part = tmp_path / "whole", tmp_path / "part"
    train(whole, backend)
    train(part, backend, "--max-steps", 5)
    train(part, backend)
    rows, again = (Metrics(path / "metrics.csv").read() for path in (whole, part))
    assert [row["step"] for row in rows] == [5, 10]
    for row, other in zip(rows, again, strict=True):
        assert row.keys() == other.keys()
        np.testing.assert_allclose(list(row.values()), list(other.values()), rtol=1e-4)
    first, second = runs.weights(whole), runs.weights(part)
    for name, value in first.items():
        np.testing.assert_allclose(value, second[name], rtol=1e-3, atol=1e-4, err_msg=name)
    assert (whole / "curves.png").exists()
