"""What becomes of a path where an export fails, or is interrupted."""

import errno
import os
from unittest import mock

import pytest
import tensorflow as tf

from keras_senet.export import staging


def write(path, content="new", *, is_folder=False):
    """Stages a file, or a folder with one, in place of what is at the path."""
    with staging.stage_file(path, overwrite=True, is_folder=is_folder) as target:
        if is_folder:
            target.mkdir()
            target = target / "saved_model.pb"
        target.write_text(content)


@pytest.mark.parametrize("path", [b"file", None, 3, "a\0b", "caf\udce9"])
def test_what_is_no_path(path):
    with pytest.raises(ValueError, match=r"^`path` must be a path, .*Received: path="):
        write(path)


def test_a_pipe_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileExistsError, match=r"is a pipe or a device; `path` must name a file"):
        write(tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


FULL = os.strerror(errno.ENOSPC)


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, FULL), tf.errors.ResourceExhaustedError(None, None, f"part-0; {FULL}")],
    ids=["Python", "TensorFlow"],
)
def test_a_full_disk(error, tmp_path):
    with (
        pytest.raises(OSError, match=r"file' cannot be written: no space is left there or in"),
        staging.stage_file(tmp_path / "file", overwrite=False, is_folder=False),
    ):
        raise error
    assert not list(tmp_path.iterdir())


def test_a_file_is_replaced_in_one_step(tmp_path, monkeypatch):
    write(tmp_path / "file", "old")
    monkeypatch.setattr(staging.os, "replace", mock.Mock(wraps=os.replace))
    write(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "new"
    staging.os.replace.assert_called_once()


def test_a_folder_whose_replacement_is_interrupted_is_kept(tmp_path, monkeypatch):
    write(tmp_path / "folder", "old", is_folder=True)
    steps = [mock.DEFAULT, KeyboardInterrupt, mock.DEFAULT]
    monkeypatch.setattr(staging.os, "replace", mock.Mock(wraps=os.replace, side_effect=steps))
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "folder", is_folder=True)
    assert (tmp_path / "folder" / "saved_model.pb").read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]
