"""Commands in this process, without TensorFlow's start."""

import subprocess

import little
import pytest

import keras_senet_cli
from keras_senet.cli import tables


@pytest.fixture
def graphs_as_traced():
    """For what does not depend on TensorFlow's optimizer."""
    with little.graphs_as_traced():
        yield


@pytest.fixture
def run(capsys, monkeypatch):
    """Runs a command; returns its status and what it printed, as of a process."""
    monkeypatch.setattr(tables.console, "width", 120)

    def run(*arguments):
        status = keras_senet_cli.main(list(map(str, arguments)))
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, status, printed.out, printed.err)

    return run
