"""What the launcher says to TensorFlow before it is imported: oneDNN, by the CPU and by the run
that is continued.
"""

import importlib
import io
import json
import os
import re
import subprocess
import sys

import pytest
import tensorflow as tf

import keras_senet_cli as launcher
from keras_senet import cli
from keras_senet.cli import tables
from keras_senet.runs.environment import environment

# Of /proc/cpuinfo on Linux: an AMD Zen 2, an Intel Ice Lake, an ARM Neoverse V1 and a CPU from
# before AVX, shortened
ZEN2 = (
    "processor\t: 0\nvendor_id\t: AuthenticAMD\n"
    "flags\t\t: fpu sse4_2 avx f16c rdrand bmi1 avx2 fma\n\nprocessor\t: 1\n"
)
ICE_LAKE = (
    "processor\t: 0\nflags\t\t: fpu avx f16c avx2 fma avx512f avx512dq avx512bw avx512vl "
    "avx512_vnni amx\nbugs\t: x\n"
)
NEOVERSE = (
    "processor\t: 0\nBogoMIPS\t: 2100.00\nFeatures\t: fp asimd asimdhp asimddp sve i8mm bf16\n"
)
CORE2 = "processor\t: 0\nflags\t\t: fpu sse sse2 ssse3 sse4_1\n"


@pytest.fixture
def cpu(monkeypatch, tmp_path):
    """Puts a text in the place of /proc/cpuinfo; None takes the file away."""
    monkeypatch.setattr(sys, "platform", "linux")

    def pretend(text, machine="x86_64"):
        file = tmp_path / "cpuinfo"
        file.unlink(missing_ok=True)
        if text is not None:
            file.write_text(text)
        monkeypatch.setattr(launcher, "CPUINFO", str(file))
        monkeypatch.setattr(launcher.platform, "machine", lambda: machine)

    return pretend


@pytest.mark.parametrize(
    ("text", "machine", "instructions", "onednn"),
    [
        (ZEN2, "x86_64", "x86_64 avx f16c fma avx2", "1"),
        (
            ICE_LAKE,
            "x86_64",
            "x86_64 avx f16c fma avx2 avx512f avx512bw avx512dq avx512vl avx512_vnni",
            "1",
        ),
        (NEOVERSE, "aarch64", "aarch64 asimddp asimdhp bf16 i8mm sve", None),
        (CORE2, "x86_64", "x86_64", None),
        ("", "x86_64", "x86_64", None),
        (None, "riscv64", "riscv64", None),
    ],
    ids=["avx2", "avx512", "arm", "old", "empty", "none"],
)
def test_a_new_run_has_onednn_where_the_cpu_has_avx2(cpu, text, machine, instructions, onednn):
    cpu(text, machine)
    assert launcher.instruction_set() == instructions
    for command in (
        ["train", "--workdir", "/nowhere"],
        ["train", "--workdir"],
        ["predict", "cat.jpg"],
    ):
        assert launcher.onednn_for(command) == onednn


def record(folder, **environment):
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text(json.dumps({"recipe": {}, "environment": environment}))


@pytest.mark.parametrize(
    ("recorded", "onednn"), [({"onednn": False}, "0"), ({"onednn": True}, "1"), ({}, None)]
)
def test_a_run_keeps_what_it_was_begun_with(cpu, tmp_path, monkeypatch, recorded, onednn):
    """A run of an earlier version, which does not say, had TensorFlow's default."""
    cpu(ZEN2)
    record(tmp_path / "run", threads=2, **recorded)
    record(tmp_path / "ablation" / "se" / "seed0", **recorded)
    record(tmp_path / "quickstart", **recorded)
    monkeypatch.chdir(tmp_path)
    for command in (
        ["train", "--workdir", "run", "--recipe", "digits"],
        ["train", "--recipe", "digits", "--workdir=run", "--engine", "fit"],
        ["train", "--warmup", "linear", "--workdir", "run"],
        ["ablate", "--workdir", "ablation"],
        ["quickstart"],
    ):
        assert launcher.onednn_for(command) == onednn, command
    assert launcher.onednn_for(["evaluate", "--workdir", "run"]) == "1"  # trains nothing


@pytest.mark.parametrize(
    "content", ["", "[]", "<html>", '{"environment": [1]}', '{"environment": null}']
)
def test_a_damaged_recipe_is_the_commands_to_refuse(cpu, tmp_path, content):
    cpu(ZEN2)
    (tmp_path / "recipe.json").write_text(content)
    assert launcher.onednn_for(["train", "--workdir", str(tmp_path)]) == "1"


def test_what_the_user_says_counts(cpu, monkeypatch):
    cpu(ZEN2)
    monkeypatch.setattr(launcher.sys, "modules", {})
    for given, then in (("0", "0"), ("1", "1"), ("false", "false"), (None, "1")):
        with monkeypatch.context() as patch:
            patch.delenv(launcher.ONEDNN) if given is None else patch.setenv(launcher.ONEDNN, given)
            launcher.choose_onednn(["list"])
            assert os.environ[launcher.ONEDNN] == then


def has_onednn():
    """Whether a convolution of NCHW images, which TensorFlow has on a CPU by oneDNN only, can be
    done.
    """
    try:
        tf.nn.conv2d(tf.ones((1, 1, 1, 1)), tf.ones((1, 1, 1, 1)), 1, "VALID", data_format="NCHW")
    except tf.errors.UnimplementedError:
        return False
    return True


def test_what_is_recorded_is_in_force():
    assert environment()["onednn"] is has_onednn()
    assert environment()["instructions"] == launcher.instruction_set()


PROGRAM = """
import sys
sys.path[:0] = sys.argv[1:3]
import keras_senet_cli as c

c.choose_onednn(["train", "--workdir", sys.argv[3]])
assert c.main(["train"]) == 2 and not {"keras", "tensorflow", "keras_senet"} & {*sys.modules}
assert not c.parsing
assert c.main(["summary", "SEResNet20", "--json"]) == 0
print("---")
import keras_senet
import keras

assert keras.saving.get_registered_object("keras_senet>SqueezeExcite") is not None
assert c.main(["summary", "SEResNet51"]) == 2
assert sys.modules["keras_senet"] is keras_senet
import test_layers

assert test_layers.run_without_onednn() == 0
import test_launcher

print(test_launcher.environment()["onednn"], test_launcher.has_onednn())
"""


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """What a process says that runs commands, the first without Keras, in which a run without
    oneDNN is to be continued, and then the tests of layers: most of its 10 s is to import
    TensorFlow, which then reads the variable.
    """
    run, here = tmp_path_factory.mktemp("fresh") / "run", os.path.dirname(__file__)
    record(run, onednn=False)
    without = {name: value for name, value in os.environ.items() if name != launcher.ONEDNN}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, here, os.path.dirname(here), str(run)],
        capture_output=True,
        text=True,
        env=without,
    )


def test_keras_is_ready_after_a_command_that_needed_none(fresh):
    """Keras can load saved models of a process whose command line ended before Keras was there; and
    nothing of TensorFlow's start is printed.
    """
    printed, _, _ = fresh.stdout.partition("---")
    assert json.loads(printed)["parameters"] == 274847, fresh.stderr
    first, last = fresh.stderr.splitlines()
    assert first.startswith("keras-senet train: error: ")
    assert last.startswith("keras-senet summary: error: ")


def test_a_run_without_onednn_is_continued_without_it(fresh):
    """The layers have their numbers there too."""
    assert fresh.stdout.endswith("\nFalse False\n"), fresh.stdout[-4000:] + fresh.stderr
    assert " passed" in fresh.stdout


class NoisyImport:
    """Writes to the error stream, as TensorFlow's C++ does, where Keras would be imported."""

    def __init__(self, name):
        self.name = name

    def find_spec(self, name, *_):
        if name == self.name:
            os.write(2, b"I0000 port.cc: oneDNN custom operations are on\n")


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("keras_senet.runs.load", ("train", "--weights", "own.weights.h5", "--dataset", "lost")),
        ("keras_senet.cli.network", ("predict", "photo.png", "--model", "lost.keras")),
    ],
)
def test_what_libraries_say_when_they_are_imported_is_held_back(
    module, arguments, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    for name in ("own.weights.h5", "photo.png", "lost.keras"):
        (tmp_path / name).write_bytes(b"")
    package, _, attribute = module.rpartition(".")
    monkeypatch.setattr(sys.modules[package], attribute, importlib.import_module(module))
    monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [NoisyImport(module), *sys.meta_path])
    assert launcher.main(arguments) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"keras-senet {arguments[0]}: error: ")
    assert module in sys.modules


# Commands that print without Keras
PRINTING = [
    ["--help"],
    ["--version"],
    ["detect", "--help"],
    ["predict", "--help"],
    ["list"],
    ["list", "--json"],
]


@pytest.mark.parametrize(
    "arguments",
    [*PRINTING, ["list", "--recipes"], ["summary", "SEResNet20"]],
    ids=" ".join,
)
def test_a_closed_output_ends_the_command_without_a_word(monkeypatch, capfd, arguments):
    """As `| head` closes it; status 1, as of Python itself."""
    monkeypatch.setattr(tables.console, "quiet", False)  # rich's own end of a closed output sets it
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        with pytest.raises(SystemExit) as ended:
            launcher.main(arguments)
    assert ended.value.code == 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="is of Linux")
@pytest.mark.parametrize("is_buffered", [True, False])
@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_an_output_that_cannot_be_written_is_a_line(monkeypatch, capfd, arguments, is_buffered):
    """Also with PYTHONUNBUFFERED, where each print fails at once."""
    with (
        open("/dev/full", "wb", buffering=-1 if is_buffered else 0) as file,
        io.TextIOWrapper(file, write_through=not is_buffered) as output,
    ):
        monkeypatch.setattr(sys, "stdout", output)
        try:
            status = launcher.main(arguments)
        except SystemExit as ended:
            status = ended.code
    assert status == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert re.fullmatch(r".*error: .*No space left on device\n", err)


def test_other_broken_pipes_are_errors(monkeypatch, capsys):
    """Such as of a process that a command has started."""

    def fail(command, options):
        raise BrokenPipeError("of a child")

    monkeypatch.setattr(cli, "_run", fail)
    assert launcher.main(["list"]) == 2
    assert capsys.readouterr() == ("", "keras-senet list: error: of a child\n")


def test_a_command_that_needs_tensorflow_names_the_extra(monkeypatch, capsys):
    def run(options):
        raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow.io")

    monkeypatch.setattr(importlib.import_module("keras_senet.cli.list"), "run", run)
    assert cli.main(["list"]) == 2
    assert "Install the extra 'tensorflow': pip install" in capsys.readouterr().err
