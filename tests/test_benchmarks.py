"""`python -m benchmarks`: interleaved rounds, rows, tables."""

import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)


def subject(label, function, environment=None, **arguments):
    from benchmarks.comparisons import Subject

    environment = {"PYTHONPATH": str(ROOT / "tests")} | (environment or {})
    return Subject(label, f"benchmark_subjects:{function}", arguments, environment=environment)


def rows_of(subjects, settings=({},), rounds=1, **options):
    from benchmarks.comparisons import Case
    from benchmarks.runner import Options, run_case

    case = Case("SEResNet50", tuple(subjects), settings, settings)
    given = {"seconds": 0, "warm_up": 0} | options
    return list(run_case(case, Options(1, None, False, rounds, **given)))


def test_rounds_alternate_and_failures_become_rows(tmp_path):
    """A subject that raises, one whose process dies, and one whose library is missing stop no
    other.
    """
    log = tmp_path / "log"
    subjects = [
        subject("A", "count", log=str(log), name="A"),
        subject("raises", "fail"),
        subject("B", "count", log=str(log), name="B"),
        subject("dies", "die"),
        subject("missing", "there_is_none"),
        replace(subject("hidden", "find"), hidden=("sqlite3",)),
        subject("large only", "fail_in_small"),
        subject("C", "count", log=str(log), name="C"),
    ]
    settings = ({"batch": 1}, {"batch": 2})
    rows = rows_of(subjects, settings, rounds=3, warm_up=0)
    assert log.read_text() == "A1 B1 C1 " * 3 + "A2 B2 C2 " * 3
    assert [row["subject"] for row in rows] == 2 * [each.name for each in subjects]
    assert [row["setting"] for row in rows] == 8 * ["batch 1"] + 8 * ["batch 2"]
    errors = {(row["subject"], row["setting"]): row["error"] for row in rows if "error" in row}
    assert errors.pop(("raises", "batch 1")) == "ValueError: no network / {'batch': 1}"
    assert errors.pop(("raises", "batch 2")) == "ValueError: no network / {'batch': 2}"
    assert errors.pop(("large only", "batch 1")) == "ValueError: too small"
    assert "sqlite3" in errors.pop(("hidden", "batch 1"))
    assert "sqlite3" in errors.pop(("hidden", "batch 2"))
    assert set(errors) == {(n, f"batch {b}") for n in ("dies", "missing") for b in (1, 2)}
    assert errors["dies", "batch 1"].startswith("ended by signal 6: ")
    assert "there_is_none" in errors["missing", "batch 2"]
    measured = [row for row in rows if "error" not in row]
    assert all(row["rounds"] == 3 and 0 <= row["minimum_ms"] < 10_000 for row in measured)
    assert all(0 <= row["after_imports_mib"] < row["peak_mib"] < 500 for row in measured)


def test_times():
    """Rounds of 30, 60 and 90 ms: median, least, (most - least) / median; a warm-up is no round."""
    (slower, busy) = rows_of(
        [subject("slower", "sleep", seconds=0.03), subject("busy", "work", seconds=0.06)], rounds=3
    )
    assert 60 <= slower["median_ms"] < slower["minimum_ms"] * 3
    assert 30 <= slower["minimum_ms"] < 60
    assert slower["spread"] > 0.15
    assert slower["cpu_ms"] < 25
    assert 30 <= busy["cpu_ms"] < 60 <= busy["median_ms"]  # of a step: half of a call
    (warm,) = rows_of([subject("slower", "sleep", seconds=0.03)], warm_up=2)
    assert warm["median_ms"] >= 90
    (repeated,) = rows_of([subject("slower", "sleep", seconds=0.01)], seconds=0.05)
    assert repeated["median_ms"] >= 15  # 10 + 20 + 30 ms are more than 50: the mean of three


def test_a_file_of_several_subjects_is_written_once(tmp_path, monkeypatch):
    from benchmarks.side import make_once

    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    path = tmp_path / "file"
    arguments = path, "benchmark_subjects:write", path
    threads = [threading.Thread(target=make_once, args=arguments) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() == "once "


def test_an_earlier_version_beside_each_of_our_networks(tmp_path):
    from benchmarks.comparisons import COMPARISONS
    from benchmarks.runner import _versions

    (case,) = COMPARISONS["size"].cases()
    found = [(subject.name, path) for subject, path in _versions(case.subjects, tmp_path)]
    assert found == [
        ("keras_senet", None),
        ("keras_senet, before", str(tmp_path)),
        ("keras_senet, plain", None),
        ("keras_senet, plain, before", str(tmp_path)),
        ("timm legacy_seresnet50, channels_last", None),
    ]


ROW = {
    "network": "SEResNet50",
    "setting": "batch 16, size 224",
    "plain": "",
    "peak_mib": "3075",
    "after_imports_mib": "2334",
    "rounds": "5",
    "threads": "2",
    "onednn": "on",
    "load": "0.1",
    "others": "0.0",
    "cpu": "Some CPU",
    "cores": "2",
    "isa": "x86_64 avx2 avx512f",
    "gpu": "",
    "versions": "python 3.11.7",
    "date": "2026-11-26 12:00",
    "command": "python -m benchmarks training",
}


def timed(subject, median, spread=0.02, **changes):
    """A row of given times."""
    times = {"median_ms": str(median), "minimum_ms": str(median), "cpu_ms": str(2 * median)}
    return ROW | {"subject": subject, "spread": str(spread), "error": ""} | times | changes


ROWS = [
    timed("keras_senet", 2141.0, 0.153),
    timed("keras_senet, plain", 2000.0, plain="yes"),
    timed("timm legacy_seresnet50, channels_last", 3925.04, 0.15),
    timed("keras.applications ResNet50", 2500.0, plain="yes"),
    ROW | {"subject": "tf2cv seresnet50", "error": "ImportError: No module named 'tf2cv'"},
]


def test_tables(tmp_path):
    """The ratios are of the first subject to this one, among networks with SE blocks and among
    plain ones; more than 15% of spread is said.
    """
    from benchmarks import storage, tables

    storage.write("training", ROWS, tmp_path)
    table = tables.markdown("training", tmp_path)
    assert table.splitlines()[2:] == [
        "| network | setting | subject | ms | least | CPU ms | MiB | ratio |",
        "|---|---|---|---|---|---|---|---|",
        "| SEResNet50 | batch 16, size 224 | keras_senet | 2,141 (spread 15%) | 2,141 | 4,282 "
        "| 3075 | 1.00 |",
        "| SEResNet50 | batch 16, size 224 | keras_senet, plain | 2,000 | 2,000 | 4,000 "
        "| 3075 | 1.00 |",
        "| SEResNet50 | batch 16, size 224 | timm legacy_seresnet50, channels_last | 3,925 | 3,925 "
        "| 7,850 | 3075 | 0.55 |",
        "| SEResNet50 | batch 16, size 224 | keras.applications ResNet50 | 2,500 | 2,500 | 5,000 "
        "| 3075 | 0.80 |",
        "| SEResNet50 | batch 16, size 224 | tf2cv seresnet50 "
        "| not measured: ImportError: No module named 'tf2cv' |  |  |  |  |",
        "",
        "1. 2026-11-26, Some CPU, 2 cores, AVX2, AVX-512, 2 threads, 5 rounds; python 3.11.7; "
        "`python -m benchmarks training`",
    ]
    readme = tables.markdown("readme", tmp_path)
    assert "| `SEResNet50` | training step, 16 images of 224x224 | 2,141 (spread 15%) " in readme
    assert readme.splitlines()[2].endswith(
        "| 3,925 | timm legacy_seresnet50, channels_last | 0.55 |"
    )


def test_rows_that_are_measured_again_replace_those_of_the_same_machine(tmp_path):
    from benchmarks import storage, tables

    other = timed("keras_senet", 100.0, cpu="Another CPU")
    small = timed("keras_senet", 50.0, network="SEResNet20")
    storage.write("training", [small, *ROWS, other], tmp_path)
    again = timed("keras_senet", 2000.0, date="2026-11-27 12:00")
    storage.write("training", [again], tmp_path)
    rows = storage.read("training", tmp_path)
    assert [(row["network"], row["median_ms"]) for row in rows] == [
        ("SEResNet50", "100.0"),
        ("SEResNet50", "2000.0"),
        ("SEResNet20", "50.0"),
    ]
    assert rows[1] == {key: str(again.get(key, "")) for key in storage.COLUMNS}
    lines = tables.markdown("training", tmp_path).splitlines()
    assert lines[2].endswith("| ratio | run |")
    assert [line.split(" | ")[-1] for line in lines[4:7]] == ["1 |", "2 |", "3 |"]
    assert lines[9].startswith("2. 2026-11-27, Some CPU, ")


def test_fill_replaces_what_is_between_the_markers(tmp_path):
    from benchmarks import storage, tables

    storage.write("training", ROWS, tmp_path)
    marked = "a\n<!-- benchmarks:training -->\nold\n<!-- /benchmarks:training -->\nz\n"
    filled = tables.fill(marked, tmp_path)
    assert filled == marked.replace("old\n", f"\n{tables.markdown('training', tmp_path)}\n\n")
    assert tables.fill(filled, tmp_path) == filled


@pytest.mark.parametrize("file", ["benchmarks/README.md", "README.md"])
def test_the_tables_are_those_of_the_results(file):
    """After `python -m benchmarks.tables`."""
    from benchmarks import tables

    text = (ROOT / file).read_text(encoding="utf-8")
    assert tables.fill(text) == text


def test_results_are_complete_and_of_declared_comparisons():
    from benchmarks import storage
    from benchmarks.comparisons import COMPARISONS

    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert [name for name in COMPARISONS if f"<!-- benchmarks:{name} -->" not in text] == []
    for path in storage.FOLDER.glob("*.csv"):
        assert path.stem in COMPARISONS
        rows = storage.read(path.stem)
        assert rows
        for row in rows:
            assert tuple(row) == storage.COLUMNS
            assert row["date"]
            assert row["gpu"] or row["cpu"]
            assert row["versions"]
            assert row["error"] or float(row["minimum_ms"] or row["median_ms"]) > 0


def test_every_function_and_network_that_is_declared_exists():
    """Without importing what makes a peer: its module is searched, not run."""
    import ast

    import keras_senet
    from benchmarks.comparisons import COMPARISONS, NETWORKS

    assert set(NETWORKS) <= set(dir(keras_senet))
    for name, comparison in COMPARISONS.items():
        assert name == comparison.name
        for case in comparison.cases():
            assert len({each.name for each in case.subjects}) == len(case.subjects)
            for each in case.subjects:
                module, _, function = each.prepare.partition(":")
                tree = ast.parse((ROOT / "benchmarks" / f"{module[1:]}.py").read_text())
                (found,) = (n for n in tree.body if getattr(n, "name", "") == function)
                taken = {argument.arg for argument in found.args.args}
                given = {"folder", "threads", *each.arguments}
                for setting in (*case.settings, *case.quick):
                    assert given | set(setting) <= taken, (name, each.name)


def test_training_and_inference_of_a_layer():
    """Two steps of softmax regression, by hand in float64: SGD with momentum 0.9 and a weight decay
    of 1e-4 of the kernel.
    """
    import keras
    import numpy as np

    from benchmarks import networks

    random = np.random.default_rng(0)
    images = random.normal(size=(4, 1, 1, 5)).astype("float32")
    kernel, bias = random.normal(size=(5, 3)).astype("float32"), np.zeros(3)
    model = keras.Sequential(
        [keras.Input((1, 1, 5)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    model.set_weights([kernel, bias])
    logit = networks.infer(model, images)()
    assert logit == pytest.approx((images[0, 0, 0] @ kernel)[0], rel=1e-5)
    step, x, labels = networks.train(model, images), np.float64(images[:, 0, 0]), [0, 1, 2, 0]
    velocities = [0, 0]
    for _ in range(2):
        exponentials = np.exp(x @ kernel + bias)
        probabilities = exponentials / exponentials.sum(1, keepdims=True)
        loss = -np.log(probabilities[range(4), labels]).mean()
        assert step() == pytest.approx(loss, rel=1e-5)
        error = (probabilities - np.eye(3)[labels]) / 4
        gradients = x.T @ error + 1e-4 * kernel, error.sum(0)
        velocities = [0.9 * v - 0.01 * g for v, g in zip(velocities, gradients, strict=True)]
        kernel, bias = kernel + velocities[0], bias + velocities[1]
    for found, expected in zip(model.get_weights(), (kernel, bias), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("plain", [False, True])
def test_our_networks(plain):
    """With its published number of parameters, and without those of the SE blocks."""
    import numpy as np

    from benchmarks import networks
    from keras_senet import initializers

    with initializers.shapes_only():
        model = networks.keras_senet("SEResNet20", 32, plain)
    assert model.output_shape == (None, 10)
    # three SE blocks each of 16, 32 and 64 channels c: two layers with biases, between them c / 16
    blocks = sum(3 * (2 * c * (c // 16) + c + c // 16) for c in (16, 32, 64))
    assert sum(np.prod(v.shape) for v in model.trainable_variables) == 274_847 - plain * blocks


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trainig"], "NAME must be one of training, inference, exported"),
        (["training", "--rounds", "0"], "--rounds must be at least 1. Received: 0"),
        (["training", "--network", "SEResNet51"], "No case has --network SEResNet51: see --list"),
        (["--before", "nowhere"], "--before must be a checkout of this package. Received: nowhere"),
    ],
)
def test_errors(arguments, message, capsys):
    from benchmarks.__main__ import main

    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert message in capsys.readouterr().err


def test_list(capsys):
    from benchmarks.__main__ import main

    main(["training", "--list"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("training: ")
    assert "timm legacy_seresnet50, torch.compile" in lines[1]
    main(["--list"])
    assert set(re.findall(r", 1 settings?:", capsys.readouterr().out)) == {", 1 setting:"}


def test_pictures(tmp_path):
    from benchmarks import pictures, storage

    storage.write("training", ROWS, tmp_path)
    sizes = [timed("keras_senet", 10.0 * n, setting=f"batch 1, size {n}") for n in (64, 96)]
    storage.write("size", sizes, tmp_path)
    storage.write("int8", [ROW | {"subject": "a", "error": "b"}], tmp_path)
    for name in ("training", "size", "int8"):
        pictures.draw(name, tmp_path)
    assert sorted(path.stem for path in tmp_path.glob("*.png")) == ["size", "training"]
    (line,) = (
        pictures._lines(storage.read("size", tmp_path), pictures.COMPARISONS["size"]).axes[0].lines
    )
    assert line.get_xydata().tolist() == [[64, 640], [96, 960]]
