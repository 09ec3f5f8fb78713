"""The border of a canvas: what it changes in networks with and without SE blocks.

A plain network sees it near the border only. The squeeze averages over it: every gate changes, and
with the gates the whole map. So detection gives each image a canvas of its own.
"""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_senet
from keras_senet.analysis.taps import gates
from keras_senet.detection import canvas
from keras_senet.layers import SqueezeExcite
from keras_senet.models.surgery import features
from keras_senet.preprocessing import Preprocessing


@pytest.fixture
def backbone(request):
    """Of one basic block per stage, with random weights."""
    keras.utils.set_random_seed(0)
    spec = replace(keras_senet.SEResNet18.spec, depths=(1, 1, 1, 1))
    spec = spec if request.param else replace(spec, se=None)
    return keras_senet.SEResNet18.variant(spec)(
        include_top=False, weights=None, input_shape=(None, None, 3)
    )


def own_and_wider():
    """A normalised image of 64 x 64 on its own canvas, and on one that is 50% wider."""
    image = tf.random.stateless_normal((1, 64, 64, 3), (0, 0))
    return image, tf.pad(image, [(0, 0), (0, 0), (0, 32), (0, 0)])


@pytest.mark.parametrize("backbone", [False, True], indirect=True, ids=["plain", "SE"])
def test_the_border_changes_all_of_a_map_by_the_gates_only(backbone, request):
    own, wider = (features(backbone)(images)["C3"][0] for images in own_and_wider())
    change = np.abs(wider[:, :8] - own).max(axis=(0, 2)) / np.abs(own).max()  # by column
    if "SE" in request.node.callspec.id:
        assert change.min() > 1e-2
    else:
        assert change[:4].max() < 1e-5  # C3 sees 26 pixels around a place of 8
        assert change[7] > 1e-2


@pytest.mark.parametrize("backbone", [True], indirect=True)
def test_every_block_has_other_gates(backbone):
    own, wider = (gates(backbone)(images) for images in own_and_wider())
    assert len(own) == 4
    for name, value in own.items():
        assert np.abs(wider[name] - value).max() > 1e-3, name


def test_a_border_scales_the_squeeze():
    """A map with a border of zeros, half as wide, has the gates of two thirds of the map."""
    layer = SqueezeExcite(reduction=2)
    own = tf.random.stateless_uniform((1, 6, 8, 4), (0, 0))
    wider = tf.pad(own, [(0, 0), (0, 0), (0, 4), (0, 0)])
    layer(own)
    np.testing.assert_allclose(layer.excitation(wider), layer.excitation(own * 2 / 3), rtol=1e-5)


def test_a_huge_image_is_resized_before_it_is_normalised(monkeypatch):
    """Both orders are the same up to rounding, smaller, larger and in a canvas."""
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), "uint8")
    preprocessing = keras_senet.SEResNet18.preprocessing
    for sides in ((32, 96), (100, 400), (100, 400, (64, 128))):
        expected = canvas.prepare([image], preprocessing, *sides)
        monkeypatch.setattr(canvas, "HUGE", 60 * 90 - 1)
        monkeypatch.setattr(type(preprocessing), "normalize", refuse_sizes(60, 90))
        found = canvas.prepare([image], preprocessing, *sides)
        monkeypatch.undo()
        np.testing.assert_array_equal(found.sizes, expected.sizes)
        np.testing.assert_allclose(found.images, expected.images, atol=2e-6)


def refuse_sizes(height, width):
    """`Preprocessing.normalize`, which is not called with images of these sides."""
    normalize = Preprocessing.normalize

    def checked(self, image, *arguments):
        assert tuple(image.shape[:2]) != (height, width)
        return normalize(self, image, *arguments)

    return checked
