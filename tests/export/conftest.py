"""Files are run in this process; the tests of running them in their own ask for `own_process`."""

import subprocess
import traceback
from types import SimpleNamespace

import pytest

from keras_senet.export import parity, run_file


@pytest.fixture(autouse=True)
def run_here(monkeypatch):
    """Has `run_file.py` called where the exporters would start it: a SavedModel's process takes 5 s to begin."""

    def run(command, **_):
        try:
            run_file.main(*command[-3:])
        except Exception:
            return SimpleNamespace(returncode=1, stderr=traceback.format_exc())
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(parity, "subprocess", SimpleNamespace(run=run))


@pytest.fixture
def own_process(run_here, monkeypatch):
    """Files are run as users run them."""
    monkeypatch.setattr(parity, "subprocess", subprocess)
