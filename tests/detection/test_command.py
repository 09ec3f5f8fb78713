"""`keras-senet detect`: what it prints and writes, against `detection` and Pillow."""

import csv
import json
import re
from types import SimpleNamespace

import little
import numpy as np
import pytest
from detection_runs import ROWS, leave, write_images
from eager import run_eagerly
from PIL import Image
from run_here import run_files_here

import keras_senet_cli
from keras_senet import detection
from keras_senet.cli import tables
from keras_senet.cli.detect import predict as predict_command
from keras_senet.cli.detect import train as train_command
from keras_senet.cli.flags import read_options
from keras_senet.cli.options import CLASSES
from keras_senet.export.detector import load_exported


@pytest.fixture
def run(capsys, monkeypatch):
    """The command line in this process: (status, output, lines on the error stream)."""
    monkeypatch.setattr(tables.console, "width", 120)

    def run(*arguments):
        status = keras_senet_cli.main(list(map(str, arguments)))
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


@pytest.fixture(scope="module")
def coco(tmp_path_factory, oracle):
    return write_images(tmp_path_factory.mktemp("data") / "coco", oracle)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, coco, detector):
    """To be read only."""
    return leave(tmp_path_factory.mktemp("runs") / "run", coco, detector)


@pytest.fixture
def loaded(monkeypatch, detector):
    """The detector of the tests in place of those of files, as they are equal: it has been
    traced.
    """
    monkeypatch.setattr(detection, "load", lambda path: detector)


def files(coco):
    return [str(coco / "images" / f"{i}.png") for i in range(2)]


def test_predictions_are_what_the_detector_finds(run, coco, workdir, detector, tmp_path):
    with run_eagerly():
        status, printed, _ = run(
            "detect", "predict", coco / "images", "--workdir", workdir, "--json"
        )
        expected = list(detector.detect(files(coco)))
    assert status == 0
    rows = json.loads(printed)
    assert [row["image"] for row in rows] == files(coco)
    for row, found in zip(rows, expected, strict=True):
        chosen = found.scores >= 0.5
        assert chosen.any()
        assert not chosen.all()
        assert [each["class"] for each in row["detections"]] == [
            name for name, is_chosen in zip(found.names, chosen, strict=True) if is_chosen
        ]
        scores = [each["score"] for each in row["detections"]]
        np.testing.assert_allclose(scores, found.scores[chosen], rtol=1e-6)
        boxes = [each["box"] for each in row["detections"]]
        np.testing.assert_allclose(boxes, found.boxes[chosen], rtol=1e-6)


@pytest.mark.usefixtures("loaded")
def test_a_table_of_predictions_and_pictures(run, coco, workdir, detector, tmp_path):
    table, pictures = tmp_path / "a.csv", tmp_path / "pictures"
    status, printed, _ = run(
        *("detect", "predict", *files(coco), "--workdir", workdir, "--score", 0.2),
        *("--csv", table, "--output", pictures),
    )
    assert status == 0
    assert "2 pictures" in printed
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = list(detector.detect(files(coco)))
    assert len(rows) == sum(int((each.scores >= 0.2).sum()) for each in found)
    corners = [[float(rows[0][name]) for name in ("x1", "y1", "x2", "y2")]]
    np.testing.assert_allclose(corners, found[0].boxes[:1], atol=0.01)
    for index, shape in enumerate([(960, 640), (672, 960)]):
        with Image.open(pictures / f"{index}.png") as image:
            assert np.abs(np.subtract(image.size, shape)).max() <= 1


def test_a_score_below_the_detectors_own_is_applied(run, coco, workdir, detector, monkeypatch):
    monkeypatch.setattr(detection, "load", lambda path: detector.with_score(0.6))
    with run_eagerly():
        status, printed, errors = run(
            *("detect", "predict", files(coco)[0], "--workdir", workdir, "--score", 0.4, "--json")
        )
        (expected,) = detector.detect(files(coco)[:1])
    assert status == 0, errors
    found = [each["score"] for each in json.loads(printed)[0]["detections"]]
    assert min(found) < 0.6
    np.testing.assert_array_equal(found, expected.scores[expected.scores >= 0.4])


def test_a_score_that_a_file_does_not_have_is_refused(run, coco, workdir, monkeypatch):
    nothing = detection.Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), [])
    file = SimpleNamespace(score=0.6, detect=lambda images: [nothing])
    monkeypatch.setattr(predict_command, "load_detector", lambda source: file)
    arguments = ("detect", "predict", files(coco)[0], "--workdir", workdir)
    status, _, errors = run(*arguments, "--score", 0.5)
    assert (status, errors.count("\n")) == (2, 1)
    assert "--score must be at least 0.6, the least that the exported file finds" in errors
    assert run(*arguments)[0] == 0  # nothing was asked for that it leaves out


def test_a_device_for_the_table_is_refused_before_the_work(run, coco, workdir, monkeypatch):
    monkeypatch.setattr(predict_command, "load_detector", None)
    arguments = ("detect", "predict", files(coco)[0], "--workdir", workdir, "--csv", "/dev/null")
    status, _, errors = run(*arguments)
    assert status == 2
    assert "'/dev/null' cannot be written: it is a pipe or a device, and no file" in errors


def test_pictures_keep_their_folders_and_do_not_meet():
    names = predict_command.name_pictures(["a/x.png", "a/b/x.png", "a/x.jpg", "a/y.jpg"])
    assert names == ["x.png.png", "b/x.png", "x.jpg.png", "y.png"]
    names = predict_command.name_pictures(["x.jpg", "x.png", "x.jpg.png"])
    assert names == ["x.jpg.png", "x.png.png", "x.jpg.png.png"]


@pytest.mark.usefixtures("loaded")
def test_images_that_cannot_be_used(run, coco, workdir, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n")
    arguments = ("detect", "predict", bad, files(coco)[0], "--workdir", workdir)
    status, printed, errors = run(*arguments)
    assert status == 2
    assert "cannot be used" in printed
    assert re.fullmatch(
        r"keras-senet detect predict: error: .*bad\.png.*--skip-corrupt.*\n", errors
    )
    status, printed, _ = run(*arguments, "--skip-corrupt", "--json")
    assert status == 0
    assert [row["image"] for row in json.loads(printed)] == [files(coco)[0]]


@pytest.mark.usefixtures("loaded")
def test_an_evaluation_has_cocos_figures(run, coco, workdir, detector, tmp_path):
    output = tmp_path / "results"
    status, printed, _ = run("detect", "evaluate", "--workdir", workdir, "--output", output)
    assert status == 0
    expected = detection.evaluate(detector, detection.load_coco(coco / "test.json"))
    report = json.loads((output / "report.json").read_text())
    assert 0.3 < expected.figures["AP"] < 1
    for name, value in expected.figures.items():
        found = report["figures"][name]
        assert (found is None) == np.isnan(value)
        assert found is None or found == pytest.approx(value)
    cells = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in printed.splitlines()
        if "│" in line
    ]
    assert ["AP", f"{expected.figures['AP']:.3f}"] in cells
    with (output / "per_class.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == list("abcde")
    assert sum(int(row["objects"]) for row in rows) == report["objects"] == 10
    results = json.loads((output / "results.json").read_text())
    assert {each["category_id"] for each in results} <= {1, 4, 7, 10, 13}
    assert {each["image_id"] for each in results} == {10, 11}
    assert report["detections"] == len(results)
    for name in ("precision_recall.png", "mistakes.png"):
        assert (output / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("loaded")
def test_an_evaluation_as_json_writes_to_the_run(run, coco, detector, tmp_path, monkeypatch):
    little.skip_drawing(monkeypatch)
    workdir = leave(tmp_path / "run", coco, detector)
    (workdir / "report.json").write_text('{"exports": []}')
    status, printed, _ = run("detect", "evaluate", "--workdir", workdir, "--json")
    assert status == 0
    report = json.loads((workdir / "report.json").read_text())
    assert report == {"exports": []} | json.loads(printed)
    assert (workdir / "results.json").is_file()


def test_a_run_that_has_not_ended(run, coco, detector, tmp_path):
    workdir = leave(tmp_path / "run", coco)
    status, _, errors = run("detect", "predict", files(coco)[0], "--workdir", workdir)
    assert (status, errors.count("\n")) == (2, 1)
    assert "has not ended" in errors
    detection.save(detector, workdir / "best.safetensors")
    with run_eagerly():
        status, _, errors = run("detect", "predict", files(coco)[0], "--workdir", workdir)
    assert status == 0
    assert "its best detector so far is taken" in errors


def test_scenes_are_written_once(run, tmp_path, monkeypatch):
    monkeypatch.setattr(detection.data.scenes, "COUNTS", {"train": 2, "test": 1})
    status, printed, _ = run("detect", "scenes", tmp_path / "scenes")
    assert status == 0
    assert f"detect train --dataset {tmp_path / 'scenes'} --workdir" in printed
    assert len(detection.load_data(tmp_path / "scenes", "train")) == 2
    status, _, errors = run("detect", "scenes", tmp_path / "scenes")
    assert status == 2
    assert "--overwrite" in errors
    assert run("detect", "scenes", tmp_path / "scenes", "--overwrite")[0] == 0


def test_a_detector_is_converted(run, workdir, detector, tmp_path):
    source, output = workdir / "model.safetensors", tmp_path / "a.safetensors"
    status, printed, _ = run("detect", "convert", source, "--output", output)
    assert status == 0
    assert "5 classes" in printed
    assert detection.load(output).spec == detector.spec
    for arguments, message in (
        ((source, "--output", output), "--output exists"),
        ((source, "--output", tmp_path / "a.h5"), "--output must end in one of .safetensors"),
        ((tmp_path / "a.pth", "--output", tmp_path / "b.safetensors"), "which does not exist"),
    ):
        status, _, errors = run("detect", "convert", *arguments)
        assert (status, errors.count("\n")) == (2, 1)
        assert message in errors


@pytest.fixture
def classifier(tmp_path):
    """A work directory of a classifier."""
    folder = tmp_path / "classifier"
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps({"recipe": {"model": "SEResNet20"}}))
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("detect", "predict", "IMAGE", "--workdir", "CLASSIFIER"),
            "a training run of a classifier",
        ),
        (("detect", "evaluate", "--model", "CLASSIFIER"), "a training run of a classifier"),
        (("detect", "export", "CLASSIFIER"), "a training run of a classifier"),
        (("detect", "evaluate", "--workdir", "DAMAGED"), "whose recipe.json is damaged"),
        (("detect", "train", "--workdir", "CLASSIFIER"), "a training run of classification"),
        (("detect", "predict", "IMAGE", "--workdir", "nowhere"), "which does not exist"),
        (("detect", "predict", "IMAGE", "--model", "IMAGE"), "--model must be a work directory"),
        (("detect", "predict", "IMAGE"), "--workdir must be given, or --model"),
        (
            ("detect", "predict", "IMAGE", "--workdir", "RUN", "--score", "1"),
            "--score must be from 0",
        ),
        (("detect", "evaluate", "--model", "FILE"), "--dataset must be given"),
        (
            ("detect", "evaluate", "--workdir", "RUN", "--dataset", "scenes"),
            "has 5 classes, the images 10",
        ),
        (
            ("detect", "evaluate", "--workdir", "RUN", "--dataset", "nowhere"),
            "There is no dataset 'nowhere'",
        ),
        (("detect", "export", "RUN", "--size", "50"), "--size must be one or two multiples of 32"),
        (
            ("detect", "train", "--workdir", "a", "--recipe", "scenes", "--proposals", "3"),
            "--proposals must be two numbers from 1 to 100000. Received: --proposals 3",
        ),
        (
            ("detect", "train", "--workdir", "a", "--recipe", "scenes", "--anchor-sizes", "8", "9"),
            "--anchor-sizes must be five numbers above 0, of P2 to P6. Received: --anchor-sizes 8",
        ),
        (("predict", "IMAGE", "--workdir", "RUN"), "a training run of detection"),
        (("predict", "IMAGE", "--model", "FILE"), "holds a detector"),
        (("evaluate", "--workdir", "RUN"), "a training run of detection"),
        (("export", "RUN"), "a training run of detection"),
        (("curves", "RUN", "--output", "a.png"), "a training run of detection"),
        (("summary", "RUN"), "a training run of detection"),
        (("train", "--workdir", "RUN"), "a training run of detection"),
        (("excitations", "--workdir", "RUN"), "a training run of detection"),
    ],
)
@pytest.mark.usefixtures("loaded")
def test_what_is_no_detector_is_one_line(
    run, workdir, coco, classifier, tmp_path, monkeypatch, arguments, message
):
    places = {
        "RUN": workdir,
        "CLASSIFIER": classifier,
        "FILE": workdir / "model.safetensors",
        "IMAGE": files(coco)[0],
        "DAMAGED": tmp_path / "damaged",
    }
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "recipe.json").write_text("{")
    monkeypatch.chdir(tmp_path)
    status, _, errors = run(*(places.get(each, each) for each in arguments))
    assert (status, errors.count("\n")) == (2, 1), errors
    assert message in errors


def no_boxes(content):
    content["annotations"] = []


def nan(content):
    content["annotations"][0]["bbox"][2] = float("nan")


def no_category(content):
    del content["annotations"][0]["category_id"]


def no_image(content):
    content["images"][1]["file_name"] = "gone.png"


def too_large(content):
    content["annotations"][0]["area"] = 10**400


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (None, "is not a JSON file of COCO: it holds no object with"),
        (no_boxes, "has no boxes in its 2 images"),
        (nan, "has a box that is not four numbers"),
        (no_category, "there is no 'category_id' in an entry of 'annotations'"),
        (no_image, "lists an image that cannot be read: "),
        (too_large, "has a box that is not a number, the area"),
    ],
)
@pytest.mark.usefixtures("loaded")
def test_images_that_are_no_coco_are_one_line(run, coco, workdir, tmp_path, edit, message):
    """By each command, which leaves nothing."""
    content = json.loads((coco / "train.json").read_text())
    if edit is None:
        content = list(content)
    else:
        edit(content)
    file = tmp_path / "żółw.json"
    file.write_text(json.dumps(content))
    (tmp_path / "images").symlink_to(coco / "images")
    for command in (
        ("train", "--recipe", "scenes", "--workdir", tmp_path / "run"),
        ("evaluate", "--workdir", workdir, "--output", tmp_path / "output"),
        ("export", workdir, "--output", tmp_path / "output"),
    ):
        status, _, errors = run("detect", *command, "--dataset", file)
        assert (status, errors.count("\n")) == (2, 1), errors
        assert errors.startswith(f"keras-senet detect {command[0]}: error: ")
        assert message in errors
        assert "żółw.json" in errors
    assert {path.name for path in tmp_path.iterdir()} == {"żółw.json", "images"}


@pytest.mark.usefixtures("loaded")
def test_images_of_other_kinds(run, workdir, tmp_path):
    """Grey, with alpha, and of 16 bits they are taken; a small one and a folder are named."""
    for mode in ("L", "LA", "RGBA", "I;16", "P"):
        Image.new(mode, (40, 40)).save(tmp_path / f"{mode.replace(';', '')}.png")
    folder = tmp_path / "images.png"
    arguments = ("--workdir", workdir, "--json")
    status, printed, _ = run("detect", "predict", *sorted(tmp_path.glob("*.png")), *arguments)
    assert status == 0
    assert len(json.loads(printed)) == 5
    folder.mkdir()
    Image.new("RGB", (40, 31)).save(folder / "small.png")
    status, printed, errors = run("detect", "predict", folder, *arguments)
    assert (status, errors.count("\n")) == (2, 1)
    assert "at least 32 pixels on each side. Received: 40 x 31" in errors


@pytest.mark.parametrize("given", [(), ("--help",), ("-h",)])
def test_the_subcommands_are_listed(run, given):
    status, printed, errors = run("detect", *given)
    assert status == (0 if given else 2)
    for name in keras_senet_cli.SUBCOMMANDS["detect"]:
        assert name in printed + errors


class Trained:
    """In place of the trainer: what it was given, and what it leaves."""

    def __init__(self, recipe, workdir, **options):
        self.recipe, self.options = recipe, options
        self.title, self.steps, self.began_at = "Faster R-CNN", 12, 0
        self.workdir = SimpleNamespace(metrics=SimpleNamespace(read=lambda: ROWS))
        Trained.last = self

    def train(self):
        return ROWS[-1]


@pytest.fixture
def trainer(monkeypatch):
    monkeypatch.setattr(train_command.detection, "Trainer", Trained, raising=False)
    return Trained


def test_training_says_the_linear_rule_and_what_comes_next(run, trainer, tmp_path):
    status, printed, _ = run(
        *("detect", "train", "--recipe", "coco-1x", "--workdir", tmp_path / "run"),
        *("--batch-size", 2, "--dataset", "here", "--keep", 5, "--short", 512, "--no-flip"),
        *("--anchor-sizes", "8", "16", "32", "64", "128", "--se.reduction", 8),
    )
    assert status == 0
    recipe, options = trainer.last.recipe, trainer.last.options
    # Detectron's rate is 0.02 for 16 images
    assert "--learning-rate 0.0025" in printed
    assert (recipe.detector.short, recipe.flip, recipe.se.reduction) == (512, False, 8)
    assert recipe.detector.anchors.sizes == (8, 16, 32, 64, 128)
    assert (options["keep"], options["lower_batch"]) == (5, False)
    assert "AP 0.300, AP50 0.600" in printed
    assert f"keras-senet detect predict IMAGE.jpg --workdir {tmp_path / 'run'}" in printed


def test_no_linear_rule_where_the_rate_is_given(run, trainer, tmp_path):
    arguments = ("detect", "train", "--recipe", "scenes", "--workdir", tmp_path / "run")
    for changes in (("--learning-rate", 0.1, "--batch-size", 2), ()):
        _, printed, _ = run(*arguments, *changes)
        assert "linear rule" not in printed


@pytest.mark.parametrize(
    ("dataset", "recipe"),
    [("scenes", "scenes"), ("voc/2007", "voc2007"), ("coco/2017", "coco-1x"), ("mine", "finetune")],
)
def test_a_dataset_picks_a_recipe(dataset, recipe):
    options = read("train", "--dataset", dataset, "--workdir", "nowhere")
    expected = detection.RECIPES[recipe]
    assert options.recipe == expected.override(dataset=dataset)


def test_a_run_is_continued_without_its_recipe(workdir):
    options = read("train", "--workdir", str(workdir), "--epochs", "9")
    there = json.loads((workdir / "recipe.json").read_text())["recipe"]
    assert options.recipe.dataset == there["dataset"]
    assert options.recipe.detector.anchors.sizes == tuple(there["detector"]["anchors"]["sizes"])
    assert (options.recipe.epochs, options.changed) == (9, {"epochs"})


def test_the_backbones_network_is_that_of_its_weights(classifier):
    options = read(
        *("train", "--dataset", "mine", "--workdir", "nowhere"),
        *("--backbone-weights", str(classifier)),
    )
    assert options.recipe.model == "SEResNet20"


def read(command, *arguments):
    return read_options(f"detect {command}", CLASSES[f"detect {command}"], arguments)


@pytest.mark.usefixtures("loaded")
def test_an_exported_file_is_run_and_evaluated(run, workdir, coco, detector, tmp_path, monkeypatch):
    run_files_here(monkeypatch)
    status, printed, errors = run(
        *("detect", "export", workdir, "--format", "onnx", "--size", 128, "--output", tmp_path),
        *("--evaluate-images", 2, "--json"),
    )
    assert status == 0, errors
    (report,) = json.loads(printed)
    assert report["accuracy"] == pytest.approx(report["keras_accuracy"], abs=0.002)
    file = tmp_path / "model.onnx"
    assert load_exported(file).score == detector.spec.score
    status, printed, _ = run("detect", "predict", files(coco)[0], "--model", file, "--json")
    assert status == 0
    found = json.loads(printed)[0]["detections"]
    (expected,) = detector.detect([files(coco)[0]], (128, 128))
    chosen = expected.scores >= 0.5
    np.testing.assert_allclose(
        [each["score"] for each in found], expected.scores[chosen], atol=1e-4
    )
