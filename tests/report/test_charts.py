"""Axes and curves, beside values that are worked out by hand."""

import json
import math

import pytest

from keras_senet.report.charts import Axis, Style, line_chart, make_chart, value_axis


@pytest.mark.parametrize(
    ("axis", "most", "texts"),
    [
        (Axis(0, 1), 6, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (Axis(0, 73), 6, ["0", "20", "40", "60"]),
        (Axis(0, 0.105), 3, ["0", "0.05", "0.1"]),
        (Axis(1, 300), 8, ["50", "100", "150", "200", "250", "300"]),
        (Axis(-1, 1), 6, ["-1", "-0.5", "0", "0.5", "1"]),
        (Axis(0.3, 2.5, log=True), 6, ["0.5", "1", "2"]),
        (Axis(1e-5, 2, log=True), 6, ["1e-05", "0.0001", "0.001", "0.01", "0.1", "1"]),
    ],
)
def test_ticks_are_round(axis, most, texts):
    ticks = axis.ticks(most)
    assert [tick.text for tick in ticks] == texts
    assert all(0 <= tick.at <= 100 for tick in ticks)


def test_places():
    assert Axis(1, 3).place(2) == 50
    assert Axis(1, 100, log=True).place(10) == pytest.approx(50)


@pytest.mark.parametrize(
    ("values", "axis"),
    [
        ([1.0, 2.0], Axis(0, 2.1)),
        ([1.0, 10.0], Axis(1 / 1.1, 11, log=True)),
        ([0.0, 10.0], Axis(0, 10.5)),
        ([0.0], Axis(0, 1)),
    ],
)
def test_value_axis(values, axis):
    found = value_axis(values, may_be_log=True)
    assert (found.low, found.high, found.log) == (
        pytest.approx(axis.low),
        pytest.approx(axis.high),
        axis.log,
    )


def chart(losses, **options):
    rows = [{"epoch": float(i), "loss": loss} for i, loss in enumerate(losses, 1)]
    return line_chart(
        "Loss", rows, {"training": lambda row: row["loss"], "none": lambda _: math.nan}, **options
    )


def test_a_curve_is_straight_over_epochs_without_a_value():
    found = chart([4.2, math.nan, 2.1], epochs=5)
    (curve,) = found.curves
    assert curve.path == "M0 4.76L50 52.38"  # of 0..4.41, from the top
    assert curve.end == (50, 52.38)
    assert [tick.text for tick in found.x_ticks] == ["1", "2", "3", "4", "5"]
    assert json.loads(found.readout) == {
        "axis": "epoch",
        "at": [0, 25, 50],
        "points": [1, 2, 3],
        "texts": [["4.2", "–", "2.1"]],
    }
    assert found.description == "Loss by epoch. At the end: training 2.1."


def test_one_epoch_has_a_place():
    (curve,) = chart([2.0], epochs=1).curves
    assert curve.end[0] == 100


def test_long_runs_are_thinned_and_keep_their_end():
    found = chart([1000.0 - i for i in range(1234)][:999], epochs=2000)
    assert found.every == 2
    assert found.points[-1] == 999
    assert len(found.points) == 500


def test_no_values_no_chart():
    assert chart([math.nan, math.inf], epochs=2) is None
    assert chart([], epochs=2) is None


def test_a_chart_over_something_else_is_summed_up_by_averages():
    values = {"a": [1.0, 0.5, 0.0], "b": [0.5, 0.5, math.nan]}
    axes = Axis(0.0, 1.0), Axis(0.0, 1.0)
    style = Style(form=".2f", averages=True)
    found = make_chart("Precision", "recall", [0, 0.5, 1], values, axes, style)
    assert found.description == "Precision by recall. Average: a 0.50, b 0.50."
    assert [curve.style for curve in found.curves] == ["curve0", "curve1"]
    assert json.loads(found.readout)["points"] == [0, 0.5, 1]
