"""Exported detectors: each file, run by its own runtime, finds torchvision's boxes."""

import functools
import io
import json
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from eager import run_eagerly
from oracle_weights import SPEC
from PIL import Image
from run_here import run_files_here

import keras_senet
from keras_senet import detection, export
from keras_senet.detection.canvas import prepare, resized_size
from keras_senet.detection.data.truths import BoxedImages, make_truth
from keras_senet.export import run_file
from keras_senet.export.detector import exporting, load_exported, parity, saved_model
from keras_senet.export.reading import open_exported
from keras_senet.models.resnet import ResNet
from keras_senet.models.units import Basic

WRITERS = {"savedmodel": export.to_saved_model, "tflite": export.to_tflite, "onnx": export.to_onnx}
NAMES = {"savedmodel": "saved_model", "tflite": "detector.tflite", "onnx": "detector.onnx"}
DOCUMENT = Path(__file__).parents[2] / "export" / "README.md"
FLAGS = re.MULTILINE | re.DOTALL
CANVAS = (128, 128)  # of both images of the oracle, which were one batch


@pytest.fixture(scope="module", autouse=True)
def files_run_here():
    """And all files are of one folded detector, whose functions are traced once."""
    with pytest.MonkeyPatch.context() as patch:
        run_files_here(patch)
        patch.setattr(exporting, "fold_detector", functools.cache(exporting.fold_detector))
        yield


@pytest.fixture(scope="module")
def images(oracle):
    return [oracle["image0"], oracle["image1"]]


@pytest.fixture(scope="module")
def write(detector, images, tmp_path_factory):
    """Writes a file of the oracle's detector once: the path and the report."""
    written = {}

    def write(kind, **options):
        key = (kind, *options.items())
        if key not in written:
            path = tmp_path_factory.mktemp("exported") / NAMES[kind]
            canvas = [CANVAS, (96, 128)] if kind == "savedmodel" else CANVAS
            report = WRITERS[kind](detector, path, canvas=canvas, images=images, **options)
            written[key] = path, report
        return written[key]

    return write


def inputs_of(detector, image, canvas=CANVAS):
    spec = detector.spec
    padded = prepare([image], detector.preprocessing, spec.short, spec.long, canvas)
    return {"images": padded.images.numpy(), "size": padded.sizes[0].numpy()}


# What is exported


def test_the_function_is_of_static_shapes_and_traced_once_a_canvas(detector):
    function = detector.function(96, 128)
    outputs = function.get_concrete_function().structured_outputs
    assert {name: (each.shape, each.dtype) for name, each in outputs.items()} == {
        "boxes": ((40, 4), tf.float32),
        "scores": ((40,), tf.float32),
        "classes": ((40,), tf.int32),
        "count": ((), tf.int32),
    }
    assert detector.function(96, 128) is function
    for image in (np.zeros((60, 90, 3)), np.full((48, 70, 3), 255)):
        list(detector.detect([image], canvas=(96, 128)))
    assert function.experimental_get_tracing_count() == 1


def test_detections_in_a_canvas_are_torchvisions(detector, oracle, images):
    for number, found in enumerate(detector.detect(images, canvas=CANVAS)):
        np.testing.assert_allclose(found.boxes, oracle[f"detected_boxes{number}"], atol=5e-4)
        np.testing.assert_allclose(found.scores, oracle[f"detected_scores{number}"], atol=3e-5)


@pytest.mark.parametrize("canvas", [(100, 128), (128,), (0, 32), "128", (128.0, 128.0), 128])
def test_a_canvas_has_two_sides_that_are_multiples_of_32(detector, canvas):
    with pytest.raises(ValueError, match="multiples of 32"):
        list(detector.detect([np.zeros((60, 90, 3))], canvas=canvas))


@pytest.mark.parametrize("canvas", [None, (128, 96), (64, 512)])
def test_images_are_resized_to_fit(canvas):
    """Both sides are within a pixel of the largest that fits."""
    random = np.random.default_rng(0)
    for height, width in random.integers(1, 3000, (200, 2)).tolist():
        size = resized_size(height, width, 96, 160, canvas)
        limits = (96 / min(height, width), 160 / max(height, width))
        if canvas is not None:
            limits += (canvas[0] / height, canvas[1] / width)
        factor = min(limits)
        assert all(
            max(1, side * factor - 1) <= new <= max(1, side * factor)
            for side, new in zip((height, width), size, strict=True)
        )
        if canvas is None:
            in_graph = saved_model.resized_size(tf.constant([height, width]), 96, 160)
            assert tuple(in_graph.numpy()) == size


# What is in the files


@functools.cache
def load_saved_model(path):
    return tf.saved_model.load(str(path))


def call(kind, path, **inputs):
    """Without the exporters' code."""
    if kind == "savedmodel":
        tensors = {name: tf.constant(value) for name, value in inputs.items()}
        outputs = load_saved_model(path).signatures["serving_default"](**tensors)
        return {name: value.numpy() for name, value in outputs.items()}
    return run_file.open_calls(kind, str(path))["serving_default"](**inputs)


@pytest.mark.parametrize(
    ("kind", "options", "pixels", "score"),
    [
        ("savedmodel", {}, 1e-3, 3e-5),
        ("tflite", {}, 1e-3, 3e-5),
        ("tflite", {"quantization": "float16"}, 0.1, 5e-3),
        ("onnx", {}, 1e-3, 3e-5),
    ],
    ids=["savedmodel", "tflite", "float16", "onnx"],
)
def test_a_file_finds_torchvisions_boxes(write, detector, oracle, kind, options, pixels, score):
    """Writes the files that the other tests share. The SavedModel takes over 10 s, as the detector
    is traced for each of its four signatures, and TFLite's files 5 s, by TensorFlow's converter.
    """
    path, report = write(kind, **options)
    found = call(kind, path, **inputs_of(detector, oracle["image0"]))
    size, shape = inputs_of(detector, oracle["image0"])["size"], oracle["image0"].shape[:2]
    boxes = found["boxes"] * np.float32(shape / size)[[1, 0, 1, 0]]
    assert found["count"] == 40
    pairs = parity.match_boxes(
        detection.Detections(boxes, found["scores"], found["classes"] + 1, []),
        detection.Detections(
            oracle["detected_boxes0"],
            oracle["detected_scores0"],
            oracle["detected_labels0"],
            [],
        ),
    )
    assert len(pairs) == 40
    own, theirs = (list(each) for each in zip(*pairs, strict=True))
    np.testing.assert_allclose(boxes[own], oracle["detected_boxes0"][theirs], atol=pixels)
    np.testing.assert_allclose(found["scores"][own], oracle["detected_scores0"][theirs], atol=score)
    assert report.max_abs_error <= pixels
    assert 0 < report.score_error <= score
    assert report.top1_agreement >= (0.95 if options else 1.0)
    assert report.bytes > 10_000_000
    assert report.format == kind


def test_tflite_has_builtin_operators_only_and_the_outputs_of_ssd(write):
    path, _ = write("tflite")
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(path.read_bytes())
    codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    names = {code: name for name, code in vars(schema.BuiltinOperator).items()}
    found = {names[code.BuiltinCode()] for code in codes}
    assert "NON_MAX_SUPPRESSION_V4" in found
    assert not {"CUSTOM", "DELEGATE"} & found
    assert not [code.CustomCode() for code in codes if code.CustomCode()]
    graph, signature = model.Subgraphs(0), model.SignatureDefs(0)
    outputs = [signature.Outputs(i) for i in range(signature.OutputsLength())]
    called = {each.TensorIndex(): each.Name().decode() for each in outputs}
    order = [called[graph.Outputs(i)] for i in range(graph.OutputsLength())]
    assert order == ["boxes", "classes", "scores", "count"]


def test_onnx_has_operators_of_its_own(write):
    path, _ = write("onnx")
    model = onnx.load(path)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 18)]
    found = {node.op_type for node in model.graph.node}
    assert {"RoiAlign", "NonMaxSuppression", "TopK", "Resize"} <= found
    assert not {"Loop", "If", "Scan", "BatchNormalization"} & found
    kernels = [each for each in model.graph.initializer if list(each.dims) == [32, 32, 3, 3]]
    assert len(kernels) == 4 + 1  # P2 to P5, and one of the proposals for all five levels


ABOUT = {
    "boxes": "x1, y1, x2, y2 in pixels of the canvas",
    "canvases": [[128, 128]],
    "short": 96,
    "long": 128,
}


def test_files_say_what_they_take_and_return(write, detector):
    onnx_path, tflite_path = write("onnx")[0], write("tflite")[0]
    texts = {each.key: each.value for each in onnx.load(onnx_path).metadata_props}
    content = tflite_path.read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        labels = archive.read("labels.txt").decode()
        about = json.loads(archive.read("keras_senet.json"))
    assert labels.split() == list("abcde")
    for said in (about, {key: json.loads(texts[key]) for key in about}):
        assert said["detector"] == ABOUT
        assert said["class_names"] == list("abcde")
        for name in ("mean", "std"):
            assert tuple(said["preprocessing"][name]) == getattr(detector.preprocessing, name)


@pytest.fixture(scope="module")
def photograph():
    """A JPEG that is stored turned, and its pixels upright."""
    ramps = np.stack(np.meshgrid(np.arange(120), np.arange(80)), -1)
    noise = np.random.default_rng(0).integers(0, 90, (80, 120, 3))
    pixels = np.clip(np.concatenate([ramps, ramps[..., :1]], -1) + noise, 0, 255).astype("uint8")
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(file, "JPEG", quality=95, exif=exif)
    stored = tf.io.decode_jpeg(file.getvalue(), dct_method="INTEGER_ACCURATE").numpy()
    return file.getvalue(), np.rot90(stored, -1)


def test_jpegs_of_any_size_have_boxes_in_their_own_pixels(write, detector, images, photograph):
    path, _ = write("savedmodel")
    encoded, upright = photograph
    assert upright.shape == (120, 80, 3)
    others = [tf.io.encode_png(images[0]).numpy(), encoded]
    loaded = load_saved_model(path)
    found = loaded.signatures["serve_jpeg"](images=tf.constant(others))
    same = loaded.signatures["serve_uint8"](images=tf.constant(upright[None]))
    for row, expected in enumerate(detector.detect([images[0], upright])):
        count = len(expected.scores)
        assert found["count"][row] == count > 0
        np.testing.assert_allclose(found["boxes"][row, :count], expected.boxes, atol=1e-3)
        np.testing.assert_allclose(found["scores"][row, :count], expected.scores, atol=1e-5)
        np.testing.assert_array_equal(found["classes"][row, :count], expected.classes)
    assert expected.boxes[:, 3].max() > 80  # the longer side is upright
    np.testing.assert_array_equal(same["boxes"][0], found["boxes"][1])


def test_a_saved_model_has_a_signature_for_each_canvas(write):
    signatures = load_saved_model(write("savedmodel")[0]).signatures
    assert set(signatures) == {"serving_default", "canvas_96x128", "serve_uint8", "serve_jpeg"}
    for name, size in (("serving_default", CANVAS), ("canvas_96x128", (96, 128))):
        _, inputs = signatures[name].structured_input_signature
        assert inputs["images"].shape == (1, *size, 3)


def test_files_compute_in_float32_and_never_find_a_class_without_a_name(tmp_path):
    """Of a small SE network in mixed precision, with random weights."""
    keras.utils.set_random_seed(1)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = keras_senet.application(
            ResNet((1, 1, 1, 1), Basic()), name="tiny", input_size=64, classes=10
        )
        backbone = network(include_top=False, weights=None, input_shape=(None, None, 3))
        spec = replace(SPEC, channels=16, hidden=(32,), most=20)
        mixed = spec(backbone, ("a", "", "c"))
    finally:
        keras.config.set_dtype_policy("float32")
    path = tmp_path / "detector.onnx"
    with run_eagerly():
        report = export.to_onnx(mixed, path, canvas=(96, 128))
    assert report.max_abs_error < 1e-3  # of bfloat16 it would be pixels
    (found,) = load_exported(path).detect([np.random.default_rng(0).integers(0, 256, (96, 128, 3))])
    assert len(found.classes) > 10
    assert set(found.classes) <= {0, 2}


# Files as detectors


def boxed(detector, images, canvas):
    """Images of which the detector is right, but for one box of each."""
    truths = []
    for found in detector.detect(images, canvas=canvas):
        areas = np.prod(found.boxes[:, 2:] - found.boxes[:, :2], axis=1).tolist()
        rows = zip(found.boxes[1:], found.classes[1:], areas[1:], [False] * 39, strict=True)
        truths.append(make_truth(list(rows)))
    sizes = [image.shape[:2] for image in images]
    return BoxedImages(images, sizes, truths, detector.class_names, [1, 2], (1, 2, 3, 4, 5))


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_is_evaluated_as_a_detector(write, detector, images, kind):
    path, _ = write(kind)
    canvas = None if kind == "savedmodel" else CANVAS
    loaded, dataset = load_exported(path), boxed(detector, images, canvas)
    assert loaded.class_names == detector.class_names
    assert loaded.canvases[0] == CANVAS
    in_keras = SimpleNamespace(
        class_names=detector.class_names, detect=functools.partial(detector.detect, canvas=canvas)
    )
    found = detection.evaluate(loaded, dataset)
    expected = detection.evaluate(in_keras, dataset)
    assert found.figures == pytest.approx(expected.figures, abs=1e-6, nan_ok=True)
    assert 0.9 < found.figures["AP"] < 1


def test_paths_and_arrays_are_detected_alike(write, images, tmp_path):
    loaded = load_exported(write("onnx")[0])
    Image.fromarray(images[0]).save(tmp_path / "image.png")
    a, b = loaded.detect([tmp_path / "image.png", images[0]])
    np.testing.assert_array_equal(a.boxes, b.boxes)
    assert a.names == b.names


def test_the_python_of_the_document_runs(write, detector, images, tmp_path, monkeypatch):
    """With small canvases; its files are those of `write`, which have the same options."""
    (text,) = re.findall(r"^## Detectors.*?(?=^## )", DOCUMENT.read_text(), FLAGS)
    text = text.replace("(512, 512)", "(128, 128)").replace("(512, 672)", "(96, 128)")

    def exported(kind, given, path, *, canvas, images, **options):
        assert given is detector
        assert canvas == ([CANVAS, (96, 128)] if kind == "savedmodel" else CANVAS)
        written, report = write(kind, **options)
        shutil.copytree(written, path) if written.is_dir() else shutil.copy(written, path)
        return report

    for kind, writer in WRITERS.items():
        monkeypatch.setattr(export, writer.__name__, partial(exported, kind))
    monkeypatch.setattr(detection, "load_data", lambda *names: boxed(detector, images, CANVAS))
    monkeypatch.chdir(tmp_path)
    Image.fromarray(images[0]).save("street.jpg")
    names = {"detector": detector, "images": images}
    first, second = re.findall(r"^```python\n(.*?)^```$", text, FLAGS)
    for block in (first, second):
        exec(compile(block, DOCUMENT.name, "exec"), names)
    assert {path.name for path in tmp_path.iterdir()} == {*NAMES.values(), "street.jpg"}
    assert len(names["found"].boxes) == 40


def test_what_is_no_exported_detector(write, tmp_path):
    with pytest.raises(ValueError, match=r"ends in one of .onnx, .tflite"):
        load_exported(tmp_path / "detector.h5")
    with pytest.raises(FileNotFoundError):
        load_exported(tmp_path / "detector.onnx")
    for name in ("a.onnx", "a.tflite"):
        (tmp_path / name).write_bytes(b"something else")
        with pytest.raises(ValueError, match=r"is damaged|not an exported detector"):
            load_exported(tmp_path / name)
    with pytest.raises(ValueError, match="not an exported detector"):
        load_exported(tmp_path)
    for kind in WRITERS:
        with pytest.raises(ValueError, match="is of a detector"):
            open_exported(kind, write(kind)[0])


# Files that differ are refused


@pytest.mark.parametrize(
    "part",
    [
        "rpn_deltas",
        *(pytest.param(p, marks=pytest.mark.slow) for p in ("stage5_block1_conv2", "box_classes")),
    ],
)
def test_a_changed_weight_is_refused(detector, images, part, monkeypatch, tmp_path):
    def changed(detector, own=exporting.fold_detector):
        found = own(detector)
        (kernel,) = [v for v in found.variables if v.path.endswith(f"{part}/kernel")]
        kernel.assign(kernel.numpy() * 1.05)
        return found

    monkeypatch.setattr(exporting, "fold_detector", changed)
    with pytest.raises(export.ParityError, match="was removed"):
        export.to_onnx(detector, tmp_path / "detector.onnx", canvas=CANVAS, images=images)
    assert not list(tmp_path.iterdir())


def detections(*rows):
    """Of (x, class, score): boxes of 20 pixels a side."""
    boxes = [[x, 10, x + 20, 30] for x, _, _ in rows]
    scores = np.float32([score for _, _, score in rows])
    classes = np.int64([label for _, label, _ in rows])
    return detection.Detections(np.float32(boxes).reshape(-1, 4), scores, classes, [])


FOUND = ((10, 0, 0.9), (50, 1, 0.8), (90, 1, 0.79995))


@pytest.mark.parametrize(
    ("rows", "difference"),
    [
        (FOUND, None),
        (FOUND[:1] + FOUND[:0:-1], None),  # two of nearly equal scores change places
        (((10.005, 0, 0.90005), *FOUND[1:]), None),
        (((10.02, 0, 0.9), *FOUND[1:]), "off by 2.00e-02 pixels"),
        (((10, 0, 0.9002), *FOUND[1:]), "scores that are off by"),
        (((10, 1, 0.9), *FOUND[1:]), "lacks 1 of 3"),
        (((12, 0, 0.9), *FOUND[1:]), "lacks 1 of 3"),
        ((FOUND[0], FOUND[0], FOUND[1]), "lacks 1 of 3"),  # one box is not two
        (FOUND[:2], "finds 2 boxes, Keras 3"),
        ((*FOUND, (130, 0, 0.1)), "finds 4 boxes, Keras 3"),
        ((), "finds 0 boxes, Keras 3"),
        (((10, 0, np.nan), *FOUND[1:]), "not finite"),
    ],
)
def test_detections_are_matched_by_class_and_place(rows, difference):
    found = parity.find_difference(detections(*rows), detections(*FOUND), parity.TOLERANCES[None])
    assert (found[1] is None) if difference is None else difference in found[1]


# Bad input


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("tflite", {"canvas": (100, 128)}, "multiples of 32"),
        ("tflite", {"canvas": [(128, 128), (96, 128)]}, "one .H, W. for a tflite file"),
        ("onnx", {"canvas": [(128, 128), (96, 128)]}, "one .H, W. for a onnx file"),
        ("savedmodel", {"canvas": [(128, 128), (128, 128)]}, "different sizes"),
        ("savedmodel", {"canvas": []}, "different sizes"),
        ("tflite", {"quantization": "int8"}, "256 values of 8 bits"),
        ("tflite", {"quantization": "dynamic"}, "rounded weights find other boxes"),
        ("onnx", {"quantization": "float16"}, "must be one of"),
        ("onnx", {"opset": 17}, "`opset` of a detector must be 18"),
        ("onnx", {"layout": "nchw"}, "`layout` is not for a detector"),
        ("tflite", {"input_size": 128}, "`input_size` is not for a detector"),
        ("savedmodel", {"class_names": ["a"]}, "`class_names` is not for a detector"),
        (
            "onnx",
            {"representative_images": np.zeros((2, 8, 8, 3))},
            "`representative_images` is not for a detector. Received: <class 'numpy.ndarray'>",
        ),
        ("onnx", {"images": "street.jpg"}, "`images` must be several images"),
        ("onnx", {"images": []}, "at least one"),
        ("onnx", {"images": [np.zeros((50, 50))]}, "An image must be a file or an array"),
        ("onnx", {"images": [np.full((50, 50, 3), np.nan)]}, "finite"),
    ],
)
def test_what_cannot_be_exported(detector, images, kind, options, message, tmp_path):
    options = {"canvas": CANVAS, "images": images} | options
    with pytest.raises(ValueError, match=message) as error:
        WRITERS[kind](detector, tmp_path / NAMES[kind], **options)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_kept(detector, images, tmp_path):
    path = tmp_path / "detector.onnx"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="overwrite"):
        export.to_onnx(detector, path, canvas=CANVAS, images=images)
    assert path.read_bytes() == b"mine"


def test_a_canvas_is_not_of_a_network(tmp_path):
    x = tf.keras.Input((8, 8, 3))
    with pytest.raises(ValueError, match="`canvas` is of a detector"):
        export.to_onnx(tf.keras.Model(x, x), tmp_path / "file.onnx", canvas=CANVAS)


def test_images_in_which_nothing_is_found_prove_nothing(detector, images, tmp_path):
    strict = detection.Detector(
        replace(detector.spec, score=0.99), detector.backbone, detector.class_names
    )
    with run_eagerly(), pytest.raises(ValueError, match="finds nothing in these 2"):
        export.to_onnx(strict, tmp_path / "file.onnx", canvas=CANVAS, images=images)


def test_the_emitters_of_layers_are_there_without_other_exports():
    """In a process of its own, as other modules register them too; it takes what imports take."""
    program = (
        "import keras, keras_senet.export.detector.onnx; "
        "from keras_senet.export.onnx.emitters import EMITTERS; "
        "assert {keras.layers.ZeroPadding2D, keras.layers.Conv2D} <= set(EMITTERS)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
