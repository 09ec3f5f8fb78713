"""A network is published on a Hub of the tests' own, and loaded from it by a process without a
network afterwards.
"""

import contextlib
import dataclasses
import functools
import os
import subprocess
import sys
import threading
import time
from http.server import ThreadingHTTPServer

import keras
import numpy as np
import pytest
import yaml
from hub_host import Hub

import keras_senet
from keras_senet.hub import HubError, loading_code, model_card
from keras_senet.initializers import shapes_only
from keras_senet.models.resnet import SmallResNet
from keras_senet.training import RECIPES
from keras_senet.weights import DownloadError

UNREACHABLE = "http://127.0.0.1:9"
OWN = keras_senet.SEResNet20.spec
SHORT = keras_senet.SEResNet20.variant(dataclasses.replace(OWN, depths=(1, 1, 1)))


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(Hub, "files", {})
    monkeypatch.setattr(Hub, "refused", None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def settings(hub, folder, **more):
    """The environment with the tests' Hub in the place of the real one."""
    return {
        "HF_ENDPOINT": hub,
        "HF_HOME": str(folder),
        "HF_TOKEN": "hf_x",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    } | more


@contextlib.contextmanager
def library(hub, folder, **more):
    """huggingface_hub as a new process has it: it reads its environment when it is imported."""

    def take_out():
        names = [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]
        return {name: sys.modules.pop(name) for name in names}

    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings(hub, folder, **more).items():
            patch.setenv(name, value)
        kept = take_out()
        try:
            yield
        finally:
            take_out()
            sys.modules.update(kept)


@functools.cache
def network(seed):
    keras.utils.set_random_seed(seed)
    return SHORT(weights=None, classes=7)


def push(hub, folder, seed=3):
    with library(hub, folder):
        return keras_senet.push_to_hub(
            network(seed), "me/net", licence="cc-by-4.0", accuracy={"top-1": 0.5}
        )


def load(hub, folder, **more):
    with library(hub, folder, **more):
        return SHORT(weights="hf://me/net", classes=7)


def assert_equal(found, expected):
    for a, b in zip(found.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert found.preprocessing == expected.preprocessing


LOAD = """
import dataclasses, sys, keras_senet
short = dataclasses.replace(keras_senet.SEResNet20.spec, depths=(1, 1, 1))
model = keras_senet.SEResNet20.variant(short)(weights="hf://me/net", classes=7)
keras_senet.save_weights(model, sys.argv[1])
"""


def test_published_and_loaded_again(hub, tmp_path):
    assert push(hub, tmp_path / "one") == f"{hub}/me/net"
    assert Hub.files.keys() == {"me/net/model.safetensors", "me/net/README.md"}
    front = yaml.safe_load(Hub.files["me/net/README.md"].decode().split("---")[1])
    assert front["license"] == "cc-by-4.0"
    for more in ({}, {"HF_HUB_OFFLINE": "1"}):
        assert_equal(load(hub, tmp_path / "two", **more), network(3))
    push(hub, tmp_path / "one", seed=4)
    assert_equal(load(hub, tmp_path / "two"), network(4))
    for more in ({}, {"HF_HUB_OFFLINE": "1"}):
        assert_equal(load(UNREACHABLE, tmp_path / "two", **more), network(4))


@pytest.mark.slow
def test_loaded_offline_in_a_process_of_its_own(hub, tmp_path):
    """Over 5 s: it imports TensorFlow. The same in the tests' own process is above."""
    push(hub, tmp_path / "one", seed=4)
    load(hub, tmp_path / "two")
    environment = os.environ | settings(UNREACHABLE, tmp_path / "two", HF_HUB_OFFLINE="1")
    command = [sys.executable, "-c", LOAD, str(tmp_path / "a.weights.h5")]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    assert_equal(SHORT(weights=tmp_path / "a.weights.h5", classes=7), network(4))


def test_a_download_that_breaks_off_says_so(hub, monkeypatch, tmp_path):
    monkeypatch.setattr(Hub, "files", {"me/net/model.safetensors": bytes(100_000)})
    monkeypatch.setattr(Hub, "broken", True)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between the library's attempts
    with pytest.raises(DownloadError, match="^Weights cannot be downloaded"):
        load(hub, tmp_path)


@pytest.mark.parametrize(
    ("more", "reason"), [({}, "404 Not Found"), ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE")]
)
def test_what_is_not_on_the_hub_says_so(hub, more, reason, tmp_path):
    message = f"^Weights cannot be downloaded.*{reason}"
    with pytest.raises(DownloadError, match=message) as error:
        load(hub, tmp_path, **more)
    assert "\n" not in str(error.value)
    assert "hf://me/net, model.safetensors elsewhere and pass its path as `weights`" in str(
        error.value
    )


def test_an_upload_that_the_hub_refuses(hub, tmp_path):
    Hub.refused = 403
    with pytest.raises(HubError, match="^'me/net' cannot be uploaded: "):
        push(hub, tmp_path)
    assert Hub.files == {}


def test_an_upload_without_a_network(tmp_path):
    with pytest.raises(HubError, match="^'me/net' cannot be uploaded: "):
        push(UNREACHABLE, tmp_path)


def small(**options):
    return keras_senet.application(SmallResNet((1, 1)), name="mine", input_size=32, classes=10)(
        weights=None, **options
    )


def test_the_card():
    card = model_card(
        small(),
        "me/net",
        accuracy={"top-1": 0.9123, "top-5": 1},
        recipe=RECIPES["digits"],
        dataset="mnist",
    )
    front = yaml.safe_load(card.split("---")[1])
    assert front == {
        "library_name": "keras_senet",
        "license": "apache-2.0",
        "pipeline_tag": "image-classification",
        "tags": ["keras", "squeeze-and-excitation"],
        "datasets": ["mnist"],
    }
    for part in (
        "top-1 91.23%, top-5 100.00%",
        "SmallResNet(depths=(1, 1)",
        "| epochs | `",
        "32 x 32",
        "127.5",
    ):
        assert part in card
    assert "not stated" in model_card(small(), "me/net")


def of_its_size(model):
    """Whose preprocessing says the size of its input, as the dense layers of VGG ask for."""
    model.preprocessing = dataclasses.replace(model.preprocessing, size=model.input_shape[1])
    return model


VGG = dataclasses.replace(keras_senet.SEVGG16.spec, depths=(1, 1, 1, 1, 1))
MODELS = {
    "unknown": small,
    "classes": lambda: keras_senet.SEResNet20(classes=7),
    "grey": lambda: keras_senet.SEResNet20(input_shape=(32, 32, 1)),
    "headless": lambda: keras_senet.SEResNet20(include_top=False, pooling="avg"),
    "feature map": lambda: keras_senet.SEResNet20(include_top=False, input_shape=(None, None, 3)),
    "timm": lambda: keras_senet.SEResNet18.variant(
        keras_senet.SEResNet18.spec.published_by("timm")
    )(weights=None),
    "vgg": lambda: of_its_size(
        keras_senet.SEVGG16.variant(VGG)(weights=None, input_shape=(32, 32, 3))
    ),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_cards_code_makes_the_same_network(model, tmp_path):
    model = model()
    keras_senet.save_weights(model, tmp_path / "a.safetensors")
    assert "# net" in model_card(model, "me/net")
    code = loading_code(model, "me/net").replace("hf://me/net", str(tmp_path / "a.safetensors"))
    scope = {}
    exec(code, scope)
    assert scope["model"].spec == model.spec
    assert scope["model"].count_params() == model.count_params()


@pytest.mark.parametrize("name", ["SEResNet50", "SEResNeXt50", "SENet154", "SEResNet152D"])
def test_a_variant_is_made_from_the_network_that_it_is_most_like(name):
    """Networks of one class of specs have different heads and sizes."""
    constructor = getattr(keras_senet, name)
    with shapes_only():
        model = constructor.variant(dataclasses.replace(constructor.spec, se=None))(weights=None)
    assert f"model = keras_senet.{name}.variant(ResNet(" in loading_code(model, "me/net")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"repo_id": "net"}, "`repo_id` must be 'owner/name'. Received: repo_id='net'"),
        ({"repo_id": 3}, "repo_id=3"),
        ({"repo_id": "me/net\nx"}, "repo_id="),
        ({"licence": ""}, "licence=''"),
        ({"licence": "mit\ntags: [x]"}, "licence="),
        ({"dataset": "a b"}, "dataset='a b'"),
        ({"accuracy": {"top-1": 91}}, "numbers of 0..1.*91"),
        ({"accuracy": {"top\n# 1": 0.9}}, "names of one line"),
    ],
)
def test_a_wrong_argument_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_senet.push_to_hub(small(), **{"repo_id": "me/net"} | arguments)


def test_a_foreign_model_is_refused():
    foreign = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="foreign")
    with pytest.raises(ValueError, match="a constructor of keras_senet made. Received: 'foreign'"):
        keras_senet.push_to_hub(foreign, "me/net")
