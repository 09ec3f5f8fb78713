"""A network whose logits are in the hundreds is exported, and a changed weight in it is still
refused.

Its probabilities are those of a softmax that makes 0.2 of a rounding in float16, and hides what is
wrong where one class has all. The right values: TensorFlow's own rounding for the sensitivity, and
the weights that the test changes.
"""

import contextlib
import functools
import shutil

import keras
import little
import numpy as np
import pytest
from runtimes import WRITERS, run_in_this_process

import keras_senet
from keras_senet import export
from keras_senet.export import parity
from keras_senet.export.inputs import synthetic_images
from keras_senet.models.resnet import SmallResNet

pytestmark = pytest.mark.usefixtures("graphs_as_traced")

OPTIONS = {"savedmodel": export.SavedModel, "tflite": export.TFLite, "onnx": export.ONNX}
FILES = [
    ("savedmodel", None),
    ("tflite", None),
    ("tflite", "float16"),
    ("onnx", None),
    ("onnx", "float16"),
]
LARGEST = 300.0


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    monkeypatch.setattr(parity, "run_file", run_in_this_process)


def huge(scale=LARGEST, activation="softmax"):
    """A tiny network with statistics as after training, and logits up to `scale`, the two largest
    of them close.
    """
    keras.utils.set_random_seed(0)
    constructor = keras_senet.application(
        SmallResNet((1, 1)), name="huge", input_size=32, classes=10
    )
    model = constructor(weights=None, classifier_activation=activation)
    images = synthetic_images(model, None)
    for _ in range(20):
        model(images, training=True)
    head = model.layers[-1]
    logits = keras.Model(model.input, head.input)(images) @ head.kernel
    kernel = head.kernel.numpy() * (scale / np.abs(logits).max())
    kernel[:, 5:] = (1 - 1 / scale) * kernel[:, :5]  # at most 1 lower
    head.kernel.assign(kernel)
    return model


@pytest.fixture(scope="module")
def model():
    return huge()


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    """(report, path) of the model's file of a kind and quantisation, written once."""

    @functools.cache
    def write(kind, quantization=None):
        options = {"quantization": quantization} if quantization else {}
        path = tmp_path_factory.mktemp("written") / "file"
        with pytest.MonkeyPatch.context() as patch, little.graphs_as_traced():
            patch.setattr(parity, "run_file", run_in_this_process)
            return WRITERS[kind](model, path, **options), path

    return write


@pytest.mark.parametrize(("kind", "quantization"), FILES)
def test_a_network_of_huge_logits_is_exported(kind, quantization, written):
    report, _ = written(kind, quantization)
    unit = {None: 2**-23, "float16": 2**-11}[quantization]
    assert unit < report.sensitivity < 1e5 * unit
    if quantization:
        assert report.relative_error > 1e-2


@contextlib.contextmanager
def changed(variable, change):
    before = variable.numpy()
    variable.assign(change(before))
    try:
        yield
    finally:
        variable.assign(before)


def compare_changed(file, kind, model, path, variable, change, monkeypatch, **options):
    """Exports the model with another weight, but writes the file of the model as it was."""
    copy = shutil.copytree if kind == "savedmodel" else shutil.copy
    with changed(variable, change), monkeypatch.context() as patch:
        patch.setattr(OPTIONS[kind], "write", lambda _, model, target, common: copy(file, target))
        WRITERS[kind](model, path, **options)


def negate_one(kernel):
    """One number of the kernel, the largest, with the other sign."""
    kernel = kernel.copy()
    kernel.flat[np.abs(kernel).argmax()] *= -1
    return kernel


CHANGES = {
    "stem's sign": ("stem_conv1", lambda kernel: -kernel, True),
    "one sign": ("stem_conv1", negate_one, True),
    "1% of a stem": ("stem_conv1", lambda kernel: 1.01 * kernel, False),
    "1% of a stage": ("stage2_block1_conv2", lambda kernel: 1.01 * kernel, False),
    "1% of a classifier": ("predictions", lambda kernel: 1.01 * kernel, False),
    "a classifier's columns": ("predictions", lambda kernel: kernel[:, ::-1], True),
}


NORM = "stage2_block1_conv2_bn"
WEIGHTS = {
    "1% of a scale": (NORM, "gamma", lambda gamma: 1.01 * gamma),
    "a shift": (NORM, "beta", lambda beta: beta + 0.01),
    "2% of a variance": (NORM, "moving_variance", lambda variance: 1.02 * variance),
    "BGR": ("stem_conv1", "kernel", lambda kernel: kernel[:, :, ::-1]),
    "two channels": (
        "stage2_block1_conv1",
        "kernel",
        lambda kernel: kernel[..., [1, 0, *range(2, 32)]],
    ),
}


OTHER = [
    pytest.param(kind, name, marks=() if kind == "onnx" else pytest.mark.slow)
    for kind in WRITERS
    for name in WEIGHTS
]


@pytest.mark.parametrize(("kind", "name"), OTHER)
def test_other_weights_are_refused(kind, name, model, written, tmp_path, monkeypatch):
    """Each moves the logits by 3e-3 of the largest or more, and rounding by 3e-7."""
    layer, weight, change = WEIGHTS[name]
    variable, (_, file) = getattr(model.get_layer(layer), weight), written(kind)
    with pytest.raises(export.ParityError, match="huge"):
        compare_changed(file, kind, model, tmp_path / "file", variable, change, monkeypatch)
    assert not list(tmp_path.iterdir())


# All formats are compared by the same code: each change in ONNX, whose files run fastest, and one
# in the others. Float16 is accepted within 1e-2, of any network.
CHANGED = [
    pytest.param(kind, quantization, name, marks=() if shown else pytest.mark.slow)
    for kind, quantization in FILES
    for name, (_, _, is_seen_in_half) in CHANGES.items()
    if is_seen_in_half or not quantization
    for shown in [name == "one sign" or (kind, quantization) == ("onnx", None)]
]


@pytest.mark.parametrize(("kind", "quantization", "name"), CHANGED)
def test_a_changed_weight_is_refused(
    kind, quantization, name, model, written, tmp_path, monkeypatch
):
    layer, change, _ = CHANGES[name]
    options = {"quantization": quantization} if quantization else {}
    weight, (_, file) = model.get_layer(layer).kernel, written(kind, quantization)
    with pytest.raises(export.ParityError, match="huge"):
        compare_changed(
            file, kind, model, tmp_path / "file", weight, change, monkeypatch, **options
        )
    assert not list(tmp_path.iterdir())
