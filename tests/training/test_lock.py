"""Two processes do not train in one work directory."""

import errno
import os
import re
import signal
import socket
import subprocess
import sys

import pytest
from runs import ONE_EPOCH

from keras_senet import cli
from keras_senet.runs import lock
from keras_senet.runs.lock import InUseError, locked
from keras_senet.runs.record import read_run
from keras_senet.runs.workdir import WorkDir
from keras_senet.training import Recipe, Trainer

RECIPE = Recipe(epochs=2, batch_size=16)

# Needs no TensorFlow: the module is run by itself
HOLD = f"""
import runpy, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background a shell has it ignored
with runpy.run_path({lock.__file__!r})["locked"](sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def hold():
    """Starts a process that holds a folder."""
    started = []

    def hold(folder):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_folder_is_one_processes_until_it_ends(tmp_path, hold, number):
    process = hold(tmp_path)
    for attempt in (lambda: locked(tmp_path).__enter__(), lambda: WorkDir(tmp_path, RECIPE, {})):
        with pytest.raises(
            InUseError, match=rf"in use by process {process.pid} on {socket.gethostname()}; wait"
        ):
            attempt()
    assert not (tmp_path / "recipe.json").exists()
    WorkDir(tmp_path, RECIPE, {}, writable=False)  # the other workers of that run
    with pytest.raises(
        FileNotFoundError, match="holds no training run"
    ):  # is asked, and not kept from it
        read_run(tmp_path)
    process.send_signal(number)
    process.wait(timeout=60)
    WorkDir(tmp_path, RECIPE, {})
    assert [file.name for file in tmp_path.iterdir()] == ["recipe.json"]


def fail_within(folder):
    with locked(folder):
        with pytest.raises(InUseError, match=f"process {os.getpid()} "), locked(folder):
            pass
        raise KeyError


def test_it_is_given_back_after_an_error_and_holds_in_one_process(tmp_path):
    with pytest.raises(KeyError):
        fail_within(tmp_path / "new")
    with locked(tmp_path / "new"):
        pass
    assert list((tmp_path / "new").iterdir()) == []


def test_a_lock_that_its_holder_removes_meanwhile_is_not_one(tmp_path, monkeypatch):
    """Between opening and locking the file: it is another one then, and a third process may have
    that.
    """
    lock_file, once = lock._lock, []

    def slow(file, folder):
        if not once:
            once.append(os.unlink(tmp_path / ".lock"))
        lock_file(file, folder)

    monkeypatch.setattr(lock, "_lock", slow)
    with locked(tmp_path), pytest.raises(InUseError), locked(tmp_path):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_file_systems_without_locks_go_without(tmp_path, monkeypatch, number):
    def flock(file, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with locked(tmp_path):
        pass
    monkeypatch.setattr(lock, "fcntl", None)
    with locked(tmp_path):
        pass


def test_what_cannot_be_a_folder(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", "/proc/keras_senet"):
        with (
            pytest.raises(OSError, match=f"work directory {str(folder)!r} cannot be written"),
            locked(folder),
        ):
            pass
    refuse = OSError(errno.EROFS, "Read-only file system")
    monkeypatch.setattr(lock.os, "open", lambda *arguments: (_ for _ in ()).throw(refuse))
    with pytest.raises(OSError, match="cannot be written: Read-only file system"), locked(tmp_path):
        pass


@pytest.mark.parametrize(
    ("command", "held"),
    [
        (["train"], ""),
        (["train", "--engine", "fit"], ""),
        (["ablate", "--variants", "se", "--seeds", "0"], ""),
        (["ablate", "--variants", "se", "--seeds", "0"], "se/seed0"),
    ],
    ids=" ".join,
)
def test_commands_end_with_one_line(tmp_path, hold, capsys, command, held):
    process = hold(tmp_path / held)
    assert cli.main([*command, *ONE_EPOCH, "--workdir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(rf"error: The work directory .* is in use by process {process.pid} on", error)


def test_training_holds_the_folder_and_gives_it_back(tmp_path, monkeypatch):
    """From the first to the last write; another trainer of this process comes after it."""
    trainer = Trainer(RECIPE, tmp_path, verbose=False)
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "_restore", lambda: WorkDir(tmp_path, RECIPE, {}))
        with pytest.raises(InUseError):
            trainer.train()
    WorkDir(tmp_path, RECIPE, {})
