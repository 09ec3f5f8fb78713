"""Figures: written, and with the values that they are given."""

import matplotlib.figure
import numpy as np
import pytest
from PIL import Image

from keras_senet.analysis.ablation import SeedResult, VariantResult
from keras_senet.plots.ablation import variant_errors
from keras_senet.plots.curves import compared_curves, training_curves
from keras_senet.plots.pruning import PrunedNetwork, pruned_networks
from keras_senet.recipes import VARIANTS, Variant
from keras_senet.se import SE

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
    training_curves(ROWS, tmp_path / "curves.png", "a title")
    losses, errors = drawn[0].axes
    assert [list(line.get_ydata()) for line in losses.lines] == [[2.0, 1.0, 2 / 3], [3.0, 1.5, 1.0]]
    assert [list(line.get_ydata()) for line in errors.lines] == [
        [50.0] * 3,
        [75.0] * 2,
    ]  # no evaluation at the second epoch
    with Image.open(tmp_path / "curves.png") as image:
        assert min(image.size) > 300


def test_compared_curves_have_a_colour_for_each_network(tmp_path, drawn):
    compared_curves({"SE": [ROWS, ROWS], "plain": [ROWS]}, tmp_path / "curves.png", "a title")
    (axes,) = drawn[0].axes
    assert len(axes.lines) == 6
    assert [line.get_color() for line in axes.lines] == ["C0"] * 4 + ["C1"] * 2
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["SE, training", "SE, test", "plain, training", "plain, test"]


def test_a_figure_without_an_ending_is_a_png(tmp_path):
    compared_curves({"a": [ROWS]}, tmp_path / "curves", "a title")
    assert [each.name for each in tmp_path.iterdir()] == ["curves.png"]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_variants_are_dots_with_their_mean_and_the_papers_error(tmp_path, drawn):
    mine = Variant("mine", SE(reduction=3))
    errors = ((VARIANTS["plain"], [21.0, 24.0]), (VARIANTS["se"], [20.0, 22.0]), (mine, []))
    rows = [
        VariantResult(each, 1, 1, tuple(SeedResult(i, n, 0.0) for i, n in enumerate(found)))
        for each, found in errors
    ]
    variant_errors(rows, tmp_path / "ablation.png", "a title")
    ours, papers = drawn[0].axes
    shown = [(list(line.get_xdata()), line.get_color()) for line in ours.lines]
    blue, red = "tab:blue", "tab:red"
    assert shown[:2] == [([21.0, 24.0], blue), ([22.5], blue)]
    assert shown[2:4] == [([20.0, 22.0], red), ([21.0], red)]
    assert shown[4:] == [([], blue), ([21.0, 21.0], red)]  # no run; the line at the base's mean
    assert [list(line.get_xdata()) for line in papers.lines] == [[23.3], [22.28], [22.28, 22.28]]
    assert [label.get_text() for label in ours.get_yticklabels()] == ["plain", "se", "mine"]


def test_pruned_networks_by_cost_and_by_stage(tmp_path, drawn):
    rows = [
        PrunedNetwork("original", 8.0, 4_000_000),
        PrunedNetwork("gates", 12.0, 2_000_000, keep=0.5),
        PrunedNetwork("random", 20.0, 2_000_000, keep=0.5),
        PrunedNetwork("random", 30.0, 2_000_000, keep=0.5),
        PrunedNetwork("removed", 10.0, 4_000_000, stages=(2, 3)),
        PrunedNetwork("constant", 9.0, 4_000_000, stages=()),
    ]
    pruned_networks(rows, tmp_path / "pruning.png", "a title")
    curves, stages = drawn[0].axes
    shown = [np.transpose(line.get_data()).tolist() for line in curves.lines]
    assert shown[:3] == [[[4.0, 8.0]], [[2.0, 12.0]], [[2.0, 12.0], [4.0, 8.0]]]
    assert shown[3:5] == [[[2.0, 20.0], [2.0, 30.0]], [[2.0, 25.0], [4.0, 8.0]]]
    assert [text.get_text() for text in curves.texts] == ["0.5"]
    assert [label.get_text() for label in stages.get_xticklabels()] == ["2, 3", "all"]
    assert [list(line.get_ydata()) for line in stages.lines[:2]] == [[10.0], [9.0]]
