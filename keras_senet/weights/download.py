"""The files of published weights: from the caches of Keras and of the Hub, or downloaded and
verified.
"""

import contextlib
import hashlib
import http.client
import os
import socket
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path

import keras

from keras_senet.extras import require
from keras_senet.files import check_folder, replacing
from keras_senet.weights.registry import HUB, Checkpoint, PackagedWeights

FOLDER = "models/keras_senet"  # below KERAS_HOME
FILE = "model.safetensors"  # of a repository on the Hub
PATIENCE = 10  # seconds without a response
_lock = threading.Lock()


class DownloadError(OSError):
    """Published weights are not to be had; the message says which file to fetch, and where to."""


def fetch(source: Checkpoint | Path | str) -> Path:
    """The path of a `Checkpoint`, of a Hub repository "hf://owner/name", or of a path itself.

    A file in the cache is used as it is; its SHA-256 is compared where the publishers have given
    one.

    Raises:
        DownloadError: if there is no network, or what arrived is not what was published.
    """
    if isinstance(source, PackagedWeights):
        return source.path
    if isinstance(source, Checkpoint):
        kept = cache_folder() / source.file_name
        if source.hub_id is None:
            return _from_host(source, kept)
        return kept if kept.is_file() else _from_hub(source.hub_id, source.url, kept)
    if str(source).startswith(HUB):
        repository = str(source).removeprefix(HUB)
        if repository.count("/") != 1 or not all(repository.split("/")):
            raise ValueError(
                f"A repository of the Hub is 'hf://owner/name'. Received: weights={source!r}"
            )
        return _from_hub(repository, f"{HUB}{repository}, {FILE}")
    return Path(source)


def cache_folder() -> Path:
    """Where files from plain hosts are kept; without a network, where to put any file."""
    return keras_home() / FOLDER


def keras_home() -> Path:
    """Keras' own folder, which KERAS_HOME sets."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras").expanduser()


def _from_host(checkpoint, kept):
    """The file of a plain host, each time compared with the SHA-256 in its name."""
    if kept.is_file():
        if sha256(kept).startswith(checkpoint.sha256):
            return kept
        raise DownloadError(
            f"The cached file {str(kept)!r} is not what was published: its SHA-256 does not start "
            f"with {checkpoint.sha256}. Delete it, and it is downloaded again"
        )
    check_folder(kept.parent, "KERAS_HOME")  # Keras would take another folder silently
    _check_reachable(checkpoint.url, kept)
    kept.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            tempfile.TemporaryDirectory(dir=kept.parent, prefix=".arriving-") as folder,
            _timeout(PATIENCE),
        ):
            subfolder = f"{FOLDER}/{Path(folder).name}"
            arrived = keras.utils.get_file(
                kept.name, checkpoint.url, cache_dir=str(keras_home()), cache_subdir=subfolder
            )
            if not sha256(arrived).startswith(checkpoint.sha256):
                raise DownloadError(
                    f"What arrived from {checkpoint.url} is not what was published: its SHA-256 "
                    f"does not start with {checkpoint.sha256}. Nothing was kept"
                )
            with replacing(kept) as partial:
                os.replace(arrived, partial)
        return kept
    except DownloadError:
        raise
    except Exception as error:  # get_file raises bare ones
        raise DownloadError(_by_hand(checkpoint.url, kept, error)) from error


def _from_hub(repository, url, kept=None):
    """The `model.safetensors` of a repository, by the Hub's library and its cache.

    A checkpoint of the registry, which has a place `kept`, does not change: it is taken from the
    cache without asking. Any other repository is asked whether it has a newer file, unless there is
    no network.
    """
    hub = require("huggingface_hub", "weights")
    errors, constants = (
        require(f"huggingface_hub.{name}", "weights") for name in ("errors", "constants")
    )
    try:
        cached = Path(hub.hf_hub_download(repository, FILE, local_files_only=True))
    except errors.LocalEntryNotFoundError:
        cached = None
    except errors.HFValidationError as error:
        raise ValueError(
            f"A repository of the Hub is 'hf://owner/name'. Received: {repository!r}"
        ) from error
    if cached and (kept or constants.HF_HUB_OFFLINE):
        return cached
    try:
        if not constants.HF_HUB_OFFLINE:
            reach(hub.hf_hub_url(repository, FILE), PATIENCE)
    except OSError as error:
        if cached:
            return cached
        raise DownloadError(_by_hand(url, kept, error)) from error
    try:
        return Path(hub.hf_hub_download(repository, FILE, etag_timeout=PATIENCE))
    except Exception as error:  # of the library, and of what it uses for HTTP: no common class
        is_missing = isinstance(error, errors.LocalEntryNotFoundError)  # which tells no reason
        reason = (is_missing and error.__cause__) or error
        raise DownloadError(_by_hand(url, kept, reason)) from error


def _check_reachable(url, kept):
    """Raises DownloadError at once without a network: the libraries would try for minutes."""
    try:
        reach(url, PATIENCE)
    except OSError as error:
        raise DownloadError(_by_hand(url, kept, error)) from error


def reach(url: str, patience: float) -> None:
    """Raises OSError unless a host responds within so many seconds, in whatever way."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=patience).close()
    except urllib.error.HTTPError:
        return  # a response
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"{url} responds in no way that can be understood: {error!r}") from error


def _by_hand(url, kept, error):
    where = f"put it at {str(kept)!r}" if kept else "pass its path as `weights`"
    reason = " ".join(str(error).split()).rstrip(". ")
    return f"Weights cannot be downloaded: {reason}. Fetch {url} elsewhere and {where}"


@contextlib.contextmanager
def _timeout(seconds):
    """For sockets opened in the block; get_file takes no such argument. One block at a time."""
    with _lock:
        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(seconds)
        try:
            yield
        finally:
            socket.setdefaulttimeout(before)


def sha256(path: str | os.PathLike) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
