"""`model.preprocessing` is for the images that the model takes; NumPy's integers are integers."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from data.files import picture
from PIL import Image
from tiny import TINY

import keras_senet
from keras_senet import SE, Preprocessing, data, evaluation
from keras_senet.layers import SqueezeExcite
from keras_senet.preprocessing import IMAGENET
from keras_senet.training import Recipe
from keras_senet.weights.metadata import describe, stored_preprocessing

TINY_NETWORK = TINY["basic"].constructor


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((48, 48, 3), 48),
        ((40, 64, 3), (40, 64)),
        ((None, None, 3), 32),
        ((40, None, 3), (40, 32)),
        (None, 32),
    ],
)
def test_the_size_follows_the_input_shape(shape, size, tmp_path):
    model = TINY_NETWORK(weights=None, input_shape=shape)
    assert model.preprocessing.size == size
    Image.fromarray(picture(70, 90)).save(tmp_path / "a.png")
    image = model.preprocessing.read(tmp_path / "a.png")
    assert image.shape == (model.preprocessing.height, model.preprocessing.width, 3)
    assert model(model.preprocessing.normalize(image[None])).shape == (1, 10)


def test_a_pair_covers_both_sides(tmp_path):
    """Resized in proportion until height and width are covered: Pillow's resizing, and the middle
    of it.
    """
    image = picture(90, 100)
    made = Preprocessing((0.0,) * 3, (1.0,) * 3, size=(32, 48), crop_fraction=0.8)
    assert made.short_side == (40, 60)
    expected = np.asarray(Image.fromarray(image).resize((60, 54), Image.Resampling.BILINEAR))[
        11:43, 6:54
    ]
    assert np.abs(made.crop(image) - expected).max() <= 1
    wide = np.asarray(
        Image.fromarray(picture(40, 200)).resize((200, 40), Image.Resampling.BILINEAR)
    )[4:36, 76:124]
    np.testing.assert_array_equal(made.crop(picture(40, 200)), wide)


def test_evaluation_shows_such_a_network_its_size(tmp_path):
    for name in "ab":
        place = tmp_path / "test" / name
        place.mkdir(parents=True)
        Image.fromarray(picture(70, 90)).save(place / "1.png")
    model = TINY_NETWORK(weights=None, classes=2, input_shape=(40, 64, 3))
    for protocol in (
        None,
        evaluation.Protocol((), (80,), "ten"),
        evaluation.Protocol((40,), (64,)),
    ):
        result = evaluation.evaluate(model, data.load(tmp_path, "test"), protocol=protocol)
        assert result.images.sum() == 2
        if protocol is None:
            ((view,),) = result.views
    assert view.shape == (40, 64)
    assert str(view) == f"centre 40 x 64 from {view.short_side[0]} x {view.short_side[1]} bilinear"


def test_metadata_of_a_pair_and_of_older_files():
    pair = replace(IMAGENET, size=(40, 64), upright=False)
    assert stored_preprocessing({"preprocessing": json.loads(json.dumps(describe(pair)))}) == pair
    old = {name: value for name, value in describe(IMAGENET).items() if name != "upright"}
    assert stored_preprocessing({"preprocessing": old}) == IMAGENET
    assert replace(IMAGENET, size=(224, 224)) == IMAGENET
    for size in ((0, 5), (5, 5, 5), (5, 2.5), True, (5, True)):
        with pytest.raises(ValueError, match="`size` must be"):
            replace(IMAGENET, size=size)


def test_numpy_s_arrays_are_numbers():
    ours = Preprocessing(
        np.float32((1, 2, 3)), np.ones(3), np.array([40, 64]), np.float32(0.5), upright=np.bool_(0)
    )
    assert ours == Preprocessing((1.0, 2.0, 3.0), (1.0, 1.0, 1.0), (40, 64), 0.5, upright=False)
    assert stored_preprocessing({"preprocessing": json.loads(json.dumps(describe(ours)))}) == ours
    for name, wrong in (
        ("mean", 5),
        ("mean", "abc"),
        ("std", ()),
        ("crop_fraction", "a"),
        ("interpolation", ["a"]),
    ):
        with pytest.raises(ValueError, match=f"`{name}`.* must be"):
            replace(IMAGENET, **{name: wrong})


def test_numpy_s_integers_are_integers(tmp_path):
    n = np.int64
    model = TINY_NETWORK(weights=None, classes=n(4), input_shape=(n(32), n(32), 3))
    keras_senet.save_weights(model, tmp_path / "a.weights.h5")
    model.to_json()
    assert json.loads(json.dumps(describe(replace(IMAGENET, size=n(48)))))["size"] == 48
    assert json.dumps(describe(SE(reduction=n(8), stages=(n(2),))))
    assert json.dumps(SqueezeExcite(reduction=n(4)).get_config()["reduction"]) == "4"
    recipe = Recipe(epochs=n(3), milestones=(np.float32(1.5),), learning_rate=np.float64(0.1))
    assert json.loads(json.dumps(asdict(recipe)))["epochs"] == 3
    assert evaluation.Protocol(sizes=(n(32),)) == evaluation.Protocol(sizes=(32,))
    keras_senet.decode_predictions(np.zeros((1, 1000)), top=n(3))
    for wrong in (True, np.bool_(1), 1.0, np.float64(1)):
        with pytest.raises(ValueError, match="`classes` must be"):
            TINY_NETWORK(weights=None, classes=wrong)
