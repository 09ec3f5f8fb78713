"""Each format runs in its own runtime, agrees with Keras, and is kept only if it does."""

import copy
import dataclasses
import functools
import importlib
import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from ai_edge_litert import interpreter as interpreter_module
from ai_edge_litert.interpreter import Interpreter
from run_here import run_files_here
from settled import SMALL, network
from tensorflow.core.protobuf import saved_model_pb2

import keras_senet
from keras_senet import export
from keras_senet.export import parity
from keras_senet.export.gates import FixedGate, fix_constant_gates
from keras_senet.export.inputs import synthetic_images
from keras_senet.export.model import check_class_names
from keras_senet.export.tflite_metadata import read_metadata
from keras_senet.graphs import flat_layers
from keras_senet.images.decoding import decode
from keras_senet.models.resnet import ResNet, resnext

WRITERS = {"savedmodel": export.to_saved_model, "tflite": export.to_tflite, "onnx": export.to_onnx}
SPECS = {"small": SMALL, "bottleneck": ResNet((1, 1)), "grouped": resnext((1, 1))}


@pytest.fixture(scope="module")
def model():
    return network()


def smallest(name="smallest"):
    """A network of one layer of each kind, for what does not depend on the network."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = keras_senet.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(inputs))
    x = keras.layers.GlobalAveragePooling2D()(keras_senet.SqueezeExcite(2)(x))
    return keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x), name=name)


@pytest.fixture(scope="module")
def little():
    return smallest()


NORMALIZED = keras_senet.Preprocessing(
    (120.0, 110.0, 100.0), (60.0, 57.0, 55.0), size=8, crop_fraction=0.8
)


SERVED = {
    "preprocessing": NORMALIZED,
    "class_names": [f"class {i}" for i in range(10)],
    "features": True,
}


@pytest.fixture(scope="module")
def served(little, tmp_path_factory):
    """(a SavedModel with all signatures, what its runner measured): one of JPEGs takes seconds to
    be written and run.
    """
    path, run, measured = tmp_path_factory.mktemp("served") / "saved", parity.run_file, []

    def keep(*given):
        measured.append(run(*given))
        return copy.deepcopy(measured[0])

    with pytest.MonkeyPatch.context() as patch:
        run_files_here(patch)
        patch.setattr(parity, "run_file", keep)
        export.to_saved_model(little, path, **SERVED)
    return path, measured[0]


@pytest.fixture(scope="module")
def files(little, tmp_path_factory):
    """A folder with a file of `little` in each format, called as its kind."""
    folder = tmp_path_factory.mktemp("files")
    with pytest.MonkeyPatch.context() as patch:
        run_files_here(patch)
        for kind, write in WRITERS.items():
            write(little, folder / kind)
    return folder


@pytest.fixture
def written_before(files, little, monkeypatch):
    """Exports of a network equal to `little` copy what was written once: for what becomes of a
    file.
    """

    def copy_file(options, model, target, common):
        assert (model.name, common.preprocessing, common.class_names) == ("smallest", None, None)
        assert {layer.compute_dtype for layer in flat_layers(model)} == {"float32"}
        for value, own in zip(model.get_weights(), little.get_weights(), strict=True):
            np.testing.assert_array_equal(value, own)
        copy = shutil.copytree if options.kind == "savedmodel" else shutil.copy
        copy(files / options.kind, target)

    for options in (export.SavedModel, export.TFLite, export.ONNX):
        monkeypatch.setattr(options, "write", copy_file)


def images_for(model, count=4):
    return synthetic_images(model, None)[:count]


def spared(model):
    """How many weights fewer ONNX files have: SE blocks read what the last convolution of a
    bottleneck reads.
    """
    names = {layer.name for layer in model.layers}
    blocks = [layer for layer in model.layers if layer.name.endswith("_se")]
    convolutions = {
        se: model.get_layer(n) for se in blocks if (n := se.name.replace("_se", "_conv3")) in names
    }
    return sum(
        se.reduce.filters * (conv.kernel.shape[3] - conv.kernel.shape[2])
        for se, conv in convolutions.items()
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(report, path) of the file of a network of `SPECS`, written once."""

    @functools.cache
    def export_once(kind, spec):
        with pytest.MonkeyPatch.context() as patch:
            run_files_here(patch)
            path = tmp_path_factory.mktemp("exported") / "file"
            return WRITERS[kind](network(SPECS[spec]), path), path

    return export_once


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_agrees_with_keras(kind, spec, exported):
    check_report(exported(kind, spec)[0], kind, network(SPECS[spec]))


# A SavedModel's imports TensorFlow for 5 s, as another process does below.
@pytest.mark.parametrize(
    "kind", ["tflite", "onnx", pytest.param("savedmodel", marks=pytest.mark.slow)]
)
@pytest.mark.usefixtures("own_process", "written_before")
def test_a_file_runs_in_a_process_of_its_own(kind, little, tmp_path):
    check_report(WRITERS[kind](little, tmp_path / "file"), kind, little)


def check_report(report, kind, model):
    assert report.format == kind
    assert report.relative_error <= 1e-4
    assert report.max_abs_error >= report.mean_abs_error >= 0
    assert report.top1_agreement == 1
    assert report.latency_ms > 0
    assert report.peak_memory > 10e6
    assert report.bytes > 3.9 * (model.count_params() - (spared(model) if kind == "onnx" else 0))
    json.dumps(dataclasses.asdict(report))


@pytest.mark.parametrize("kind", WRITERS)
def test_preprocessing_goes_into_the_file(kind, little, served, tmp_path):
    """The file takes 0..255 RGB; run here by hand, not by the exporter's own runner."""
    if kind != "savedmodel":
        WRITERS[kind](little, tmp_path / "file", preprocessing=NORMALIZED)
    images = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3)).astype("float32")
    expected = little((images - np.float32([120, 110, 100])) / np.float32([60, 57, 55]))
    if kind == "savedmodel":
        loaded = tf.saved_model.load(served[0])
        found = loaded.signatures["serving_default"](images=tf.constant(images))["predictions"]
    elif kind == "tflite":
        runner = Interpreter(str(tmp_path / "file")).get_signature_runner()
        found = runner(images=images)["predictions"]
    else:
        found = onnxruntime.InferenceSession(str(tmp_path / "file")).run(
            ["predictions"], {"images": images}
        )[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_saved_model_has_each_weight_once(exported):
    _, folder = exported("savedmodel", "bottleneck")
    size = sum(path.stat().st_size for path in (folder / "variables").iterdir())
    weights = export.fold(network(SPECS["bottleneck"])).count_params()
    assert 4 * weights <= size < 4.2 * weights


PYTHON = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}  # operations that call it
WRAPPERS = {"trackable_dict_wrapper", "trackable_list_wrapper"}
OBJECTS = {"_generic_user_object", "signature_map"} | WRAPPERS  # of TensorFlow


def test_a_saved_model_needs_tensorflow_only(little, files):
    """Nothing in it is made by Keras' classes or runs Python; the slow test below runs it in a
    process.
    """
    content = saved_model_pb2.SavedModel.FromString(
        (files / "savedmodel" / "saved_model.pb").read_bytes()
    )
    (graphs,) = content.meta_graphs
    functions = graphs.graph_def.library.function
    assert not PYTHON & {node.op for each in functions for node in each.node_def}
    objects = [node.user_object for node in graphs.object_graph_def.nodes]
    assert {each.identifier for each in objects if each.identifier} <= OBJECTS
    served = tf.saved_model.load(files / "savedmodel").signatures["serving_default"]
    ((name, spec),) = served.structured_input_signature[1].items()
    assert (name, spec.shape.as_list()) == ("images", [None, 8, 8, 3])
    outputs = served(images=tf.constant(images_for(little)))
    assert list(outputs) == ["predictions"]
    np.testing.assert_allclose(outputs["predictions"], little(images_for(little)), atol=1e-5)


@pytest.mark.slow  # 5 s, to import TensorFlow
def test_a_saved_model_runs_where_keras_senet_is_not(little, files, tmp_path):
    np.save(tmp_path / "images.npy", images_for(little))
    code = """
import sys, numpy as np, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
outputs = loaded.signatures["serving_default"](images=tf.constant(np.load("images.npy")))
np.save("outputs.npy", outputs["predictions"])
assert not any(name.startswith("keras_senet") for name in sys.modules)
"""
    command = [sys.executable, "-c", code, str(files / "savedmodel")]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    np.testing.assert_allclose(
        np.load(tmp_path / "outputs.npy"), little(images_for(little)), atol=1e-5
    )


def encoded(*shapes):
    """JPEG and PNG images of several sizes, and the pixels that a decoder gives."""
    random = np.random.default_rng(0)
    pixels = [
        tf.constant(np.kron(random.integers(0, 256, (h, w, 3)), np.ones((8, 8, 1))), tf.uint8)
        for h, w in shapes
    ]
    jpegs = [tf.io.encode_jpeg(image) for image in pixels]
    raw = [*jpegs, tf.io.encode_png(pixels[0])]
    return raw, [decode(image, 3) for image in raw]


def test_a_saved_model_serves_jpeg_and_uint8(little, served):
    names, loaded = SERVED["class_names"], tf.saved_model.load(served[0])
    raw, pixels = encoded((9, 5), (4, 6), (5, 5))
    crops = np.stack([NORMALIZED.crop(image) for image in pixels])
    expected = keras.ops.convert_to_numpy(little(NORMALIZED.normalize(crops)))
    for name, images in (("serve_jpeg", tf.stack(raw)), ("serve_uint8", tf.cast(crops, tf.uint8))):
        served = loaded.signatures[name](images=images)
        assert set(served) == {"predictions", "classes", "features"}
        np.testing.assert_allclose(served["predictions"], expected, atol=1e-5)
        assert [label.decode() for label in served["classes"].numpy()] == [
            names[i] for i in expected.argmax(-1)
        ]
        kernel, bias = (keras.ops.convert_to_numpy(w) for w in little.layers[-1].weights)
        logits = served["features"].numpy() @ kernel + bias
        np.testing.assert_allclose(
            np.exp(logits) / np.exp(logits).sum(-1, keepdims=True), expected, atol=1e-5
        )
    with pytest.raises(tf.errors.InvalidArgumentError):
        loaded.signatures["serve_jpeg"](images=tf.constant([b"no image"]))


@pytest.mark.parametrize("signature", ["serve_uint8", "serve_jpeg"])
def test_a_saved_model_with_one_wrong_signature_is_removed(
    signature, little, served, tmp_path, monkeypatch
):
    _, measured = served
    monkeypatch.setattr(export.SavedModel, "write", lambda self, model, target, _: target.mkdir())
    monkeypatch.setattr(parity, "run_file", lambda *_: copy.deepcopy(measured))
    reference = export.SavedModel.signatures[signature]
    wrong = lambda *given: {name: 1.001 * values for name, values in reference(*given).items()}  # noqa: E731
    monkeypatch.setitem(export.SavedModel.signatures, signature, wrong)
    with pytest.raises(export.ParityError, match=f"signature {signature} of the savedmodel file"):
        export.to_saved_model(little, tmp_path / "file", **SERVED)
    assert not list(tmp_path.iterdir())


def operators(path):
    """(name, dtype of its result) of each operator of a TFLite file that is executed as it is
    written.
    """
    plain = interpreter_module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(str(path), experimental_op_resolver_type=plain)
    interpreter.allocate_tensors()
    dtypes = {tensor["index"]: tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    return [(op["op_name"], dtypes[op["outputs"][0]]) for op in interpreter._get_ops_details()]


@pytest.mark.parametrize(
    ("quantization", "io_dtype", "size", "error"),
    [
        (None, "float32", 1.3, 1e-4),
        ("float16", "float32", 0.7, 1e-2),
        ("dynamic", "float32", 0.5, 0.2),
        ("int8", "uint8", 0.5, 0.2),
        ("int16x8", "int16", 0.5, 0.1),
        # Of float32 the tests below have files; int8 is set as uint8 is.
        pytest.param("int8", "float32", 0.5, 0.2, marks=pytest.mark.slow),
        pytest.param("int8", "int8", 0.5, 0.2, marks=pytest.mark.slow),
        pytest.param("int16x8", "float32", 0.5, 0.1, marks=pytest.mark.slow),
    ],
)
def test_a_tflite_file_is_close_small_and_of_built_in_operators(
    quantization, io_dtype, size, error, model, exported, tmp_path
):
    if quantization is None:
        report, file = exported("tflite", "small")
    else:
        images, file = images_for(model, 4), tmp_path / "file"
        options = {"quantization": quantization, "io_dtype": io_dtype, "images": images}
        if quantization in ("int8", "int16x8"):
            options["representative_images"] = images
        report = export.to_tflite(model, file, **options)
    assert report.quantization == quantization
    assert report.bytes < size * 4 * model.count_params()
    assert 0 < report.relative_error < error
    interpreter = Interpreter(str(file))
    assert np.dtype(interpreter.get_input_details()[0]["dtype"]).name == io_dtype
    ((name, signature),) = interpreter.get_signature_list().items()
    assert (name, signature) == (
        "serving_default",
        {"inputs": ["images"], "outputs": ["predictions"]},
    )
    names = {name for name, _ in operators(file)}
    assert not [name for name in names if name.startswith("Flex") or name == "CUSTOM"]
    assert "CONV_2D" in names
    assert "AVERAGE_POOL_2D" not in names


@pytest.mark.parametrize("quantization", [None, "int8"])
def test_squeezes_by_average_pooling(quantization, little, tmp_path):
    images = images_for(little, 8)
    calibration = {"quantization": "int8", "representative_images": images} if quantization else {}
    report = export.to_tflite(
        little, tmp_path / "file", squeeze_op="avg_pool", images=images, **calibration
    )
    names = [name for name, _ in operators(tmp_path / "file")]
    assert "MEAN" not in names
    assert names.count("AVERAGE_POOL_2D") == 2  # of the SE block and at the end
    assert report.relative_error < (0.2 if quantization else 1e-4)


def test_gates_in_float_beside_integers(little, tmp_path):
    images = images_for(little, 8)
    options = {"quantization": "int8", "representative_images": images, "images": images}
    report = export.to_tflite(
        little, tmp_path / "file", float_gates=True, class_names=list("abcdefghij"), **options
    )
    found = operators(tmp_path / "file")
    assert [dtype for name, dtype in found if name == "LOGISTIC"] == [np.float32]
    convolutions = [dtype for name, dtype in found if name == "CONV_2D"]
    assert sorted(map(str, convolutions)) == sorted(map(str, 2 * [np.float32] + [np.int8]))
    assert report.relative_error < 0.2
    assert read_metadata((tmp_path / "file").read_bytes()).class_names == tuple("abcdefghij")


def test_int8_with_hidden_units_that_never_fire(tmp_path):
    """The file that calibration makes of such a network is one that LiteRT cannot prepare."""
    model = smallest()
    (block,) = (layer for layer in model.layers if isinstance(layer, keras_senet.SqueezeExcite))
    reduce, bias, *expand = block.get_weights()
    block.set_weights([0 * reduce, bias - 1, *expand])
    images = images_for(model, 8)
    nested = keras.Sequential([keras.Input((8, 8, 3)), model])
    for each in (model, nested):
        fixed = fix_constant_gates(each, None, images)
        gates = [layer.name for layer in flat_layers(fixed) if isinstance(layer, FixedGate)]
        assert gates == [block.name]
        np.testing.assert_allclose(fixed(images), model(images), atol=1e-6)
    report = export.to_tflite(
        nested, tmp_path / "file", quantization="int8", representative_images=images, images=images
    )
    assert report.relative_error < 0.2


def test_a_network_whose_gates_work_is_not_touched(model):
    assert fix_constant_gates(network(ResNet((1, 1))), None, images_for(model, 8)).name == "tiny"
    plain = network(dataclasses.replace(SPECS["small"], se=None))
    assert fix_constant_gates(plain, None, images_for(plain)) is plain


def test_int8_of_a_thousand_classes_gives_probabilities_in_onnx(tmp_path):
    """The softmax stays in float: most of these probabilities are below a half of 1/256."""
    model = keras_senet.application(SPECS["small"], name="tiny", input_size=32, classes=1000)(
        weights=None
    )
    images = images_for(model, 8)
    options = {"quantization": "int8", "representative_images": images, "images": images}
    assert export.to_onnx(model, tmp_path / "file", **options).relative_error < 0.2
    session = onnxruntime.InferenceSession(tmp_path / "file", providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(["predictions"], {"images": images})
    assert probabilities.sum(axis=-1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("opset", [13, 18])
def test_onnx_names_layout_and_dynamic_batch(layout, opset, model, tmp_path):
    export.to_onnx(model, tmp_path / "file", layout=layout, opset=opset)
    proto = onnx.load(tmp_path / "file")
    onnx.checker.check_model(proto, full_check=True)
    assert {entry.version for entry in proto.opset_import if entry.domain == ""} == {opset}
    ((given,), (made,)) = proto.graph.input, proto.graph.output
    shape = [d.dim_param or d.dim_value for d in given.type.tensor_type.shape.dim]
    assert (given.name, made.name) == ("images", "predictions")
    assert shape == (["batch", 32, 32, 3] if layout == "nhwc" else ["batch", 3, 32, 32])
    assert [d.dim_param or d.dim_value for d in made.type.tensor_type.shape.dim] == ["batch", 10]
    session = onnxruntime.InferenceSession(str(tmp_path / "file"))
    for count in (1, 3):
        images = images_for(model, count)
        fed = images if layout == "nhwc" else images.transpose(0, 3, 1, 2)
        np.testing.assert_allclose(session.run(None, {"images": fed})[0], model(images), atol=1e-5)


def change_a_weight(monkeypatch):
    """Makes every export that follows write another network than the one it is compared with."""
    run = parity.run_file

    def changed(*given):
        measured = run(*given)
        outputs = keras.tree.map_structure(
            lambda each: each * np.float32(1.001), measured["outputs"]
        )
        return measured | {"outputs": outputs}

    monkeypatch.setattr(parity, "run_file", changed)


@pytest.mark.usefixtures("written_before")
@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_that_disagrees_is_removed(kind, little, tmp_path, monkeypatch):
    change_a_weight(monkeypatch)
    with pytest.raises(export.ParityError, match="differs from Keras by 1.00e-03"):
        WRITERS[kind](little, tmp_path / "file")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("own_process", "written_before")
@pytest.mark.parametrize("kind", ["tflite", "onnx"])
@pytest.mark.parametrize("left", [0, 1000, -1000])
def test_a_file_that_cannot_run_is_removed(kind, left, little, tmp_path, monkeypatch):
    run = parity.run_file

    def truncated(path, *rest):
        path.write_bytes(path.read_bytes()[:left])
        return run(path, *rest)

    monkeypatch.setattr(parity, "run_file", truncated)
    with pytest.raises(export.ParityError, match="runtime cannot run it"):
        WRITERS[kind](little, tmp_path / "file")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("tolerance", [1e-4, np.inf])
def test_what_is_not_finite_fails(value, tolerance):
    good = np.full((2, 3), 0.3, "float32")
    bad = good.copy()
    bad[0, 0] = value
    with pytest.raises(export.ParityError):
        parity.compare_arrays(bad, good, tolerance, "file")
    with pytest.raises(export.ParityError):
        parity.compare_arrays(good[:1], good, tolerance, "file")
    assert parity.compare_arrays(good, good, tolerance, "file")["relative_error"] == 0


def test_errors_are_what_they_are_called():
    reference = np.float32([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]])
    outputs = reference + np.float32([[0, 0.07, 0], [0, 0.6, 0]])
    errors = parity.compare_arrays(outputs, reference, 1.0, "file")
    assert errors["max_abs_error"] == pytest.approx(0.6)
    assert errors["mean_abs_error"] == pytest.approx(0.67 / 6)
    assert errors["relative_error"] == pytest.approx(0.6 / 0.7)
    assert errors["top1_agreement"] == 0.5


@pytest.mark.usefixtures("written_before")
@pytest.mark.parametrize("kind", WRITERS)
def test_what_is_there_is_kept_unless_overwritten(kind, little, tmp_path):
    WRITERS[kind](little, tmp_path / "mine")
    before = sorted(p.name for p in tmp_path.rglob("*"))
    with pytest.raises(FileExistsError, match="overwrite=True"):
        WRITERS[kind](little, tmp_path / "mine")
    WRITERS[kind](little, tmp_path / "mine", overwrite=True)
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("place", [".", "..", "folder", "folder/notes.txt/", "link"])
def test_overwriting_never_takes_what_no_export_wrote(kind, place, little, tmp_path, monkeypatch):
    """The working directory, its parent, a folder of other things, also through a link."""
    (tmp_path / "work" / "folder").mkdir(parents=True)
    (tmp_path / "work" / "folder" / "notes.txt").write_text("precious")
    (tmp_path / "work" / "link").symlink_to(tmp_path / "work" / "folder")
    (tmp_path / "beside.txt").write_text("precious")
    monkeypatch.chdir(tmp_path / "work")
    if kind != "savedmodel" and place == "folder/notes.txt/":
        pytest.skip("a file may replace a file when told to")
    with pytest.raises(FileExistsError, match="folder|file"):
        WRITERS[kind](little, place, overwrite=True)
    assert (tmp_path / "work" / "link" / "notes.txt").read_text() == "precious"
    assert (tmp_path / "beside.txt").read_text() == "precious"


@pytest.mark.usefixtures("written_before")
@pytest.mark.parametrize("kind", WRITERS)
def test_a_relative_path(kind, little, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert WRITERS[kind](little, "mine").path == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


@pytest.mark.usefixtures("written_before")
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", WRITERS)
def test_a_network_of_mixed_precision_is_exported_in_float32(kind, policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    model = smallest()
    keras.config.set_dtype_policy("float32")
    report = WRITERS[kind](model, tmp_path / "file")
    assert report.relative_error <= 1e-4
    assert model.layers[1].compute_dtype == policy.removeprefix("mixed_")


@pytest.mark.parametrize("kind", WRITERS)
def test_a_sequential_model(kind, tmp_path):
    layers = [
        keras.layers.Conv2D(4, 3),
        keras_senet.SqueezeExcite(2),
        keras.layers.GlobalAveragePooling2D(),
    ]
    model = keras.Sequential([keras.Input((8, 8, 3)), *layers])
    assert WRITERS[kind](model, tmp_path / "file").relative_error <= 1e-4


def of_vectors():
    return keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])


def of_two_inputs():
    inputs = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
    return keras.Model(inputs, keras.layers.Add()(inputs))


class Subclassed(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: Subclassed(), "functional"),
        (lambda: "SEResNet50", "functional"),
        (lambda: keras.Sequential([keras.layers.Dense(2)]), "built sequential"),
        (of_vectors, r"images \(N, H, W, C\).*\(None, 8\)"),
        (of_two_inputs, "must have one input, for images.*2 inputs"),
    ],
    ids=["subclassed", "name", "unbuilt", "vectors", "two inputs"],
)
def test_what_cannot_be_exported(kind, given, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        WRITERS[kind](given(), tmp_path / "file")
    assert not list(tmp_path.iterdir())


def of_size_and_channels(size, channels):
    return keras_senet.Preprocessing((0.0,) * channels, (1.0,) * channels, size=size)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("tflite", {"quantization": "int4"}, "quantization='int4'"),
        ("tflite", {"quantization": "int8"}, "representative_images"),
        ("tflite", {"quantization": "int8", "representative_images": []}, "representative_images"),
        ("tflite", {"squeeze_op": "max"}, "squeeze_op='max'"),
        ("tflite", {"float_gates": True}, "float_gates.*quantization=None"),
        ("tflite", {"class_names": ["cat"]}, "class_names.*1 names"),
        ("tflite", {"io_dtype": "int8"}, "io_dtype='int8'"),
        ("tflite", {"representative_images": np.zeros((1, 32, 32, 3))}, "quantization=None"),
        (
            "tflite",
            {"quantization": "int8", "representative_images": [np.zeros((8, 8, 3))]},
            r"\(1, 8, 8, 3\)",
        ),
        (
            "tflite",
            {"quantization": "int8", "representative_images": np.zeros((32, 32, 3))},
            r"\(32, 32, 3\)",
        ),
        (
            "tflite",
            {"quantization": "int8", "representative_images": np.full((1, 32, 32, 3), np.nan)},
            "finite",
        ),
        ("tflite", {"quantization": "int8", "representative_images": 3}, "representative_images"),
        ("savedmodel", {"class_names": ["cat"]}, "class_names.*1 names"),
        ("tflite", {"class_names": "abcdefghij"}, "class_names.*'abcdefghij'"),
        ("onnx", {"class_names": 10}, "class_names.*10"),
        ("onnx", {"class_names": set("abcdefghij")}, "class_names.*Received: {"),
        ("savedmodel", {"class_names": [b"cat"] * 10}, "class_names.*UTF-8.*b'cat'"),
        ("onnx", {"class_names": ["caf\udce9"] * 10}, r"class_names.*UTF-8.*'caf\\udce9'"),
        ("tflite", {"quantization": ["int8"]}, r"quantization=\['int8'\]"),
        ("onnx", {"quantization": ["int8"]}, r"quantization=\['int8'\]"),
        ("savedmodel", {"preprocessing": of_size_and_channels(224, 3)}, "32 x 32.*size 224"),
        ("onnx", {"preprocessing": of_size_and_channels(32, 4)}, "3 channels.*mean of 4"),
        ("onnx", {"float_layers": 3}, "float_layers=3"),
        ("onnx", {"gates": "yes"}, "gates='yes'"),
        ("tflite", {"float_gates": "yes"}, "True or False. Received: float_gates='yes'"),
        ("savedmodel", {"overwrite": "no"}, "overwrite='no'"),
        ("onnx", {"opset": 12}, "opset=12"),
        ("onnx", {"opset": 18.0}, "opset=18.0"),
        ("onnx", {"preprocessing": keras_senet.Preprocessing}, "preprocessing"),
        ("onnx", {"opset": "18"}, "opset='18'"),
        ("onnx", {"layout": "hwc"}, "layout='hwc'"),
        ("onnx", {"images": np.zeros((1, 8, 8, 3))}, r"\(N, 32, 32, 3\).*\(1, 8, 8, 3\)"),
        ("onnx", {"images": np.zeros((0, 32, 32, 3))}, r"\(N, 32, 32, 3\).*\(0,\)"),
        ("onnx", {"preprocessing": "torch"}, "preprocessing.*'torch'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_wrong_argument_is_named(kind, arguments, message, model, tmp_path):
    with pytest.raises(ValueError, match=message):
        WRITERS[kind](model, tmp_path / "file", **arguments)
    assert not list(tmp_path.iterdir())


def test_images_of_another_range_to_calibrate_on(model, tmp_path, caplog):
    """As of a network that was trained on 0..1, whose file takes 0..255."""
    given = {"preprocessing": of_size_and_channels(32, 3), "images": 3}  # which ends it early
    calibration = {"quantization": "int8", "representative_images": np.ones((1, 32, 32, 3))}
    with pytest.raises(ValueError, match="`images`"):
        export.to_onnx(model, tmp_path / "file", **given, **calibration)
    assert "of 0..255 with `preprocessing`; the largest number is 1, of" in caplog.text


@pytest.mark.parametrize("kind", WRITERS)
def test_a_path_that_cannot_be_written(kind, little):
    with pytest.raises(OSError, match=r"'/proc/nowhere/file' cannot be written"):
        WRITERS[kind](little, "/proc/nowhere/file")


@pytest.mark.usefixtures("written_before")
@pytest.mark.parametrize("kind", WRITERS)
def test_a_failed_export_leaves_no_folders(kind, little, tmp_path, monkeypatch):
    monkeypatch.setattr(
        parity,
        "run_file",
        lambda *_: {"outputs": {kind: {"predictions": [np.full((8, 10), np.nan)]}}},
    )
    with pytest.raises(export.ParityError, match="outputs are not finite"):
        WRITERS[kind](little, tmp_path / "new" / "folder" / "file")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("backend", ["jax", "torch"])
@pytest.mark.parametrize("kind", ["savedmodel", "tflite"])
def test_what_tensorflow_alone_writes(kind, backend, little, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    with pytest.raises(ValueError, match=f"needs Keras' backend 'tensorflow'.*'{backend}'"):
        WRITERS[kind](little, tmp_path / "file")


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: {"x": x}], ids=["list", "dict"])
def test_ends_in_a_list_or_a_dict(kind, wrap, tmp_path):
    x = keras.Input((8, 8, 3), name="x")
    y = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(x))
    assert WRITERS[kind](keras.Model(wrap(x), wrap(y)), tmp_path / "file").relative_error <= 1e-4


def test_features_of_a_layer_with_two_inputs(tmp_path):
    x = keras.Input((8, 8, 3))
    model = keras.Model(
        x, keras.layers.Add()([keras.layers.Conv2D(4, 3)(x), keras.layers.Conv2D(4, 3)(x)])
    )
    with pytest.raises(ValueError, match="features"):
        export.to_saved_model(model, tmp_path / "file", features=True)


def test_names_of_classes_that_are_numbers(little, tmp_path):
    """Every format gets them as text from the same place."""
    names = tuple(map(str, range(10)))
    assert check_class_names(little, range(10)) == names
    export.to_onnx(little, tmp_path / "file", class_names=range(10))
    properties = {each.key: each.value for each in onnx.load(tmp_path / "file").metadata_props}
    assert json.loads(properties["class_names"]) == [*names]


def test_the_folder_is_importable_by_its_name_only(monkeypatch):
    monkeypatch.syspath_prepend(parity.Path(export.__file__).parents[1])
    with pytest.raises(ImportError, match="import it by that name, not as 'export'"):
        importlib.import_module("export")
