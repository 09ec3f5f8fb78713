"""One process at a time in a folder."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:
    fcntl = None  # Windows: folders are not locked there

NAME = ".lock"
HELD = (errno.EAGAIN, errno.EACCES)
UNKNOWN = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


class InUseError(OSError):
    """Another process uses the folder."""


@contextlib.contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Within, no other `locked` of the folder, here or in another process, on any machine that
    shares it.

    The folder is created if need be. The system releases the lock when the process ends, however
    it ends. On file systems without locks nothing is locked.

    Raises:
        InUseError: if the folder is locked; names the process.
        OSError: if it cannot be written.
    """
    path = os.path.join(folder, NAME)
    try:
        os.makedirs(folder, exist_ok=True)
        file = _open_locked(path, folder)
    except InUseError:
        raise
    except OSError as error:
        raise OSError(
            f"The work directory {str(folder)!r} cannot be written: {error.strerror or error}"
        ) from error
    try:
        with contextlib.suppress(OSError):  # a full disk
            os.ftruncate(file, 0)
            os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(file)


def _open_locked(path, folder):
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(file, folder)
            if _is_same(file, path):  # and was not removed by its last holder since it was opened
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _lock(file, folder):
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in HELD:
            holder = os.pread(file, 1000, 0).decode(errors="replace") or "another process"
            raise InUseError(
                f"The work directory {str(folder)!r} is in use by {holder}; wait for its end, or "
                "choose another one"
            ) from error
        if error.errno not in UNKNOWN:
            raise


def _is_same(file, path):
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file), os.stat(path))
    return False
