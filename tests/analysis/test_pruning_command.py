"""`keras-senet prune` on a little run, beside what the functions give."""

import csv
import json
import re

import keras
import little
import numpy as np
import onnx
import pytest
from PIL import Image
from run_here import run_files_here

import keras_senet
from keras_senet import cli, data
from keras_senet.analysis.comparison import cost
from keras_senet.analysis.pruning import prune
from keras_senet.analysis.removal import remove_se
from keras_senet.complexity import complexity
from keras_senet.evaluation import load_run
from keras_senet.weights.metadata import describe


@pytest.fixture
def run_folder(tmp_path, monkeypatch):
    """What training leaves, of a little network for little digits."""
    little.put_in_place(monkeypatch.setitem, monkeypatch.setattr, little.TWO_STAGES)
    folder = tmp_path / "run"
    folder.mkdir()
    keras.utils.set_random_seed(0)
    model = little.TWO_STAGES(weights=None)
    model.save(folder / "model.keras")
    keras_senet.save_weights(model, folder / "model.weights.h5")
    (folder / "recipe.json").write_text('{"recipe": {"model": "SEResNet20", "dataset": "digits"}}')
    return folder


def command(*arguments):
    try:
        return cli.main(["prune", *map(str, arguments)])
    except SystemExit as error:
        return error.code


def test_every_kind_of_network_in_a_table_files_and_a_picture(run_folder, capfd):
    """Takes 5 s: eight networks, each evaluated by a function of its own."""
    output = run_folder / "pruned"
    flags = (
        "--remove-se",
        2,
        "--remove-se",
        "--constant",
        "--keep",
        0.75,
        "--baseline",
        2,
        "--images",
        30,
    )
    assert command("--workdir", run_folder, *flags, "--output", output) == 0
    printed = capfd.readouterr()
    assert printed.err == ""
    kept = {"no-se-2", "no-se-2-mean", "no-se", "no-se-mean", "keep-0.75"}
    with (output / "pruning.csv").open(newline="") as file:
        rows = {row["network"]: row for row in csv.DictReader(file)}
    drawn = {f"keep-0.75-random-{seed}" for seed in (0, 1)}
    assert set(rows) == {"original"} | kept | drawn
    assert {path.stem for path in output.glob("*.keras")} == kept
    assert {path.name for path in output.iterdir()} - {f"{name}.keras" for name in kept} == {
        *("pruning.csv", "pruning.json", "pruning.png")
    }
    with Image.open(output / "pruning.png") as picture:
        assert picture.size == (864, 600)

    model, test_set = load_run(run_folder), data.load("digits", "test")
    plain = complexity(remove_se(model))
    spread = np.linspace(0, 79, 30).astype(int)
    ranking = np.array(model.preprocessing.normalize(data.load("digits", "train").images[spread]))
    for name, expected in {
        "no-se-mean": remove_se(model, constant_from=ranking),
        "keep-0.75": prune(model, 0.75, images=ranking),
        "keep-0.75-random-1": prune(model, 0.75, ranking="random", seed=1),
    }.items():
        counts, row = cost(expected, test_set), rows[name]
        assert int(row["parameters"]) == counts.parameters
        assert int(row["multiply_adds"]) == counts.multiply_adds
        assert float(row["top1"]) == counts.top1
        assert float(row["parameters_over_plain"]) == counts.parameters / plain.parameters - 1
        assert f"{counts.parameters:,}" in printed.out
        if row["file"]:
            again = keras.models.load_model(output / row["file"])
            np.testing.assert_allclose(again(ranking), expected(ranking), atol=1e-6)
    errors = [100 * (1 - float(rows[f"keep-0.75-random-{seed}"]["top1"])) for seed in (0, 1)]
    assert re.search(rf"keep-0.75-random .* {np.mean(errors):.2f}%", printed.out)
    report = json.loads((output / "pruning.json").read_text())
    assert [variant["network"] for variant in report["variants"]] == list(rows)
    assert report["plain"] == {"parameters": plain.parameters, "multiply_adds": plain.multiply_adds}
    assert report["preprocessing"]["class"] == "Preprocessing"


@pytest.mark.parametrize(
    "formats",
    [
        # How each format has the operations of such networks is in tests/export.
        {"no-se-mean": ("onnx",), "keep-0.5": ("onnx",)},
        pytest.param(
            dict.fromkeys(("no-se-mean", "keep-0.5"), ("savedmodel", "tflite", "onnx")),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["default", "all"],
)
def test_what_it_wrote_is_evaluated_and_exported_as_a_run_is(
    run_folder, capfd, monkeypatch, formats
):
    run_files_here(monkeypatch)
    little.skip_drawing(monkeypatch)
    output = run_folder / "pruned"
    flags = ("--remove-se", "--constant", "--keep", 0.5, "--images", 30)
    assert command("--workdir", run_folder, *flags, "--output", output) == 0
    with (output / "pruning.csv").open(newline="") as file:
        rows = {row["network"]: row for row in csv.DictReader(file)}
    for name, those in formats.items():
        file = str(output / f"{name}.keras")
        assert cli.main(["evaluate", "--workdir", file]) == 0
        report = json.loads((output / name / "report.json").read_text())
        assert report["accuracy"] == float(rows[name]["top1"])
        assert report["networks"][0]["model"] == f"SEResNet20 {name}"
        assert cli.main(["export", file, "--format", *those]) == 0
        exports = json.loads((output / name / "exports" / "report.json").read_text())["exports"]
        assert [each["format"] for each in exports] == list(those)
        assert all(each["relative_error"] <= 1e-4 for each in exports)
    properties = onnx.load(output / "no-se-mean" / "exports" / "model.onnx").metadata_props
    assert json.loads({each.key: each.value for each in properties}["class_names"]) == list(
        "0123456789"
    )
    capfd.readouterr()
    assert cli.main(["evaluate", "--workdir", file, "--protocol", "larger"]) == 2
    assert "--protocol larger is for published weights" in capfd.readouterr().err


def test_a_file_that_says_nothing_of_itself(run_folder, tmp_path):
    """As earlier versions wrote them: the preparation of images is in `pruning.json`."""
    network = load_run(run_folder)
    plain = keras.Model(network.input, network.output)
    for action, message in [
        (lambda file: None, "There is no file"),
        (lambda file: plain.save(file), "does not say how images are prepared"),
        (
            lambda file: file.with_name("pruning.json").write_text("[]"),
            r"pruning\.json' is damaged",
        ),
        (lambda file: file.with_name("pruning.json").write_text("{"), r"pruning\.json' is damaged"),
    ]:
        file = tmp_path / "no-se.keras"
        action(file)
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            load_run(file)
    about = {"network": "N", "dataset": "digits", "variants": [{"file": "no-se.keras"}]}
    about["preprocessing"] = describe(network.preprocessing)
    file.with_name("pruning.json").write_text(json.dumps(about))
    assert load_run(file).preprocessing == network.preprocessing
    assert load_run(file).class_names == tuple("0123456789")


@pytest.mark.slow
def test_the_papers_remark_without_weights_or_images(capfd):
    """SE-ResNet-50: about 10% more parameters than the plain network, about 4% without the last
    stage's blocks.

    25,557,032 + 942,080 weights + 3 (256 + 16) + 4 (512 + 32) + 6 (1024 + 64) biases.
    """
    assert command("--model", "SEResNet50", "--count-only", "--remove-se", 5, "--remove-se") == 0
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in capfd.readouterr().out.splitlines()
    ]
    rows = {row[0]: row[1:] for row in rows if row}
    assert rows["original"] == ["28,088,024", "+9.9%", "3,860,488,192", "-", "-"]
    assert rows["no-se-5"] == ["26,508,632", "+3.7%", "3,858,915,328", "-", "-"]
    assert rows["no-se"][:2] == ["25,557,032", "+0.0%"]


def test_the_counts_of_a_run_without_its_images(run_folder, capfd, monkeypatch):
    monkeypatch.delitem(data.DATASETS, "digits")
    output = run_folder / "counts"
    assert (
        command(
            "--workdir", run_folder, "--count-only", "--keep", 0.5, "--baseline", "--output", output
        )
        == 0
    )
    counts = complexity(prune(load_run(run_folder), 0.5, ranking="random"))
    assert f"{counts.parameters:,}" in capfd.readouterr().out
    assert {path.name for path in output.iterdir()} == {"pruning.csv", "pruning.json"}


# flags, error
REFUSED = [
    ((), "--remove-se or --keep must be given"),
    (("--keep", "0"), "--keep must be above 0 and at most 1. Received: --keep 0.0"),
    (("--keep", "nan"), "Received: --keep nan"),
    (("--keep", "much"), "much"),
    (
        ("--remove-se", "7"),
        "--remove-se: `stages` must name stages with SE blocks (1, 2). Received: stages=(7,)",
    ),
    (("--keep", "0.5", "--images", "0"), "--images must be at least 1"),
    (("--keep", "0.5", "--baseline", "-1"), "--baseline must be at least 0"),
    (("--keep", "0.5", "--constant"), "--constant goes with --remove-se"),
    (("--remove-se", "--constant", "--count-only"), "--constant goes with --remove-se"),
    (("--keep", "0.5", "--split", "val"), "--split val"),
    (("--keep", "0.5", "--output", "{run}/model.keras"), "--output cannot be written"),
    (("--keep", "0.5", "--model", "SEResNet50"), "--workdir is in place of --model"),
]


def test_bad_input_is_one_line_and_status_2(run_folder, capfd):
    for arguments, message in REFUSED:
        arguments = [argument.replace("{run}", str(run_folder)) for argument in arguments]
        output = () if "--output" in arguments else ("--output", run_folder / "pruned")
        assert command("--workdir", run_folder, *arguments, *output) == 2
        printed = capfd.readouterr()
        assert len(printed.err.splitlines()) == 1
        assert message in printed.err
        assert not (run_folder / "pruned").exists()


@pytest.mark.parametrize(
    ("name", "flags"), [("SEShuffleNet", ("--keep", "0.5")), ("SEResNet51", ("--remove-se",))]
)
def test_networks_that_cannot_be_pruned(name, flags, capfd):
    assert command("--model", name, "--count-only", *flags) == 2
    printed = capfd.readouterr()
    assert len(printed.err.splitlines()) == 1
    assert name == "SEResNet51" or "rank no channels that can be cut" in printed.err
