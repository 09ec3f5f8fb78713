"""What works on every backend, on JAX and torch without TensorFlow:

    KERAS_BACKEND=jax pytest -m backend tests/backends/test_light.py

On these `tests/conftest.py` makes every import of TensorFlow fail, as where it is not installed.
"""

import importlib.util
import sys

import keras
import numpy as np
import pytest
from foreign import caffe_layers, caffemodel, pth, torch_state
from keras import layers
from tiny import TINY, randomize

import keras_senet
from keras_senet.analysis import grad_cam
from keras_senet.extras import MissingExtraError
from keras_senet.initializers import shapes_only

pytestmark = pytest.mark.backend
FAMILIES = [name for name in TINY if name != "preact_pad"]
TINY_IMAGES = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), "uint8")


def outputs(model, images):
    return keras.ops.convert_to_numpy(model(images, training=False))


def images_for(size, count=2):
    return np.random.default_rng(1).normal(size=(count, size, size, 3)).astype("float32")


def random_network(name):
    """A network whose every variable is random, variances above 0."""
    return randomize(TINY[name].constructor(weights=None))


@pytest.fixture(scope="module")
def network():
    return random_network("small")


def test_tensorflow_is_imported_on_its_own_backend_only():
    assert (sys.modules.get("tensorflow") is not None) == (keras.backend.backend() == "tensorflow")


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_built_saved_and_loaded(name, tmp_path):
    model = TINY[name].constructor(weights=None)
    for path in (tmp_path / "a.weights.h5", tmp_path / "a.safetensors"):
        keras_senet.save_weights(model, path)
        loaded = TINY[name].constructor(weights=path)
        for own, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
            np.testing.assert_array_equal(own, other)


@pytest.mark.parametrize(
    ("ending", "write"),
    [
        (".pth", lambda model: pth(torch_state(model))),
        (".caffemodel", lambda model: caffemodel(caffe_layers(model))),
    ],
)
def test_foreign_weights_are_loaded(ending, write, tmp_path):
    model = random_network("bottleneck")
    (tmp_path / f"a{ending}").write_bytes(write(model))
    loaded = TINY["bottleneck"].constructor(weights=tmp_path / f"a{ending}")
    for own, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-6)


def test_grad_cam_is_the_weights_times_the_maps(network):
    images, classes = images_for(32, 3), [1, 0, 7]
    (pool,) = (e for e in network.layers if isinstance(e, layers.GlobalAveragePooling2D))
    maps = outputs(keras.Model(network.input, pool.input), images)
    kernel = keras.ops.convert_to_numpy(network.layers[-1].kernel)
    heat = np.maximum(np.einsum("nhwc,nc->nhw", maps, kernel.T[classes]), 0)
    heat /= heat.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(grad_cam(network, images, classes), heat, atol=1e-5)


def test_a_network_is_fitted_saved_and_loaded(tmp_path):
    """Takes 15 s on JAX, which compiles a training step and each operation outside it."""
    keras.utils.set_random_seed(0)
    model = TINY["small"].constructor(weights=None)
    model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
    images, labels = (
        keras.ops.convert_to_numpy(model.preprocessing.normalize(TINY_IMAGES)),
        np.arange(4),
    )
    norm = next(layer for layer in model.layers if isinstance(layer, layers.BatchNormalization))
    entering = outputs(keras.Model(model.inputs[0], norm.input), images).astype("float64")
    model.train_on_batch(images, labels)
    moved = keras.ops.convert_to_numpy(norm.moving_mean)
    np.testing.assert_allclose(
        moved, (1 - norm.momentum) * entering.mean((0, 1, 2)), rtol=1e-3, atol=1e-6
    )
    losses = model.fit(images, labels, batch_size=4, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "a.keras")
    loaded = keras.models.load_model(tmp_path / "a.keras")
    np.testing.assert_array_equal(outputs(loaded, images), outputs(model, images))


def test_complexity_is_that_of_the_paper():
    """To the digit as in the table of tests/models/test_oracle.py."""
    with shapes_only():
        found = keras_senet.complexity.complexity(keras_senet.SEResNet50(weights=None))
    assert (found.parameters, found.multiply_adds) == (28088024, 3860488192)


def test_feature_maps():
    spec = type(TINY["bottleneck"].spec)((1, 1, 1, 1))
    make = keras_senet.application(spec, name="deep", input_size=64)
    with shapes_only():
        maps = keras_senet.features(make(weights=None, include_top=False)).output
    shapes = {level: (1, *found.shape[1:]) for level, found in maps.items()}
    assert shapes == {
        "C2": (1, 16, 16, 256),
        "C3": (1, 8, 8, 512),
        "C4": (1, 4, 4, 1024),
        "C5": (1, 2, 2, 2048),
    }


def test_se_blocks_are_added():
    """A gate of zeros is sigmoid(0) = 0.5."""
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(16, 3, name="conv")])
    model = keras.Model(model.inputs[0], model.outputs[0])
    gated = keras_senet.add_se(model, after="conv")
    se = gated.get_layer("conv_se")
    se.set_weights([np.zeros_like(value) for value in se.get_weights()])
    images = images_for(8)
    np.testing.assert_allclose(outputs(gated, images), 0.5 * outputs(model, images), rtol=1e-6)


def test_batch_normalization_is_folded(network):
    images = images_for(32)
    folded = keras_senet.export.fold(network)
    assert not [layer for layer in folded.layers if isinstance(layer, layers.BatchNormalization)]
    np.testing.assert_allclose(
        outputs(folded, images), outputs(network, images), rtol=1e-3, atol=1e-6
    )


def test_blocks_are_removed(network):
    plain = keras_senet.analysis.remove_se(network)
    assert not [layer for layer in plain.layers if isinstance(layer, keras_senet.SqueezeExcite)]
    assert set(keras_senet.analysis.gates_by_stage(network, images_for(32))) == {"stage1", "stage2"}


@pytest.mark.parametrize(
    ("mode", "mean", "std"),
    [("torch", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)), ("caffe", (123, 117, 104), 1)],
)
def test_images_are_normalized(mode, mean, std):
    expected = (TINY_IMAGES.astype("float64") - mean) / std
    found = keras_senet.preprocess_input(TINY_IMAGES, mode=mode)
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    own = keras_senet.Preprocessing(mean, std if mode == "torch" else (1, 1, 1)).normalize(
        TINY_IMAGES
    )
    np.testing.assert_allclose(keras.ops.convert_to_numpy(own), expected, rtol=1e-5, atol=1e-5)


def test_predictions_are_decoded():
    probabilities = np.eye(1000, dtype="float32")[[281]]
    ((found, *_),) = keras_senet.decode_predictions(keras.ops.convert_to_tensor(probabilities))
    assert found == ("n02123045", "tabby", 1.0)


def fit_digits(network, path):
    from keras_senet.training import Recipe
    from keras_senet.training.fit import FitTrainer

    FitTrainer(Recipe(batch_size=16), path.with_name("run"))


NEED_TENSORFLOW = {
    "crop": lambda network, path: network.preprocessing.crop(TINY_IMAGES[0]),
    "batches": lambda network, path: keras_senet.data.TrainingData,
    "evaluation": lambda network, path: keras_senet.data.evaluation_batches,
    "fit": fit_digits,
}


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="TensorFlow is there")
@pytest.mark.parametrize("name", NEED_TENSORFLOW)
def test_what_needs_tensorflow_says_so(name, network, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(MissingExtraError, match=r"pip install 'keras_senet\[tensorflow\]'"):
        NEED_TENSORFLOW[name](network, tmp_path / "a.jpg")
    assert [file.name for file in tmp_path.iterdir()] == ["a.jpg"]


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="TensorFlow is there")
def test_datasets_of_tensorflow_datasets_name_the_extra_that_has_all_they_need():
    with pytest.raises(MissingExtraError, match=r"'tensorflow'.*'keras_senet\[train\]'"):
        keras_senet.data.load("cifar10", "train")


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="TensorFlow is there")
@pytest.mark.parametrize("write", ["to_saved_model", "to_tflite"])
def test_what_tensorflow_writes_says_so(write, network, tmp_path):
    accepted = r"KERAS_BACKEND=tensorflow|pip install 'keras_senet\[export\]'"
    with pytest.raises((ValueError, MissingExtraError), match=accepted):
        getattr(keras_senet.export, write)(network, tmp_path / "file")


def test_onnx_is_written_where_its_libraries_are(network, tmp_path):
    if importlib.util.find_spec("onnxruntime"):
        assert keras_senet.export.to_onnx(network, tmp_path / "file.onnx").relative_error < 1e-4
    else:
        with pytest.raises(MissingExtraError, match=r"pip install 'keras_senet\[export\]'"):
            keras_senet.export.to_onnx(network, tmp_path / "file.onnx")
