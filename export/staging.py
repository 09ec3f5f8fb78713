"""A path that is written whole or not at all."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from keras_senet.fields import check_argument, fits_utf8


@contextlib.contextmanager
def stage_file(path: str | os.PathLike, overwrite: bool, is_folder: bool) -> Iterator[Path]:
    """A path to write to, beside `path`; what is there at the end replaces `path`, and an error
    leaves `path` as it is.

    Raises:
        ValueError: if `path` is none.
        FileExistsError: if there is something at `path` and `overwrite` is False, or something of
            another kind.
        OSError: if the folder cannot be written.
    """
    # What is not UTF-8 no runtime opens.
    is_text = "\0" not in str(path) and fits_utf8(str(path))
    is_path = isinstance(path, str | os.PathLike) and is_text
    check_argument("path", path, is_path, "a path, as text that UTF-8 can hold or a Path")
    given, path = str(path), Path(os.path.realpath(path))
    check_replaceable(given, overwrite, is_folder)
    with (
        _folders_of(path, given),
        tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder,
    ):
        target, former = Path(folder, "new", path.name), Path(folder, "former")
        target.parent.mkdir()
        with _naming_full_disk(given):
            yield target
        if not path.is_dir():
            os.replace(target, path)
            return
        try:  # a folder is not replaced in one step
            os.replace(path, former)
            os.replace(target, path)
        except BaseException:  # Ctrl-C, too: what was there is in `former`, which is removed
            if former.exists() and not path.exists():
                os.replace(former, path)
            raise


@contextlib.contextmanager
def _naming_full_disk(given):
    """Within, what is raised where a disk is full becomes an OSError that names the path."""
    try:
        yield
    except Exception as error:  # TensorFlow's is not an OSError
        if os.strerror(errno.ENOSPC) not in str(error):
            raise
        raise OSError(
            f"{given!r} cannot be written: no space is left there or in {tempfile.gettempdir()!r}"
        ) from error


@contextlib.contextmanager
def _folders_of(path, given):
    """The folders that `path` is in are there; those that were made for it are gone after an error.

    Raises:
        OSError: if nothing can be written there.
    """
    made = [folder for folder in path.parents if not os.path.lexists(folder)]
    with contextlib.ExitStack() as after_error:
        after_error.callback(_remove, made)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryDirectory(dir=path.parent).cleanup()
        except OSError as error:
            raise OSError(f"{given!r} cannot be written: {error.strerror or error}") from error
        yield
        after_error.pop_all()


def _remove(folders):
    """Removes folders, the innermost first, unless something else has come into them."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def check_replaceable(path: str | os.PathLike, overwrite: bool, is_folder: bool) -> None:
    """Raises FileExistsError unless `path` is free, or, with `overwrite`, an export of its kind."""
    given, path = str(path), Path(os.path.realpath(path))
    if not path.exists():
        return
    if not is_folder and not path.is_file():
        kind = "a folder" if path.is_dir() else "a pipe or a device"
        raise FileExistsError(f"{given!r} is {kind}; `path` must name a file")
    if is_folder and not path.is_dir():
        raise FileExistsError(f"{given!r} is a file; `path` must name a folder for the SavedModel")
    if is_folder and not any(path.iterdir()) and path not in (Path.cwd(), *Path.cwd().parents):
        return
    if is_folder and not (path / "saved_model.pb").exists():
        raise FileExistsError(
            f"{given!r} is a folder with other things in it; choose another `path`"
        )
    if not overwrite:
        raise FileExistsError(
            f"{given!r} exists; pass `overwrite=True` (--overwrite) to replace it"
        )
