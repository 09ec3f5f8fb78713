"""The authors' Caffe files give what an independent computation of their layers gives: `pytest -m
peer`.
"""

import importlib

import numpy as np
import pytest

import keras_senet
from keras_senet.imagenet import imagenet_classes
from keras_senet.preprocessing import CAFFE

pytestmark = pytest.mark.peer


@pytest.mark.parametrize(
    ("listing", "name"),
    [
        ("SE-ResNet-50", "SEResNet50"),
        ("SE-ResNeXt-50", "SEResNeXt50"),
        ("SENet-154", "SENet154"),
        ("SE-BN-Inception", "SEBNInception"),
    ],
)
def test_equal_probabilities(listing, name, tmp_path):
    caffe_network, torch = (importlib.import_module(name) for name in ("caffe_network", "torch"))
    network = caffe_network.Network(listing)
    network.save(tmp_path / "authors.caffemodel")
    model = getattr(keras_senet, name)(weights=tmp_path / "authors.caffemodel")
    assert model.preprocessing == CAFFE
    rgb = np.random.default_rng(0).normal(size=(2, 224, 224, 3)).astype("float32")
    bgr = torch.from_numpy(rgb[..., ::-1].transpose(0, 3, 1, 2).copy())
    theirs = network.run(bgr).numpy()
    order = [imagenet_class.caffe_index for imagenet_class in imagenet_classes()]
    difference = np.log(model(rgb).numpy()) - np.log(theirs[:, order])
    assert np.abs(difference).max() / np.log(theirs).std() < 1e-4
