"""Pictures of runs: written, and with what they are told to show."""

import matplotlib.figure
import numpy as np
import pytest
from PIL import Image

from keras_senet.plots import training as pictures

ROWS = [
    {
        "epoch": e,
        "loss": 2.0 / e,
        "accuracy": 0.5,
        "test_loss": 3.0 / e,
        "test_accuracy": 0.25 if e != 2 else np.nan,
    }
    for e in (1.0, 2.0, 3.0)
]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    figures, save = [], matplotlib.figure.Figure.savefig
    monkeypatch.setattr(
        matplotlib.figure.Figure, "savefig", lambda f, path: (figures.append(f), save(f, path))[1]
    )
    return figures


def test_training_curves(tmp_path, drawn):
    pictures.training_curves(ROWS, tmp_path / "curves.png", "a title")
    losses, errors = drawn[0].axes
    assert [list(line.get_ydata()) for line in losses.lines] == [[2.0, 1.0, 2 / 3], [3.0, 1.5, 1.0]]
    assert [list(line.get_ydata()) for line in errors.lines] == [
        [50.0] * 3,
        [75.0] * 2,
    ]  # no evaluation at the second epoch
    with Image.open(tmp_path / "curves.png") as image:
        assert min(image.size) > 300


def test_compared_curves_have_a_colour_for_each_network(tmp_path, drawn):
    pictures.compared_curves(
        {"SE": [ROWS, ROWS], "plain": [ROWS]}, tmp_path / "curves.png", "a title"
    )
    (axes,) = drawn[0].axes
    assert len(axes.lines) == 6
    assert [line.get_color() for line in axes.lines] == ["C0"] * 4 + ["C1"] * 2
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["SE, training", "SE, test", "plain, training", "plain, test"]
