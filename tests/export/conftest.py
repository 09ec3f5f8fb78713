"""Files are run in this process; the tests of running them in their own ask for `own_process`."""

import subprocess

import pytest
import runtimes

from keras_senet.export import parity


@pytest.fixture(autouse=True)
def run_here(monkeypatch):
    runtimes.run_here(monkeypatch)


@pytest.fixture
def own_process(run_here, monkeypatch):
    """Files are run as users run them."""
    monkeypatch.setattr(parity, "subprocess", subprocess)
