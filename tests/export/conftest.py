"""Files are run in this process; the tests of running them in their own ask for `own_process`."""

import subprocess

import little
import pytest
from run_here import run_files_here

from keras_senet.export import parity


@pytest.fixture(autouse=True)
def files_run_here(monkeypatch):
    run_files_here(monkeypatch)


@pytest.fixture
def graphs_as_traced():
    """For what does not depend on TensorFlow's optimizer, which takes longer than running a little
    file; test_export.py and test_saved_model_folding.py have it.
    """
    with little.graphs_as_traced():
        yield


@pytest.fixture
def own_process(files_run_here, monkeypatch):
    """Files are run as users run them."""
    monkeypatch.setattr(parity, "subprocess", subprocess)
