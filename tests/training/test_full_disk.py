"""What cannot be written whole is not written at all: files may not grow beyond a limit, as on a
full disk.
"""

import contextlib
import os
import resource
import signal

import little
import pytest

from keras_senet.analysis import ablation
from keras_senet.analysis.ablation import SeedResult, VariantResult, write_results
from keras_senet.files import replacing, write_atomically
from keras_senet.plots.curves import training_curves
from keras_senet.recipes import VARIANTS
from keras_senet.runs.results import write_report
from keras_senet.runs.workdir import WorkDir
from keras_senet.training import Recipe
from keras_senet.weights import save_weights

ROW = {"step": 5, "epoch": 1, "loss": 2.25, "accuracy": 0.5, "test_accuracy": 0.5432}


@contextlib.contextmanager
def full_disk(limit):
    """Within, a file that would be larger than `limit` bytes cannot be written."""
    kept, handler = (
        resource.getrlimit(resource.RLIMIT_FSIZE),
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, kept[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)
        signal.signal(signal.SIGXFSZ, handler)


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def write_table(folder):
    runs = tuple(SeedResult(seed, 20.0, 10.0) for seed in range(40))
    write_results([VariantResult(VARIANTS["se"], 1000, 20_000, runs)], folder, "a title")


def write_metrics(folder):
    workdir = WorkDir(folder, Recipe(), {})
    workdir.metrics.append(ROW | {"step": 10, "epoch": 2})


@pytest.fixture(autouse=True)
def nothing_is_drawn():
    """Here, pictures are."""


def draw_curves(folder):
    rows = [{"epoch": e, **dict.fromkeys(("loss", "accuracy"), 0.5)} for e in (1, 2)]
    rows = [row | {"test_loss": 0.5, "test_accuracy": 0.5} for row in rows]
    training_curves(rows, folder / "curves.png", "a title")


WRITES = {
    "curves.png": draw_curves,
    "recipe.json": lambda folder: WorkDir(folder / "new", Recipe(), {}),
    "metrics.csv": write_metrics,
    "report.json": lambda folder: write_report(folder / "report.json", {"loss": "x" * 1000}),
    "ablation.csv": write_table,
}


@pytest.mark.parametrize("name", WRITES)
def test_a_file_is_the_old_or_the_new_one(tmp_path, monkeypatch, name):
    monkeypatch.setattr(ablation, "variant_errors", lambda *arguments: None)
    WorkDir(tmp_path, Recipe(), {}).metrics.append(ROW)
    for other in ("report.json", "ablation.csv", "curves.png"):
        (tmp_path / other).write_text("old")
    before = contents(tmp_path)
    with full_disk(50), pytest.raises(OSError, match=rf"{name}' cannot be written: File too large"):
        WRITES[name](tmp_path)
    assert contents(tmp_path) == before
    assert not any(".partial" in file.name for file in tmp_path.rglob("*"))
    WRITES[name](tmp_path)
    assert contents(tmp_path) != before or (tmp_path / "new" / "recipe.json").exists()


@pytest.mark.parametrize("limit", [0, 100, 50_000, 150_000])
def test_weights_are_the_old_or_the_new_ones(tmp_path, limit):
    """HDF5, which ends the process on a full disk, does not start to write."""
    model = little.TWO_STAGES(weights=None)
    path = tmp_path / "best.weights.h5"
    path.write_bytes(b"old")
    with (
        full_disk(limit),
        pytest.raises(OSError, match=r"best\.weights\.h5' cannot be written: File too large"),
    ):
        save_weights(model, path)
    assert contents(tmp_path) == {path.name: b"old"}
    with (
        full_disk(limit),
        pytest.raises(OSError, match=r"model\.keras' cannot be written: File too large"),
        replacing(tmp_path / "model.keras") as partial,
    ):
        model.save(partial)
    assert contents(tmp_path) == {path.name: b"old"}
    save_weights(model, path)
    model.load_weights(path)


def write_half(path, error):
    with replacing(path) as partial:
        partial.write_text("ne")
        raise error


def test_what_ends_in_the_middle_leaves_the_old_file(tmp_path):
    write_atomically(tmp_path / "a.txt", "old")
    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error):
            write_half(tmp_path / "a.txt", error)
    assert contents(tmp_path) == {"a.txt": b"old"}
    write_atomically(tmp_path / "a.txt", "new\n")
    longest = "\u9f9f" * 80 + ".picture.txt"  # 252 bytes, of 255
    write_atomically(tmp_path / longest, "text")
    (tmp_path / longest).unlink()
    assert contents(tmp_path) == {"a.txt": b"new\n"}
    with pytest.raises(OSError, match=r"b/a\.txt' cannot be written: No such file"):
        write_atomically(tmp_path / "b" / "a.txt", "new")


def test_a_device_or_a_pipe_is_not_replaced_by_a_file(tmp_path):
    """Such as that of `--csv /dev/stdout`."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to(os.devnull)
    for name in ("pipe", "null"):
        with pytest.raises(OSError, match=f"{name}' cannot be written: it is a pipe or a device"):
            write_atomically(tmp_path / name, "text")
        assert not (tmp_path / name).is_file()
