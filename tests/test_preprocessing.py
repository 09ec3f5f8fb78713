"""Images in, names out."""

import dataclasses
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_senet import Preprocessing, decode_predictions, preprocess_input
from keras_senet.extras import MissingExtraError
from keras_senet.imagenet import class_order, imagenet_classes
from keras_senet.preprocessing import IMAGENET


def picture(height, width, seed=0):
    """A smooth random image, as photographs are."""
    small = np.random.default_rng(seed).integers(
        0, 256, (height // 16 + 2, width // 16 + 2, 3), "uint8"
    )
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("height", "width"), [(300, 400), (400, 300), (256, 256), (127, 640), (64, 64), (1, 1)]
)
@pytest.mark.parametrize(("size", "fraction"), [(224, 0.875), (160, 0.95), (32, 1.0)])
def test_the_crop_is_that_of_pillow_and_torchvision(height, width, size, fraction, interpolation):
    """timm and torchvision: the short side floor(size / fraction), the long one in proportion, then
    the middle.
    """
    image = picture(height, width)
    short = int(size / fraction)
    new_height, new_width = (short * side // min(height, width) for side in (height, width))
    resized = Image.fromarray(image).resize(
        (new_width, new_height), Image.Resampling[interpolation.upper()]
    )
    top, left = round((new_height - size) / 2), round((new_width - size) / 2)
    expected = np.asarray(resized)[top : top + size, left : left + size]
    ours = dataclasses.replace(
        IMAGENET, size=size, crop_fraction=fraction, interpolation=interpolation
    ).crop(image)
    assert ours.shape == (size, size, 3)
    difference = np.abs(ours.numpy() - expected)
    assert difference.max() <= 3  # Pillow rounds to eight bits between its two passes
    assert difference.mean() < 0.25


def test_the_crop_in_a_graph_and_with_one_channel():
    preprocessing = dataclasses.replace(IMAGENET, size=32)
    image = picture(50, 70)
    traced = tf.function(
        preprocessing.crop, input_signature=[tf.TensorSpec((None, None, None), tf.uint8)]
    )
    np.testing.assert_array_equal(traced(image), preprocessing.crop(image))
    assert preprocessing.crop(image[..., :1]).shape == (32, 32, 1)


def test_without_tensorflow_an_error_names_the_extra(tmp_path, monkeypatch):
    """Files are read by Pillow, where that is installed."""
    Image.fromarray(picture(32, 32)).save(tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    found = Preprocessing.scaled(32).read(tmp_path / "a.png")
    np.testing.assert_array_equal(found, picture(32, 32))
    monkeypatch.setattr("keras_senet.preprocessing.find_spec", lambda name: None)
    for call in (lambda: IMAGENET.read(tmp_path / "a.png"), lambda: IMAGENET.crop(picture(8, 8))):
        with pytest.raises(MissingExtraError, match=r"pip install 'keras_senet\[tensorflow\]'"):
            call()


def test_reading_files(tmp_path):
    preprocessing = Preprocessing.scaled(32)
    Image.fromarray(picture(32, 32)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(preprocessing.read(tmp_path / "a.png"), picture(32, 32))
    for mode, name in (("L", "grey.png"), ("CMYK", "cmyk.jpg"), ("RGBA", "alpha.png")):
        Image.fromarray(picture(40, 50)).convert(mode).save(tmp_path / name)
        assert preprocessing.read(tmp_path / name).shape == (32, 32, 3)
    (tmp_path / "page.jpg").write_text("<html>")
    with pytest.raises(ValueError, match=r"Not an image that can be decoded: .*page\.jpg") as error:
        preprocessing.read(tmp_path / "page.jpg")
    assert "function_node" not in str(error.value)
    with pytest.raises(FileNotFoundError):
        preprocessing.read(tmp_path / "gone.jpg")


def test_preprocess_input():
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), "uint8")
    torch = (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    result = preprocess_input(images)
    assert isinstance(result, np.ndarray)
    assert result.dtype == "float32"
    np.testing.assert_allclose(result, torch, atol=1e-5)
    np.testing.assert_allclose(
        preprocess_input(images, mode="caffe"), images - np.array([123.0, 117, 104])
    )
    first = images.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(
        preprocess_input(first, "channels_first").transpose(0, 2, 3, 1), torch, atol=1e-5
    )
    keras.config.set_image_data_format("channels_first")
    np.testing.assert_allclose(
        preprocess_input(tf.constant(first)), torch.transpose(0, 3, 1, 2), atol=1e-5
    )
    with pytest.raises(ValueError, match="mode='tf'"):
        preprocess_input(images, mode="tf")
    with pytest.raises(ValueError, match="data_format='first'"):
        preprocess_input(images, "first")


def test_other_channels_get_the_average():
    assert IMAGENET.for_channels(3) is IMAGENET
    grey = IMAGENET.for_channels(1)
    assert grey.mean == (pytest.approx(114.495),)
    assert grey.normalize(np.zeros((2, 4, 4, 1))).shape == (2, 4, 4, 1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 0}, "size=0"),
        ({"size": 2.5}, "size=2.5"),
        ({"size": 5000}, "size=5000"),
        ({"crop_fraction": 0}, "crop_fraction"),
        ({"crop_fraction": 1.5}, "1.5"),
        ({"interpolation": "cubic"}, "interpolation='cubic'"),
        ({"std": (0.0, 1.0, 1.0)}, "std=.0.0"),
        ({"mean": (1.0,)}, "mean=.1.0"),
        ({"mean": (float("nan"), 1.0, 1.0)}, "nan"),
    ],
)
def test_a_wrong_field_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(IMAGENET, **fields)


def test_the_classes_are_in_the_order_of_their_ids():
    classes = imagenet_classes()
    ids = [imagenet_class.wordnet_id for imagenet_class in classes]
    assert len(ids) == 1000
    assert ids == sorted(ids)
    assert classes[0][:2] == ("n01440764", "tench")
    assert classes[281][:2] == ("n02123045", "tabby")
    assert classes[999][:2] == ("n15075141", "toilet_tissue")
    assert sorted(class_order()) == list(range(1000))


def test_autograph_converts_a_crop_without_a_warning(caplog):
    graph = tf.function(IMAGENET.crop).get_concrete_function(tf.TensorSpec((300, 260, 3), "uint8"))
    assert graph.structured_outputs.shape == (224, 224, 3)
    assert not caplog.text


def test_predictions_of_other_classes_are_decoded():
    scores, names = np.array([[0.2, 0.7, 0.1]]), ("cat", "n02123045", "dog")
    expected = [("n02123045", "tabby", 0.7), ("cat", "cat", 0.2), ("dog", "dog", 0.1)]
    assert decode_predictions(scores, class_names=names) == [expected]
    assert decode_predictions(scores, top=1, class_names=names) == [expected[:1]]
    with pytest.raises(ValueError, match=r"`preds` must have the shape \(N, 2\)"):
        decode_predictions(scores, class_names=("a", "b"))


def test_decode_predictions():
    scores = np.zeros((2, 1000))
    scores[0, 281], scores[0, 0], scores[1, 999] = 0.7, 0.2, 1
    first, second = decode_predictions(scores, top=2)
    assert first == [("n02123045", "tabby", 0.7), ("n01440764", "tench", 0.2)]
    assert second[0][1] == "toilet_tissue"
    assert len(decode_predictions(tf.constant(scores))[0]) == 5
    with pytest.raises(ValueError, match=r"shape \(N, 1000\).*\(2, 10\)"):
        decode_predictions(np.zeros((2, 10)))
    for top in (0, 1001, 2.0):
        with pytest.raises(ValueError, match=f"top={top}"):
            decode_predictions(scores, top=top)
