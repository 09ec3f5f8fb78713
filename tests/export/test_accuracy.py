"""Accuracy of the Keras model and of written files, on labelled images."""

import little
import numpy as np
import pytest
import report_runs
import runtimes

from keras_senet import export
from keras_senet.export import run_file
from keras_senet.export.accuracy import LabelledImages
from keras_senet.export.formats import Common

COUNT = 40

pytestmark = pytest.mark.usefixtures("graphs_as_traced")


@pytest.fixture(scope="module")
def model():
    return report_runs.network()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 256, (COUNT, 8, 8, 3), "uint8")


@pytest.fixture(scope="module")
def predicted(model, images):
    """The classes by plain Keras."""
    return np.argmax(model(model.preprocessing.normalize(images)), axis=-1)


@pytest.fixture(scope="module")
def labelled(images, predicted):
    """The images, and labels that Keras has right for about three quarters of them."""
    is_wrong = np.random.default_rng(2).random(COUNT) < 0.25
    return images, np.where(is_wrong, (predicted + 1) % 10, predicted)


def written(model, labelled, path, kind, quantization):
    calibrates = quantization in ("int8", "int16x8")
    images, labels = labelled
    options = {"quantization": quantization} if quantization else {}
    options |= {"representative_images": images.astype("float32")} if calibrates else {}
    if kind == "savedmodel":  # with preprocessing it would serve JPEGs, which takes seconds
        images = np.asarray(model.preprocessing.normalize(images))
    else:
        options["preprocessing"] = model.preprocessing
    options["evaluation"] = images, labels
    return runtimes.WRITERS[kind](model, path, **options)


@pytest.mark.parametrize(
    ("kind", "quantization"),
    [
        ("savedmodel", None),
        ("tflite", None),
        pytest.param("tflite", "dynamic", marks=pytest.mark.slow),  # run as the one before
        ("tflite", "int8"),
        pytest.param("tflite", "int16x8", marks=pytest.mark.slow),  # run as the one before
        ("onnx", "float16"),
        ("onnx", "int8"),
    ],
)
def test_accuracies_are_those_of_keras_and_of_the_runtime(
    kind, quantization, model, labelled, predicted, tmp_path
):
    images, labels = labelled
    report = written(model, labelled, tmp_path / "file", kind, quantization)
    assert report.keras_accuracy == np.mean(predicted == labels)
    taken = model.preprocessing.normalize(images) if kind == "savedmodel" else images
    found = runtimes.run(kind, tmp_path / "file", np.float32(taken))["predictions"]
    assert report.accuracy == np.mean(found.argmax(-1) == labels)
    assert report.evaluated_images == COUNT


def test_none_is_measured_unless_asked_for(model, tmp_path):
    report = export.to_onnx(model, tmp_path / "file")
    assert (report.accuracy, report.keras_accuracy, report.evaluated_images) == (None, None, None)


def test_keras_predicts_once_for_several_files(model, labelled, tmp_path, monkeypatch):
    evaluation = LabelledImages(*labelled)
    common = Common(preprocessing=model.preprocessing, evaluation=evaluation)
    first = export.export_model(model, tmp_path / "first", export.ONNX(), common)
    monkeypatch.setattr(LabelledImages, "_predict", None)
    second = export.export_model(model, tmp_path / "second", export.ONNX(layout="nchw"), common)
    assert second.keras_accuracy == first.keras_accuracy
    assert second.accuracy == first.accuracy


def test_a_slow_file_is_evaluated_on_fewer_images_evenly_spread():
    def run(images):
        return {"predictions": np.eye(10)[images[:, 0].astype(int) % 10]}

    images = np.arange(100)[:, None]
    milliseconds = 1000 * run_file.EVALUATION_SECONDS / 12  # time for a dozen
    classes, indices = run_file.predict_top1(run, images, milliseconds)
    assert indices.tolist() == [0, 9, 18, 27, 36, 45, 54, 63, 72, 81, 90, 99]
    assert classes.tolist() == [each % 10 for each in indices]
    _, everything = run_file.predict_top1(run, images, 0.1)
    assert everything.tolist() == list(range(100))


def test_an_output_that_is_not_finite_fails(model, labelled, tmp_path, monkeypatch):
    """Although those of the compared images are."""
    monkeypatch.setattr(run_file, "predict_top1", lambda *_: (np.array([1, -1]), np.array([0, 1])))
    with pytest.raises(export.ParityError, match="its outputs are not finite"):
        written(model, labelled, tmp_path / "file", "onnx", None)
    assert not list(tmp_path.iterdir())


IMAGES, LABELS = np.zeros((4, 8, 8, 3), "uint8"), np.arange(4)
NAN = np.full((4, 8, 8, 3), np.nan)


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        (IMAGES, "must be a pair of images and labels"),
        ((IMAGES, LABELS, LABELS), "must be a pair of images and labels"),
        ((IMAGES, LABELS[:3]), r"labels of shape \(3,\)"),
        ((IMAGES[:0], LABELS[:0]), r"images of shape \(0, 8, 8, 3\)"),
        ((IMAGES, LABELS / 2), "dtype float64"),
        ((IMAGES, np.eye(4, 10)), r"labels of shape \(4, 10\)"),
        ((IMAGES, LABELS + 7), r"labels of 0\.\.9, .* labels of 7\.\.10"),
        ((IMAGES, LABELS - 1), r"labels of -1\.\.2"),
        ((IMAGES[:, :6], LABELS), r"images of shape \(N, 8, 8, 3\).*\(4, 6, 8, 3\)"),
        ((IMAGES.astype(str), LABELS), "dtype <U"),
        ((NAN, LABELS), "finite images"),
    ],
)
def test_a_wrong_evaluation_is_refused(evaluation, message, model, tmp_path):
    with pytest.raises(ValueError, match=f"(?s)`evaluation` must .*{message}|{message}"):
        export.to_onnx(model, tmp_path / "file", evaluation=evaluation)
    assert not list(tmp_path.iterdir())


def test_only_a_classifier_is_evaluated(tmp_path):
    model = little.NETWORK(weights=None, include_top=False, input_shape=(8, 8, 3))
    with pytest.raises(ValueError, match="`evaluation` is for a classifier"):
        export.to_onnx(model, tmp_path / "file", evaluation=(IMAGES, LABELS))
