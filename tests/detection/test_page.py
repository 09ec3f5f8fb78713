"""The page of a detection run: its figures against `detection.evaluate`, and what it lacks."""

import json

import chromium
import numpy as np
import pytest
from detection_runs import ROWS, leave, write_images
from html_page import parsed

from keras_senet import detection
from keras_senet.report import write_page

EXPORT = {
    **{"path": "exports/model.tflite", "format": "tflite", "quantization": None, "bytes": 2**20},
    **{"max_abs_error": 2e-3, "relative_error": 1e-5, "top1_agreement": 1.0, "latency_ms": 12.5},
    **{"score_error": 3e-6, "accuracy": 0.4321, "keras_accuracy": 0.4320, "peak_memory": 2**21},
}


@pytest.fixture(scope="module")
def coco(tmp_path_factory, oracle):
    names = ["<b>a</b>", 'a"b&c', "{{ 7 * 7 }}", "d", "e"]
    return write_images(tmp_path_factory.mktemp("data") / "coco", oracle, names)


@pytest.fixture(scope="module")
def hostile(detector):
    """The detector with names of classes that a page must not take for markup."""
    names = ["<b>a</b>", 'a"b&c', "{{ 7 * 7 }}", "d", "e"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detector, "class_names", tuple(names))
        yield detector


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, coco, hostile):
    folder = leave(tmp_path_factory.mktemp("runs") / "run", coco, hostile)
    (folder / "report.json").write_text(json.dumps({"exports": [EXPORT]}))
    return folder


@pytest.fixture(scope="module")
def root(workdir, hostile):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detection, "load", lambda path: hostile)
        return parsed(write_page(workdir).path.read_text())


def tiles(root):
    return {
        tile.one("dt").text: tile.one("dd").text for tile in root.one("header").one("dl").all("div")
    }


def sections(root):
    return [each.attributes["id"] for each in root.all("section")]


def test_figures_are_cocos(root, hostile, coco):
    expected = detection.evaluate(hostile, detection.load_coco(coco / "test.json"))
    shown = tiles(root)
    for name in ("AP", "AP50", "AP75"):
        assert shown[name] == f"{expected.figures[name]:.3f}"
    assert shown["Epochs"] == "3"
    cells = root.one("section", id="precision").one("dl").all("div")
    found = {each.one("dt").text: each.one("dd").text for each in cells}
    assert found == {
        name.replace("_", " "): "–" if np.isnan(value) else f"{value:.3f}"
        for name, value in expected.figures.items()
    }
    rows = {row[0]: row[2] for row in root.one("section", id="classes").one("table").rows()}
    assert rows == {
        name: "–" if np.isnan(value) else f"{value:.3f}"
        for name, value in expected.by_class.items()
    }


def test_curves(root):
    charts = list(root.one("section", id="training").all("figure"))
    assert [chart.one("h3").text for chart in charts] == [
        "Loss",
        "Average precision",
        "Learning rate",
    ]
    readout = json.loads(charts[1].attributes["data-readout"])
    assert (readout["axis"], readout["points"]) == ("epoch", [1, 2, 3])
    assert readout["texts"][0] == [f"{row['ap']:.3f}" for row in ROWS]
    means, _ = root.one("section", id="precision").all("figure")
    readout = json.loads(means.attributes["data-readout"])
    assert (readout["axis"], readout["points"][:2]) == ("recall", [0, 0.01])
    assert len(readout["texts"]) == 6


def test_sections_and_exports(root):
    assert sections(root) == [
        *("training", "precision", "classes", "detections", "mistakes", "cost", "exports"),
        "recipe",
    ]
    (row,) = root.one("section", id="exports").one("table").rows()
    assert row[:3] == ["model.tflite", "tflite", "–"]
    assert [row[4], row[5], row[6], row[7], row[8]] == [
        "100.00%",
        "2.0e-03",
        "3.0e-06",
        "0.4321",
        "0.4320",
    ]
    assert len(list(root.one("section", id="detections").all("li"))) == 2


def test_names_are_no_markup(workdir):
    text = (workdir / "report.html").read_text()
    assert "<b>a</b>" not in text
    assert "49" not in [
        row[0] for row in parsed(text).one("section", id="classes").one("table").rows()
    ]


@pytest.mark.usefixtures("root")
def test_recipe_fields_are_flags(root):
    names = [
        row[0] for table in root.one("section", id="recipe").all("table") for row in table.rows()
    ]
    for name in ("anchor_sizes", "short", "se", "learning_rate"):
        assert name in names


def test_a_run_that_has_not_ended(tmp_path, coco):
    root = parsed(write_page(leave(tmp_path / "run", coco)).path.read_text())
    assert sections(root) == ["training", "recipe"]
    assert tiles(root)["AP75"] == "0.050"
    assert "has not ended" in root.one(id="unfinished").text


def test_images_that_are_elsewhere(tmp_path, hostile, monkeypatch):
    monkeypatch.setattr(detection, "load", lambda path: hostile)
    workdir = leave(tmp_path / "run", tmp_path / "nowhere", hostile, rows=())
    page = write_page(workdir)
    assert "nowhere" in page.missing
    root = parsed(page.path.read_text())
    assert sections(root) == ["training", "cost", "recipe"]
    assert "nowhere" in root.one(id="missing").text
    with pytest.raises(ValueError, match="nowhere"):
        write_page(workdir, dataset=str(tmp_path / "nowhere"))


def test_a_page_without_images(tmp_path, workdir, hostile, monkeypatch):
    monkeypatch.setattr(detection, "load", lambda path: hostile)
    root = parsed(write_page(workdir, tmp_path / "a.html", thumbnails=False).path.read_text())
    assert list(root.all("img")) == []
    assert "detections" not in sections(root)
    assert "mistakes" in sections(root)


def test_a_split_that_detectors_do_not_have(workdir):
    with pytest.raises(ValueError, match="`split` must be one of 'train', 'val', 'test'"):
        write_page(workdir, split="all")


@pytest.mark.browser
@pytest.mark.usefixtures("root")
def test_the_page_fits_a_phone(workdir):
    """In Chromium, light and dark, without a message on the console."""
    with chromium.launched() as browser:
        for scheme in ("light", "dark"):
            context = browser.new_context(
                viewport={"width": 360, "height": 740}, color_scheme=scheme
            )
            page, said = context.new_page(), []
            page.on("console", lambda message, said=said: said.append(message.text))
            page.goto((workdir / "report.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") == 360
            assert page.locator(".boxed i.found").first.is_visible()
            assert said == []
