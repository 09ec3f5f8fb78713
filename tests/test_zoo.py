"""The zoo as a table: counts, the paper's figures, weights and latencies of every network."""

import json

import network_table
import pytest

import keras_senet_cli
from keras_senet import models, zoo
from keras_senet.weights.registry import list_weights

ROWS = {row["name"]: row for row in zoo.rows()}

# Of the networks without SE blocks: torchvision's model pages; vgg16_bn's convolutions also have
# 4,224 biases
TRAINABLE = {
    "SEResNet18, plain": 11689512,
    "SEResNet34, plain": 21797672,
    "SEResNet50, plain": 25557032,
    "SEResNet101, plain": 44549160,
    "SEResNet152, plain": 60192808,
    "SEResNeXt50, plain": 25028904,
    "SEResNeXt101_32x8d, plain": 88791336,
    "SEResNeXt101_64x4d, plain": 83455272,
    "SEVGG16, plain": 138365992 - 4224,
}

# Errors in percent that the paper prints: Table 2, Table 3, Table 8, Tables 4 and 5
ERRORS = {
    "SEResNet50": (23.29, 6.62),
    "SEResNet50, plain": (24.80, 7.48),
    "SEResNeXt101": (20.70, 5.01),
    "SEMobileNet": (25.3, 7.7),
    "SEShuffleNet, plain": (32.6, 12.5),
    "SENet154": (18.68, 4.47),
    "SEResNet110": (5.21, None),
    "SEResNet164, plain": (5.46, None),
    "SEShakeEven29": (15.41, None),
}


def test_each_network_is_followed_by_its_plain_counterpart():
    expected = [name + kind for name in models.__all__ for kind in ("", ", plain")]
    assert [row["name"] for row in zoo.rows()] == expected
    for row, plain in zip(zoo.rows()[::2], zoo.rows()[1::2], strict=True):
        assert (row["se"], plain["se"]) == (True, False)
        assert 0 < plain["parameters"] < row["parameters"]
        assert 0 < plain["multiply_adds"] < row["multiply_adds"]


@pytest.mark.parametrize("name", TRAINABLE)
def test_plain_networks_have_the_published_parameters(name):
    assert ROWS[name]["parameters"] == TRAINABLE[name]


@pytest.mark.parametrize("name", ERRORS)
def test_accuracies_are_those_of_the_paper(name):
    row = ROWS[name]
    found = [row["paper_top1"], row["paper_top5"]]
    expected = [None if error is None else 100 - error for error in ERRORS[name]]
    assert found == pytest.approx(expected)


def test_se_blocks_lower_every_error_of_the_paper():
    for row, plain in zip(zoo.rows()[::2], zoo.rows()[1::2], strict=True):
        for figure in ("paper_top1", "paper_top5"):
            assert plain[figure] is None or plain[figure] < row[figure]


def test_each_checkpoint_is_in_one_row():
    listed = [(row["network"], each["tag"]) for row in zoo.rows() for each in row["checkpoints"]]
    assert sorted(listed) == sorted((w.model, w.tag) for w in list_weights())
    assert [each["tag"] for each in ROWS["SEResNet20"]["checkpoints"]] == ["cifar10"]
    assert [each["tag"] for each in ROWS["SEResNet20, plain"]["checkpoints"]] == ["cifar10-plain"]
    (imagenet,) = ROWS["SENet154"]["checkpoints"][:1]
    assert (imagenet["top1"], imagenet["top5"], imagenet["input_size"]) == (81.32, 95.502, 224)
    assert imagenet["source"].endswith("legacy_senet154-e9eb9fe6.pth")


def test_latencies_are_of_networks_in_the_table():
    measured = zoo.read_latencies()
    assert measured
    assert len({each[:3] for each in measured}) == len(measured)
    for each in measured:
        assert each.network in models.__all__
        assert each.se in ("yes", "no")
        assert each.milliseconds > 0
        assert "20" in each.conditions  # a date
    shown = sum(len(row["latency"]) for row in zoo.rows())
    assert shown == len(measured)


def test_latencies_are_read_from_the_benchmarks(tmp_path):
    """The newest float32 file of this package on one image of the network's own size."""
    head = "network,setting,subject,plain,median_ms,error,threads,cpu,gpu,date"
    rows = (
        'SEMobileNet,"batch 1, size 224","LiteRT, keras_senet",,7.4,,2,Xeon,,2026-11-26 10:00',
        'SEResNet50,"batch 1, size 224","LiteRT, keras_senet",,45.5,,2,Xeon,,2026-11-26 10:00',
        'SEResNet50,"batch 1, size 224","LiteRT, keras_senet",,46.5,,2,Old,,2026-11-25 10:00',
        'SEResNet50,"batch 1, size 224","LiteRT, keras_senet, plain",yes,44,,2,Xeon,,2026-11-26',
        'SEResNet50,"batch 16, size 224","LiteRT, keras_senet",,700,,2,Xeon,,2026-11-26 10:00',
        'SEResNet50,"batch 1, size 224","LiteRT, keras_senet, int8",,8,,2,Xeon,,2026-11-26 10:00',
        'SEResNet50,"batch 1, size 224","ONNX Runtime, timm",,41,,2,Xeon,,2026-11-26 10:00',
        'SEResNet20,"batch 1, size 32","OpenVINO, keras_senet",,,no wheel,2,Xeon,,2026-11-26 10:00',
    )
    path = tmp_path / "exported.csv"
    path.write_text("\n".join((head, *rows)))
    found = network_table.read_measured(path)
    assert [each[:4] for each in found] == [
        ("SEResNet50", "yes", "LiteRT", 45.5),
        ("SEResNet50", "no", "LiteRT", 44.0),
        ("SEMobileNet", "yes", "LiteRT", 7.4),
    ]
    expected = "exported in float32, one image, 2 threads, Xeon, 2026-11-26"
    assert {each.conditions for each in found} == {expected}


def test_a_markdown_table_has_every_row_and_column():
    names = list(zoo.columns())
    table, *conditions = zoo.markdown(zoo.rows(), names).strip().split("\n\n")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    assert {len(line) for line in lines} == {len(names)}
    assert len(lines) == 2 + len(ROWS)
    assert lines[0][:3] == ["network", "input", "parameters"]
    row = dict(zip(names, lines[2 + 2 * models.__all__.index("SEResNet50")], strict=True))
    assert row["name"] == "`SEResNet50`"
    assert row["multiply_adds"] == "3,860,488,192"
    assert (row["paper_gflops"], row["paper_top1"], row["best"]) == ("3.87", "76.71", "80.26")
    assert row["checkpoints"].startswith("`imagenet` 77.65, ")
    assert "[imagenet-ra2](https://huggingface.co/timm/seresnet50.ra2_in1k)" in row["sources"]
    assert conditions
    for each in zoo.read_latencies():
        assert any(each.runtime in text and each.conditions in text for text in conditions)
    assert "\n\n" not in zoo.markdown(zoo.rows(), ["name", "best"]).strip()


@pytest.mark.parametrize("columns", [["name", "speed"], []])
def test_unknown_columns_are_refused(columns):
    with pytest.raises(ValueError, match="`columns` must be of name, input_size, parameters"):
        zoo.markdown(zoo.rows(), columns)


def test_the_command_lists_all_of_it(capsys):
    keras_senet_cli.main(["list", "--json"])
    listed = json.loads(capsys.readouterr().out)
    rows = zoo.rows()
    assert [each["plain"] for each in listed] == rows[1::2]
    for each, row in zip(listed, rows[::2], strict=True):
        assert row.items() <= each.items()
