"""The content of a page: what the run's files say, and what its network predicts, computed another
way.
"""

import base64
import csv
import io
import json
import os
import re

import keras
import little
import numpy as np
import pytest
from html_page import parsed
from PIL import Image
from report_runs import NAMES, digits, leave, network

import keras_senet
from keras_senet import cli, data
from keras_senet.analysis import gates
from keras_senet.complexity import complexity
from keras_senet.evaluation import load_run
from keras_senet.models.resnet import SmallResNet
from keras_senet.recipes.recipe import NOT_FLAGS
from keras_senet.report import image_sections, sections, write_page
from keras_senet.report.predictions import Gate

ROWS = [
    {
        "step": 5 * e,
        "epoch": e,
        "loss": 2 / e,
        "accuracy": 0.4,
        "learning_rate": 0.1,
        "test_loss": 3 / e,
    }
    | {"test_accuracy": 0.25 if e != 2 else np.nan, "test_top5": 0.5 if e != 2 else np.nan}
    for e in (1, 2, 3)
]
FILE = {
    "path": "exports/model.tflite",
    "format": "tflite",
    "quantization": "int8",
    "bytes": 5 * 2**20,
}
FIGURES = {
    "max_abs_error": 2e-5,
    "relative_error": 1e-4,
    "sensitivity": 3e-6,
    "top1_agreement": 0.995,
    "latency_ms": 1.25,
}
EXPORT = FILE | FIGURES | {"mean_abs_error": 1e-6, "peak_memory": 3 * 2**19}


@pytest.fixture(scope="module")
def root(written):
    return parsed(written.read_text())


@pytest.fixture(scope="module")
def probabilities(trained):
    """The run's outputs for all test images."""
    model = keras.models.load_model(trained / "model.keras")
    preprocessing = load_run(trained).preprocessing
    return model.predict(
        (digits("test").images - preprocessing.mean) / preprocessing.std, verbose=0
    )


def section(root, name):
    return root.one("section", id=name)


def tiles(root):
    return {tile.one("dt").text: tile.one("dd").text for tile in root.one("dl").all("div")}


def page_of(*arguments, **options):
    return parsed(write_page(*arguments, **options).path.read_text())


def percent(part):
    return f"{100 * part:.2f}%"


def test_figures(root, probabilities):
    """6 s: as the first of the file, with the run that is trained and its page."""
    labels = digits("test").labels
    true = np.take_along_axis(probabilities, labels[:, None], 1)
    top5 = ((probabilities > true).sum(axis=1) < 5).mean()
    loss = -np.log(true).mean()
    counts = complexity(little.TWO_STAGES(weights=None))
    assert tiles(root) == {
        "Top-1 error": percent((probabilities.argmax(1) != labels).mean()),
        "Top-5 error": percent(1 - top5),
        "Loss": f"{loss:.4f}",
        "Epochs": "2",
        "Parameters": f"{counts.parameters / 1e3:.3g} k",
        "Multiply-adds": f"{counts.multiply_adds / 1e3:.3g} k",
    }
    assert "on 150 test images" in root.one("header").text
    assert root.one("h1").text == "SEResNet20 on digits"


def test_every_epoch_is_in_the_table(root, trained):
    with (trained / "metrics.csv").open(newline="") as file:
        expected = list(csv.DictReader(file))
    rows = root.one("table", id="epochs").rows()
    assert [row[:2] for row in rows] == [[row["epoch"], row["step"]] for row in expected]
    names = [
        cell.text.replace(" ", "_")
        for cell in root.one("table", id="epochs").one("thead").all("th")
    ]
    assert names == ["epoch", "step", *list(expected[0])[2:]]
    shown = [dict(zip(names, row, strict=True)) for row in rows]
    assert [row["test_accuracy"] for row in shown] == [
        percent(float(row["test_accuracy"])) for row in expected
    ]
    assert [row["loss"] for row in shown] == [f"{float(row['loss']):.4f}" for row in expected]


def test_curves_go_through_the_metrics(root, trained):
    with (trained / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    charts = list(section(root, "training").all("figure"))
    assert [chart.one("h3").text for chart in charts] == ["Loss", "Top-1 error", "Learning rate"]
    readout = json.loads(charts[1].attributes["data-readout"])
    assert readout["points"] == [1, 2]
    assert readout["at"] == [0, 100]
    expected = [
        [f"{100 * (1 - float(row[name])):.2f}" for row in rows]
        for name in ("accuracy", "test_accuracy")
    ]
    assert readout["texts"] == expected
    assert all(text in charts[1].one("desc").text for text in (expected[0][-1], expected[1][-1]))


def test_confusions_and_classes(root, probabilities):
    labels, predicted = digits("test").labels, probabilities.argmax(1)
    counts = [[int(((labels == i) & (predicted == j)).sum()) for j in range(10)] for i in range(10)]
    table = section(root, "confusion").one("table")
    assert [row[0] for row in table.rows()] == [" ".join(name.split()) for name in NAMES]
    assert [[int(cell or 0) for cell in row[1:]] for row in table.rows()] == counts

    expected = []
    for i, name in enumerate(NAMES):
        wrong = [0 if j == i else n for j, n in enumerate(counts[i])]
        others = probabilities[labels == i]
        top5 = np.mean([i in np.argsort(-p, kind="stable")[:5] for p in others])
        most = NAMES[int(np.argmax(wrong))] if any(wrong) else "–"
        expected.append(
            [name, "15", f"{counts[i][i]}", percent(counts[i][i] / 15), percent(top5), most]
        )
    assert section(root, "classes").one("table").rows() == expected


def test_pairs_show_the_images_of_the_surest_wrong_answers(root, probabilities):
    test_set = digits("test")
    classes = probabilities.argmax(1)
    items = list(section(root, "pairs").one("ol").all("li"))
    assert 1 < len(items) <= 12
    counts = []
    for item in items:
        true, predicted = (NAMES.index(name.text) for name in item.all("b"))
        places = np.flatnonzero((test_set.labels == true) & (classes == predicted))
        counts.append(len(places))
        assert item.one("p", kind="count").text == f"{len(places)} {100 * len(places) / 15:.1f}%"
        surest = places[np.argsort(-probabilities[places, predicted], kind="stable")[:3]]
        figures = list(item.all("figure"))
        shown = [float(figure.one("figcaption").text.rstrip("%")) for figure in figures]
        np.testing.assert_allclose(shown, 100 * probabilities[surest, predicted], atol=0.051)
        for figure, index in zip(figures, surest, strict=True):
            kind, _, encoded = figure.one("img").attributes["src"].partition(",")
            assert kind == "data:image/png;base64"
            pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))
            np.testing.assert_array_equal(pixels, test_set.images[index])
    wrong = classes != test_set.labels
    pairs = np.unique(
        np.stack([test_set.labels[wrong], classes[wrong]]), axis=1, return_counts=True
    )[1]
    assert counts == sorted(pairs, reverse=True)[:12]


def pictures_of(element):
    for image in element.all("img"):
        encoded = image.attributes["src"].partition(",")[2]
        yield np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))


def test_grad_cam_of_the_surest_mistakes_and_hits(root, probabilities):
    """Each image, and next to it the image under its heat map."""
    test_set, predicted = digits("test"), probabilities.argmax(1)
    surest = probabilities.max(1)
    right = predicted == test_set.labels
    headings = [each.text for each in section(root, "looks").all("h3")]
    groups = dict(zip(headings, section(root, "looks").all("ol"), strict=True))
    for heading, wanted in (("Most confident mistakes", ~right), ("Most confident hits", right)):
        best = {}
        for index in sorted(np.flatnonzero(wanted), key=lambda i: -surest[i]):
            best.setdefault((test_set.labels[index], predicted[index]), index)
        if not best:
            assert heading not in groups
            continue
        items = list(groups[heading].all("li"))
        assert len(items) == len(list(best)[:8])
        for item, ((true, other), index) in zip(items, best.items(), strict=False):
            assert [name.text for name in item.all("b")] == [
                NAMES[n] for n in dict.fromkeys((true, other))
            ]
            shown = float(item.one("small").text.rstrip("%"))
            assert shown == pytest.approx(100 * surest[index], abs=0.051)
            plain, heat = pictures_of(item)
            np.testing.assert_array_equal(plain, test_set.images[index])
            assert heat.shape == plain.shape


def test_suspects_are_listed_and_written(root, written, probabilities):
    """The rule, spelled out with loops; the same images in the page and in the file."""
    labels, predicted = digits("test").labels, probabilities.argmax(1)
    means = [probabilities[labels == c, c].mean() for c in range(10)]
    expected = [
        i
        for i in range(len(labels))
        if predicted[i] != labels[i] and probabilities[i, predicted[i]] >= means[predicted[i]]
    ]
    expected.sort(key=lambda i: probabilities[i, labels[i]])
    assert len(expected) > 5
    with written.with_name("suspects.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [f"image {i}" for i in expected]
    assert [row["label"] for row in rows] == [NAMES[labels[i]] for i in expected]
    assert [row["predicted"] for row in rows] == [NAMES[predicted[i]] for i in expected]
    own = [float(row["label_probability"]) for row in rows]
    np.testing.assert_allclose(own, [probabilities[i, labels[i]] for i in expected], rtol=1e-4)
    shown = section(root, "suspects").one("table").rows()
    assert [row[-1] for row in shown] == [row["file"] for row in rows][:24]
    images = list(pictures_of(section(root, "suspects")))
    for image, index in zip(images, expected[:24], strict=True):
        np.testing.assert_array_equal(image, digits("test").images[index])


def test_gates_are_the_mean_over_images_block_by_block(root, trained):
    model = load_run(trained)
    found = gates(model).predict(model.preprocessing.normalize(digits("test").images), verbose=0)
    rows = root.one("table", id="blocks").rows()
    assert [row[0] for row in rows] == [f"stage{stage}_block1_se" for stage in (1, 2)]
    for name, *figures in rows:
        channels = found[name].mean(axis=(0, 1, 2))
        expected = [len(channels), channels.mean(), *np.percentile(channels, (10, 90))]
        np.testing.assert_allclose([float(figure) for figure in figures], expected, atol=6e-5)
    label = root.one(kind="gatechart").attributes["aria-label"]
    assert f"stage2 {float(rows[1][2]):.2f}" in label
    assert "150 test images" in section(root, "gates").text


def test_few_large_gates_stay_on_the_chart():
    """Of 95 ReLU gates of 0 and 5 of 100 the mean is above the 90th percentile."""
    found = image_sections._gates(
        [
            Gate("stage1_block1_se", 100, 5.0, 0.0, 0.0),
            Gate("stage1_block2_se", 100, -2.0, 0.0, 1.0),
        ]
    )
    bars = [bar[1:] for bar in found["stages"][0]["bars"]]
    np.testing.assert_allclose(bars, [(200 / 7, 100, 200 / 7), (200 / 7, 0, 300 / 7)])


def test_costs_stage_by_stage(root):
    counts = complexity(little.TWO_STAGES(weights=None))
    rows = root.one("table", id="stages").rows()
    assert rows == [
        [s.name, " × ".join(map(str, s.output_shape)), f"{s.parameters:,}", f"{s.multiply_adds:,}"]
        for s in counts.stages()
    ]
    assert "2 SE blocks" in section(root, "cost").text


def test_fields_that_differ_from_the_default_come_first(root):
    changed, others = (table.rows() for table in section(root, "recipe").all("table"))
    assert {row[0]: row[1:3] for row in changed} == {
        "epochs": ["2", "10"],
        "batch_size": ["16", "64"],
        "warmup_epochs": ["1", "0"],
        "nesterov": ["yes", "no"],
        "pad_and_crop": ["3", "0"],
        "pipeline": ["tf.data", "auto"],  # which "auto" was when the run began
    }
    names = {row[0] for row in changed} | {row[0] for row in others}
    assert names == set(keras_senet.training.Recipe().flat()) - set(NOT_FLAGS)
    assert all(row[-1] for row in (*changed, *others))
    assert "tensorflow" in root.one("footer").text


def test_text_of_files_is_never_markup(root):
    assert [script.attributes for script in root.all("script")] == [{}]
    assert {element.tag for element in root.all()} & {"iframe", "object", "form", "base"} == set()
    for element in root.all():
        assert not [name for name in element.attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert element.attributes.get(name, "#").startswith(("#", "data:image/", "data:,"))
    assert "49" not in section(root, "classes").one("table").text.split()


def test_nothing_of_the_page_is_outside_of_it(written):
    text = re.sub(r'"data:[^"]*"|hf://owner/name', "", written.read_text())
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"^// .*$", "", text, flags=re.M))


def test_a_recipe_with_markup(tmp_path):
    workdir = leave(
        tmp_path / "run", rows=ROWS, source="<b onclick=x>bold</b>", dataset='"><script>1</script>'
    )
    root = page_of(workdir)
    assert root.one("h1").text == 'SEResNet20 on "><script>1</script>'
    assert root.one("head").one("title").text == root.one("h1").text
    assert "<b onclick=x>bold</b>" in section(root, "recipe").text
    assert len(list(root.all("script"))) == 1


def test_a_run_that_has_not_ended(tmp_path):
    root = page_of(leave(tmp_path / "run", rows=ROWS, epochs=10))
    assert "has not ended" in root.one(id="unfinished").text
    assert "epoch 3 of 10" in root.one(id="unfinished").text
    assert tiles(root) == {
        "Top-1 error": "75.00%",
        "Top-5 error": "50.00%",
        "Loss": "1.0000",
        "Epochs": "3 of 10",
    }
    assert "after epoch 3" in root.one("header").text
    assert [each.attributes["id"] for each in root.all("section")] == ["training", "recipe"]
    assert [row[-1] for row in root.one("table", id="epochs").rows()] == ["50.00%", "–", "50.00%"]


def test_a_run_without_metrics(tmp_path):
    root = page_of(leave(tmp_path / "run"))
    assert "no metrics yet" in section(root, "training").text
    assert tiles(root) == {"Epochs": "0 of 10"}


def test_a_plain_network(tmp_path):
    spec = SmallResNet((1, 1), se=None)
    plain = keras_senet.application(spec, name="plain", input_size=8, min_size=8, classes=10)
    root = page_of(leave(tmp_path / "run", network(plain), ROWS))
    assert "no SE blocks" in section(root, "gates").text
    assert "SE block" not in section(root, "cost").text


def test_parts_that_are_not_wanted(tmp_path):
    workdir = leave(tmp_path / "run", network(), ROWS)
    root = page_of(workdir, gates=False, thumbnails=False)
    assert "gates" not in [each.attributes["id"] for each in root.all("section")]
    assert list(root.all("img")) == []
    assert list(root.all("section", id="looks")) == []
    assert section(root, "suspects")
    assert len(list(section(root, "pairs").all("li"))) == 12
    root = page_of(workdir, evaluation=False)
    assert [each.attributes["id"] for each in root.all("section")] == ["training", "cost", "recipe"]
    assert tiles(root)["Top-1 error"] == "75.00%"
    root = page_of(workdir, split="train")
    assert "80 training images" in root.one("header").text


def test_the_training_set_is_elsewhere(tmp_path, capsys):
    workdir = leave(tmp_path / "run", network(), ROWS, dataset="./gone")
    assert cli.main(["report", str(workdir)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    root = parsed((workdir / "report.html").read_text())
    assert "'./gone'" in root.one(id="missing").text
    assert "'./gone'" in said
    assert tiles(root)["Top-1 error"] == "75.00%"

    with pytest.warns(UserWarning, match="the network class 0, .* taken in their order"):
        assert cli.main(["report", str(workdir), "--dataset", "digits"]) == 0
    assert "without" not in capsys.readouterr().out
    root = parsed((workdir / "report.html").read_text())
    assert section(root, "confusion")

    assert cli.main(["report", str(workdir), "--dataset", "./nowhere"]) == 2
    assert "'./nowhere'" in capsys.readouterr().err
    assert section(parsed((workdir / "report.html").read_text()), "confusion")

    elsewhere = tmp_path / "new" / "folder" / "page.html"
    assert (
        cli.main(["report", str(workdir), "--dataset", "./nowhere", "--output", str(elsewhere)])
        == 2
    )
    assert not (tmp_path / "new").exists()
    assert cli.main(["report", str(workdir), "--output", str(elsewhere)]) == 0
    assert parsed(elsewhere.read_text()).one(id="missing")


def test_exports_of_both_reports(tmp_path):
    workdir = leave(tmp_path / "run", rows=ROWS)
    older, newer = workdir / "report.json", workdir / "exports" / "report.json"
    newer.parent.mkdir()
    older.write_text(
        json.dumps(
            {"accuracy": 1, "exports": [EXPORT, EXPORT | {"path": "a.onnx", "format": "onnx"}]}
        )
    )
    newer.write_text(
        json.dumps({"exports": [EXPORT | {"quantization": None, "peak_memory": None}]})
    )
    os.utime(older, (1e9, 1e9))
    rows = section(page_of(workdir), "exports").one("table").rows()
    figures = ["2.0e-05", "1.0e-04", "3.0e-06", "99.50%", "–", "–", "1.25"]  # without accuracies
    assert rows == [
        ["model.tflite", "tflite", "–", "5.0 MiB", *figures, "–"],
        ["a.onnx", "onnx", "int8", "5.0 MiB", *figures, "1.5 MiB"],
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("recipe.json", "{", "recipe.json' is damaged"),
        ("recipe.json", "{}", "recipe.json' is damaged (it has no 'recipe')"),
        ("recipe.json", "[" * 100_000, "recipe.json' is damaged (maximum recursion depth"),
        ("recipe.json", '{"task": "x"}', "a training run of x, and not of classification"),
        ("metrics.csv", "step,epoch\n5,one\n", "metrics.csv' is damaged"),
        (
            "metrics.csv",
            "a,b\n1,2\n",
            "metrics.csv' is damaged (it has no columns 'step' and 'epoch')",
        ),
        ("report.json", "[]", "report.json' is damaged"),
        ("report.json", '{"exports": [1]}', "report.json' is damaged"),
        ("report.json", '{"exports": [{"path": "x"}]}', "report.json' is damaged"),
        (
            "report.json",
            '{"exports": [{"path": "x", "format": "y", "bytes": "z"}]}',
            "bytes of an export must be a number",
        ),
        ("model.keras", "nothing", "model.keras' is damaged"),
    ],
)
def test_damaged_files(tmp_path, capsys, name, content, message):
    workdir = leave(tmp_path / "run", network() if name == "model.keras" else None, ROWS)
    (workdir / "report.html").write_text("an earlier page")
    (workdir / name).write_text(content)
    assert cli.main(["report", str(workdir)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert (workdir / "report.html").read_text() == "an earlier page"


def test_wrong_arguments(tmp_path, capsys):
    workdir = leave(tmp_path / "run", rows=ROWS)
    (tmp_path / "file").touch()
    for arguments, message in (
        ([str(tmp_path)], "holds no training run"),
        ([str(workdir), "--output", str(tmp_path)], "must be a file, and is a folder"),
        ([str(workdir), "--output", str(tmp_path / "file" / "page.html")], "cannot be written"),
        ([str(workdir), "--batch-size", "0"], "--batch-size must be at least 1"),
        ([str(workdir), "--data-dir", "nowhere"], "--data-dir must be a folder"),
    ):
        assert cli.main(["report", *arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    with pytest.raises(
        ValueError, match="`split` must be one of 'train', 'val', 'test', 'all'. Received"
    ):
        write_page(workdir, split="eval")


def test_a_thousand_classes(tmp_path, monkeypatch):
    names = tuple(f"class {i:04}" for i in range(1000))
    images = np.random.default_rng(0).integers(0, 256, (3000, 8, 8, 3), "uint8")
    monkeypatch.setitem(
        data.DATASETS, "digits", lambda split: data.Dataset(images, np.arange(3000) % 1000, names)
    )
    written = write_page(leave(tmp_path / "run", network(classes=1000), ROWS * 1000))
    assert written.path.stat().st_size < 3e6
    root = parsed(written.path.read_text())
    worst, best, rest = (table.rows() for table in section(root, "classes").all("table"))
    parts = [float(row[3].rstrip("%")) for row in rest]
    assert len(rest) == 1000
    assert parts == sorted(parts)
    assert worst == rest[:10]
    assert best == rest[::-1][:10]
    assert "5 by 5 classes" in section(root, "confusion").text
    assert list(section(root, "confusion").all("table")) == []
    assert len(list(section(root, "pairs").all("li"))) == 12
    assert len(root.one("table", id="epochs").rows()) <= sections.EPOCHS
