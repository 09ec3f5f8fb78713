"""The table of published weights, and what `weights=` means."""

import re
from collections import Counter
from pathlib import Path

import pytest

import keras_senet
from keras_senet import models, networks
from keras_senet.weights import Checkpoint, resolve
from keras_senet.weights.registry import CHECKPOINTS, list_packaged


def test_every_row_is_of_a_network_with_its_number_of_parameters():
    for checkpoint in CHECKPOINTS:
        assert checkpoint.model in models.__all__
        assert 0 < checkpoint.top1 < checkpoint.top5 < 100
        assert 0 < checkpoint.crop_fraction <= 1
        assert checkpoint.interpolation in ("bilinear", "bicubic")
        assert re.fullmatch(r"imagenet(-\w+)?", checkpoint.tag)
        assert checkpoint.hub_id or re.fullmatch(r"[0-9a-f]{8,}", checkpoint.sha256)
        assert (checkpoint.test_size is None) == (checkpoint.test_top1 is None)
    assert max(Counter((c.model, c.tag) for c in CHECKPOINTS).values()) == 1


def test_parameters_are_those_of_the_network():
    """As the table has them, which test_oracle.py compares with the built networks."""
    for checkpoint in CHECKPOINTS:
        count = networks.find_row(checkpoint.model).parameters
        assert round(count / 1e6, 2) == checkpoint.parameters


def test_list_weights():
    assert keras_senet.list_weights() == (*CHECKPOINTS, *list_packaged())
    assert len(CHECKPOINTS) == 23
    tags = [checkpoint.tag for checkpoint in keras_senet.list_weights("SEResNet50")]
    assert tags == ["imagenet", "imagenet-a1", "imagenet-a2", "imagenet-a3", "imagenet-ra2"]
    assert keras_senet.list_weights(keras_senet.SEResNet50) == keras_senet.list_weights(
        "SEResNet50"
    )
    with pytest.raises(
        ValueError,
        match="`model` has no published weights; these have: SEResNet18.*20.*SEMobileNet",
    ):
        keras_senet.list_weights("SEMobileNet")


def test_the_settings_of_a_checkpoint():
    (a3,) = (c for c in CHECKPOINTS if (c.model, c.tag) == ("SEResNet50", "imagenet-a3"))
    assert a3.preprocessing == keras_senet.Preprocessing(
        (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), 160, 0.95, "bicubic"
    )
    assert a3.url == "https://huggingface.co/timm/seresnet50.a3_in1k/resolve/main/model.safetensors"
    assert a3.sha256 is None
    authors = keras_senet.list_weights("SEResNet50")[0]
    assert authors.url.endswith("releases/download/v0.1-cadene/se_resnet50-ce0d4300.pth")
    assert authors.sha256 == "ce0d4300"
    assert authors.hub_id is None


def test_find(tmp_path):
    assert resolve("imagenet", "se_resnet50").tag == "imagenet"
    assert resolve("imagenet", "se_resnet152d").tag == "imagenet-ra2"  # the only one
    assert isinstance(resolve("imagenet-gluon", "senet154"), Checkpoint)
    assert resolve("hf://me/net", "se_mobilenet") == "hf://me/net"
    path = tmp_path / "a.pth"
    path.touch()
    assert resolve(str(path), "se_mobilenet") == path
    with pytest.raises(
        ValueError, match="there are no published weights for 'se_mobilenet'.*weights='imagenet'"
    ):
        resolve("imagenet", "se_mobilenet")
    with pytest.raises(
        ValueError, match="'imagenet', 'imagenet-gluon', the path.*weights='imagenet-a1'"
    ):
        resolve("imagenet-a1", "senet154")


def test_the_docstring_lists_the_tags():
    assert '"imagenet", "imagenet-gluon", ' in keras_senet.SENet154.__doc__
    assert "there are no published ones" in keras_senet.SEMobileNet.__doc__
    assert Path(keras_senet.__file__).with_name("imagenet_classes.txt").is_file()
