"""Exported files run in the process of the tests; the exporters start a process for each."""

import traceback
from functools import partial
from types import SimpleNamespace

from keras_senet.export import parity, run_file


def run_files_here(monkeypatch):
    """Calls `run_file.py` where it would be started: a SavedModel's process takes 5 s to import
    TensorFlow. A file is timed three times, and not for a second. TensorFlow's converter does not
    collect garbage, which takes long in the process of the tests.
    """
    from tensorflow.lite.python import lite

    def run(command, **_):
        _, _, _, *arguments = command  # python -P run_file.py ...
        try:
            run_file.run(*arguments)
        except Exception:
            return SimpleNamespace(returncode=1, stderr=traceback.format_exc())
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(parity, "subprocess", SimpleNamespace(run=run))
    monkeypatch.setattr(lite, "gc", SimpleNamespace(collect=lambda: None))
    monkeypatch.setattr(run_file, "latency_ms", partial(run_file.latency_ms, seconds=0.0))
