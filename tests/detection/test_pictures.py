"""Pictures of detectors: boxes on images, and figures with the values that they are given."""

import matplotlib.figure
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from keras_senet.detection.mistakes import Mistake
from keras_senet.plots.boxes import (
    COLOURS,
    LabelledBox,
    boxes_on_image,
    crop_around,
    paint_box,
)
from keras_senet.plots.detection import (
    THRESHOLDS,
    confident_mistakes,
    crop_mistake,
    detection_curves,
    precision_recall,
)


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    figures, save = [], matplotlib.figure.Figure.savefig
    monkeypatch.setattr(
        matplotlib.figure.Figure, "savefig", lambda f, path: (figures.append(f), save(f, path))[1]
    )
    return figures


@pytest.mark.parametrize(
    ("size", "picture"),
    [
        ((60, 90, 3), (960, 640)),  # (width, height): enlarged until texts are readable
        ((3000, 2000, 3), (1280, 1920)),  # reduced
        ((1200, 1100, 1), (1100, 1200)),
    ],
)
def test_a_picture_has_the_shape_of_its_image(tmp_path, size, picture):
    boxes_on_image(np.zeros(size, "uint8"), [], tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert np.abs(np.subtract(image.size, picture)).max() <= 1


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_boxes_and_labels_are_in_the_image_in_their_colours(tmp_path, drawn, grey):
    """On black, grey and white; the label of a box at a border or a corner is moved inwards."""
    corners = [(0, 0, 20, 20), (80, 0, 100, 20), (0, 70, 20, 90), (90, 80, 99, 89)]
    boxes = [LabelledBox(box, f"traffic light 0.{i}", i) for i, box in enumerate(corners)]
    boxes_on_image(np.full((90, 100, 3), grey, "uint8"), boxes, tmp_path / "a.png")
    (axes,) = drawn[0].axes
    rectangles = [patch.get_bbox().extents.tolist() for patch in axes.patches]
    assert rectangles == [list(box) for box in reversed(corners)]  # the first one on top
    renderer = FigureCanvasAgg(drawn[0]).get_renderer()
    inside = axes.get_window_extent(renderer)
    for text in axes.texts:
        extent = text.get_window_extent(renderer)
        assert extent.x0 >= inside.x0 - 0.5
        assert extent.y0 >= inside.y0 - 0.5
        assert extent.x1 <= inside.x1 + 0.5
        assert extent.y1 <= inside.y1 + 0.5
    with Image.open(tmp_path / "a.png") as image:
        pixels = np.array(image)[..., :3].astype(int) @ (2**16, 2**8, 1)
    assert set(COLOURS[:4]) <= {f"#{pixel:06x}" for pixel in np.unique(pixels)}


def test_labels_are_taken_as_they_are(tmp_path, drawn):
    boxes_on_image(
        np.zeros((9, 9, 3), "uint8"), [LabelledBox((0, 0, 9, 9), "$x_1$ %", 12)], tmp_path / "a.png"
    )
    (text,) = drawn[0].axes[0].texts
    assert text.get_text() == "$x_1$ %"
    assert not text.get_parse_math()


def test_a_painted_box_is_a_line_around_what_was_there():
    image = np.full((50, 40, 3), 7, "uint8")
    painted = paint_box(image, (10, 5, 30, 45), (255, 0, 9))
    assert (image == 7).all()
    assert painted[5, 10].tolist() == painted[44, 29].tolist() == [255, 0, 9]
    assert painted[6, 11].tolist() == [0, 0, 0]
    assert (painted[10:40, 15:25] == 7).all()
    assert (painted[:5] == 7).all()
    assert (painted[:, 30:] == 7).all()
    for box in ((-5, -5, 60, 60), (39, 49, 40, 50), (60, 60, 70, 70)):  # at and beyond the border
        assert paint_box(image[..., :1], box, (255, 0, 9)).shape == (50, 40, 3)


def test_a_crop_is_around_its_boxes():
    image = np.arange(200 * 300).reshape(200, 300, 1)
    part, (left, top) = crop_around(image, [(150, 50, 170, 70), (160, 60, 180, 80)])
    assert part.shape[0] == part.shape[1] >= 60
    assert part[0, 0, 0] == image[top, left, 0]
    assert left < 150 < 180 < left + part.shape[1]
    assert top < 50 < 80 < top + part.shape[0]
    part, corner = crop_around(image, [(0, 0, 300, 200)])
    assert (part.shape[:2], corner.tolist()) == ((200, 300), [0, 0])


def test_precision_by_recall(tmp_path, drawn):
    precision = np.random.default_rng(0).random((10, 101, 3))
    precision[..., 2] = np.nan
    by_class = {"cat": 0.5, "dog": 0.7, "none": np.nan}
    precision_recall(precision, by_class, tmp_path / "a.png", "a title")
    means, classes = drawn[0].axes
    assert len(means.lines) == 6
    np.testing.assert_allclose(means.lines[0].get_ydata(), precision[0, :, :2].mean(axis=1))
    assert means.lines[0].get_label().startswith("IoU 0.50")
    best = max(range(2), key=lambda k: precision[0, :, k].mean())
    np.testing.assert_allclose(classes.lines[0].get_ydata(), precision[0, :, best])
    assert len(classes.lines) == 2
    assert THRESHOLDS.tolist() == pytest.approx(np.arange(0.5, 1, 0.05))


def test_curves_of_a_detection_run(tmp_path, drawn):
    parts = {"classifier_loss": 1.0, "box_loss": 0.5, "objectness_loss": 0.3, "proposal_loss": 0.2}
    rows = [
        {"epoch": e, "loss": 2.0 / e, **parts, "ap": np.nan if e == 2 else 0.1 * e, "ap50": 0.4}
        for e in (1.0, 2.0, 3.0)
    ]
    detection_curves(rows, tmp_path / "curves.png", "a title")
    losses, precisions = drawn[0].axes
    assert [list(line.get_ydata()) for line in losses.lines] == [
        [2.0, 1.0, 2 / 3],
        *([value] * 3 for value in parts.values()),
    ]
    assert list(precisions.lines[0].get_xdata()) == [1.0, 3.0]
    assert [text.get_text() for text in precisions.get_legend().get_texts()] == [
        "AP",
        "AP50",
        "AP75",
    ]


def test_mistakes_are_rows_of_their_kind(tmp_path, drawn):
    box, truth = np.float32([2, 2, 20, 20]), np.float32([4, 4, 24, 24])
    mistakes = [
        Mistake("wrong class", 0, box, 0, 0.9, truth, 1, 0.7),
        Mistake("missed", 1, None, -1, 0.0, truth, 1, 0.0),
        Mistake("wrong class", 1, box, 1, 0.4, truth, 0, 0.7),
    ]
    images = [np.zeros((64, 64, 3), "uint8"), np.full((30, 60, 3), 255, "uint8")]
    confident_mistakes(mistakes, lambda i: images[i], ["cat", "dog"], tmp_path / "a.png", "a title")
    titles = [axes.get_title() for axes in drawn[0].axes]
    assert titles == ["cat 0.90\nis dog", "dog 0.40\nis cat", "dog\nnot found", ""]
    names = [text.get_text() for axes in drawn[0].axes for text in axes.texts]
    assert names == ["wrong class\n2", "missed\n1"]
    assert crop_mistake(mistakes[0], images[0]).shape[0] >= 180  # so that lines do not cover it
