"""Networks that are not ours, in each format, run by their runtimes and compared with
`model.predict` by NumPy.
"""

import keras_networks as networks
import pytest
import tensorflow as tf
from runtimes import WRITERS, run, run_in_this_process

from keras_senet.export import parity

# What a model captures where it is built: to TensorFlow each is a further input of the graph. And
# gelu.
CAPTURING = [
    "Normalization, adapted",
    "preprocess_input, torch",
    "preprocess_input, caffe",
    "keras_senet.preprocess_input",
    "Preprocessing.normalize",
    "a captured map",
    "gelu, LayerNormalization",  # of erfc, which ONNX lacks
]

pytestmark = pytest.mark.usefixtures("graphs_as_traced")


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    monkeypatch.setattr(parity, "run_file", run_in_this_process)


def check(kind, name, path):
    model = networks.build(name)
    WRITERS[kind](model, path)
    images = networks.images_for(model)
    assert (
        networks.relative_error(run(kind, path, images), networks.expected(model, images)) <= 1e-4
    )


@pytest.mark.parametrize("name", CAPTURING)
def test_constants_that_a_model_captures_are_in_onnx(name, tmp_path):
    check("onnx", name, tmp_path / "file")


@pytest.mark.parametrize("kind", ["savedmodel", "tflite"])
def test_constants_in_the_other_formats(kind, tmp_path):
    check(kind, "Normalization, adapted", tmp_path / "file")


@pytest.mark.parametrize("kind", WRITERS)
def test_convolutions_in_groups(kind, tmp_path):
    """Keras has XLA compile each of them, for which ONNX has no operator."""
    check(kind, "convolutions in groups", tmp_path / "file")


def test_a_saved_model_needs_no_xla(tmp_path):
    model = networks.build("convolutions in groups")
    WRITERS["savedmodel"](model, tmp_path / "file")
    loaded = tf.saved_model.load(str(tmp_path / "file"))
    library = loaded.signatures["serving_default"].graph.as_graph_def().library
    assert "Conv2D" in {node.op for function in library.function for node in function.node_def}
    assert not any(function.attr["_XlaMustCompile"].b for function in library.function)


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_several_outputs_through_tf2onnx(layout, tmp_path):
    """A map and two vectors, with a captured constant: names, and which of them is transposed."""
    model = networks.build("several outputs")
    WRITERS["onnx"](model, tmp_path / "file", layout=layout)
    images = networks.images_for(model)
    found = run(
        "onnx", tmp_path / "file", images if layout == "nhwc" else images.transpose(0, 3, 1, 2)
    )
    if layout == "nchw":
        found["map"] = found["map"].transpose(0, 2, 3, 1)
    right = networks.expected(model, images)
    assert networks.relative_error(found, right) <= 5e-5  # of sums in another order
    assert found["box"].std() > 0


@pytest.mark.slow  # half an hour: every network in every format
@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("name", networks.NETWORKS)
def test_every_network_in_every_format(kind, name, tmp_path):
    check(kind, name, tmp_path / "file")
