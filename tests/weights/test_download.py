"""Downloads from a host of the tests' own: verified, kept once, and without a network one sentence
that helps.
"""

import dataclasses
import hashlib
import http.server
import os
import socket
import threading
import time

import foreign
import numpy as np
import pytest

import keras_senet
from keras_senet.models.resnet import ResNet
from keras_senet.weights import DownloadError, download, registry
from keras_senet.weights.download import cache_folder, fetch

CONTENT = b"weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()[:8]


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `files`; "short-" files are cut off in the middle, "stuck-" ones do not end."""

    files: dict = {}  # noqa: RUF012
    requests: list = []  # noqa: RUF012

    def do_HEAD(self):
        self.send(body=False)

    def do_GET(self):
        self.requests.append(self.path)
        self.send(body=True)

    def send(self, body):
        content = self.files.get(self.path.rpartition("/")[2])
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(
                content[: len(content) // 2]
                if "short-" in self.path or "stuck-" in self.path
                else content
            )
            if "stuck-" in self.path:
                time.sleep(3)

    def log_message(self, *_):
        pass


@pytest.fixture
def host(monkeypatch, tmp_path):
    """A host of releases, and an empty Keras home."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(registry, "RELEASES", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setattr(Handler, "files", {})
    monkeypatch.setattr(Handler, "requests", [])
    yield server
    server.shutdown()
    server.server_close()


def checkpoint(file):
    return dataclasses.replace(registry.CHECKPOINTS[0], file=file)


def kept():
    return [path.name for path in cache_folder().glob("*")] if cache_folder().exists() else []


def test_a_file_is_downloaded_once(host, capsys):
    name = f"net-{DIGEST}.pth"
    Handler.files[name] = CONTENT
    path = fetch(checkpoint(name))
    assert path == cache_folder() / name
    assert path.read_bytes() == CONTENT
    assert "Downloading" in capsys.readouterr().out
    assert fetch(checkpoint(name)) == path
    assert len(Handler.requests) == 1
    assert kept() == [name]


@pytest.mark.parametrize("content", [b"other weights", b"<html>Not Found</html>", b""])
def test_what_is_not_what_was_published_is_not_kept(host, content):
    name = f"net-{DIGEST}.pth"
    Handler.files[name] = content
    with pytest.raises(DownloadError, match=f"not what was published.*{DIGEST}. Nothing was kept"):
        fetch(checkpoint(name))
    assert kept() == []


def test_a_broken_download_leaves_nothing(host):
    name = f"short-{DIGEST}.pth"
    Handler.files[name] = CONTENT * 100_000
    with pytest.raises(DownloadError, match=name):
        fetch(checkpoint(name))
    assert kept() == []


def test_a_host_that_stops_answering(host, monkeypatch):
    monkeypatch.setattr(download, "PATIENCE", 1)
    name = f"stuck-{DIGEST}.pth"
    Handler.files[name] = CONTENT
    with pytest.raises(
        DownloadError, match=f"Fetch http.*{name} elsewhere and put it at '.*{name}'"
    ):
        fetch(checkpoint(name))
    assert kept() == []


def test_a_host_that_answers_nonsense(monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            with server.accept()[0] as connection:
                connection.sendall(b"nonsense\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        monkeypatch.setenv("KERAS_HOME", str(tmp_path))
        monkeypatch.setattr(registry, "RELEASES", f"http://127.0.0.1:{server.getsockname()[1]}/")
        with pytest.raises(DownloadError, match=r"Weights cannot be downloaded.*Fetch http"):
            fetch(checkpoint("net-00000000.pth"))


def test_a_missing_file_says_so(host):
    with pytest.raises(DownloadError, match=r"404.*Fetch http"):
        fetch(checkpoint("gone-00000000.pth"))
    assert kept() == []


def test_an_error_of_several_lines(host, monkeypatch):
    """As urllib's of an endless redirect."""
    import keras

    def loop(*_, **options):
        raise Exception("an infinite loop.\nThe last message was:\nFound")

    monkeypatch.setattr(keras.utils, "get_file", loop)
    with pytest.raises(DownloadError, match="infinite loop. The last message was: Found. Fetch"):
        fetch(checkpoint("net-00000000.pth"))


def test_an_interrupted_download_leaves_nothing(host, monkeypatch):
    import keras

    def interrupted(name, _, cache_dir, cache_subdir):
        folder = download.Path(cache_dir, cache_subdir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.utils, "get_file", interrupted)
    name = f"net-{DIGEST}.pth"
    Handler.files[name] = CONTENT
    with pytest.raises(KeyboardInterrupt):
        fetch(checkpoint(name))
    assert kept() == []


def test_a_cached_file_that_changed_is_refused_without_a_download(host):
    name = f"net-{DIGEST}.pth"
    cache_folder().mkdir(parents=True)
    (cache_folder() / name).write_bytes(b"changed")
    with pytest.raises(DownloadError, match="Delete it, and it is downloaded again"):
        fetch(checkpoint(name))
    assert Handler.requests == []


def test_a_file_that_was_put_there_by_hand_needs_no_network(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    a1 = keras_senet.list_weights("SEResNet50")[1]
    cache_folder().mkdir(parents=True)
    (cache_folder() / a1.file_name).write_bytes(CONTENT)
    assert fetch(a1) == tmp_path / "models" / "keras_senet" / "SEResNet50-imagenet-a1.safetensors"


@pytest.mark.parametrize("below", ["", "models", "models/keras_senet"])
def test_an_unwritable_cache_is_named(below, host, monkeypatch, tmp_path):
    home = tmp_path / "own"
    (home / below).parent.mkdir(parents=True, exist_ok=True)
    (home / below).touch()
    monkeypatch.setenv("KERAS_HOME", str(home))
    Handler.files[f"net-{DIGEST}.pth"] = CONTENT
    with pytest.raises(OSError, match=f"^KERAS_HOME cannot be written: .*{below}' is not a folder"):
        fetch(checkpoint(f"net-{DIGEST}.pth"))


@pytest.mark.parametrize("tag", ["imagenet", "imagenet-a1"])
def test_without_a_network(tag, monkeypatch, tmp_path):
    """Nothing listens on port 9; where it is: what to fetch, from where, and where to put it."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(DownloadError) as error:
        keras_senet.SEResNet50(weights=tag)
    assert time.monotonic() - start < 20
    (source,) = (c for c in keras_senet.list_weights("SEResNet50") if c.tag == tag)
    assert source.url in str(error.value)
    assert str(tmp_path / "models" / "keras_senet" / source.file_name) in str(error.value)


def test_a_whole_constructor_from_a_host(host, monkeypatch):
    """`weights="imagenet"` end to end: download, verification, reading, variant, preprocessing."""
    constructor = keras_senet.application(ResNet((1, 1)), name="se_resnet50", input_size=64)
    network = constructor(weights=None)
    content = foreign.pth(foreign.torch_state(network))
    name = f"se_resnet50-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    Handler.files[name] = content
    row = dataclasses.replace(keras_senet.list_weights("SEResNet50")[0], file=name, input_size=96)
    monkeypatch.setattr(registry, "CHECKPOINTS", (row,))
    loaded = constructor()
    assert loaded.preprocessing == row.preprocessing
    assert loaded.input_shape == (None, 96, 96, 3)
    images = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype("float32")
    same_size = constructor(input_shape=(64, 64, 3))
    np.testing.assert_array_equal(same_size(images), network(images))
    with pytest.raises(ValueError, match="classes=10"):
        constructor(classes=10)
    assert len(Handler.requests) == 1


@pytest.mark.parametrize("name", ["hf://", "hf://me", "hf://me/", "hf://me/net/x"])
def test_a_wrong_repository_is_named(name):
    with pytest.raises(ValueError, match="'hf://owner/name'"):
        keras_senet.SEResNet18(weights=name)


def test_the_keras_home(monkeypatch):
    monkeypatch.delenv("KERAS_HOME", raising=False)
    assert cache_folder() == download.Path(os.path.expanduser("~/.keras/models/keras_senet"))
