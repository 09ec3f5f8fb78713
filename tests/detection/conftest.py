"""The oracle's detector: torchvision's in float64 made the values of oracle/detector.npz."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from oracle_weights import make_weights, shapes_of_detector

import keras_senet
from keras_senet.detection import Anchors, FasterRCNN, torchvision
from keras_senet.models.units import Stem
from keras_senet.weights.readers import Entry

SPEC = FasterRCNN(
    channels=32,
    anchors=Anchors((16, 32, 64, 96, 128)),
    hidden=(64, 64),
    canonical=56.0,
    proposals=(30, 60),
    train_proposals=(60, 120),
    most=40,
    short=96,
    long=128,
)


@pytest.fixture(scope="session")
def oracle():
    return np.load(Path(__file__).parent / "oracle" / "detector.npz")


@pytest.fixture(scope="session")
def detector():
    """Not to be changed."""
    spec = keras_senet.SEResNet18.spec
    spec = replace(spec, depths=(1, 1, 1, 1), se=None, stem=Stem(pool="padded"))
    backbone = keras_senet.SEResNet18.variant(spec)(
        include_top=False, input_shape=(None, None, 3), weights=None
    )
    found = SPEC(backbone, "abcde")
    arrays = make_weights(shapes_of_detector())
    entries = {
        name: Entry(array.shape, lambda array=array: array.astype("float32"))
        for name, array in arrays.items()
    }
    torchvision.assign(found, entries, epsilon_of_zero=False)
    return found
