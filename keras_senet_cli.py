"""The launcher of `keras-senet`: imports nothing heavy, so that help and typing errors come at
once.

It also knows the CPU, because what TensorFlow is to use must be said before it is imported.
"""

import argparse
import contextlib
import difflib
import errno
import io
import json
import os
import platform
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

__version__ = "0.2.0"

parsing = False  # whether a command line is being read: `import keras_senet` is then without Keras

COMMANDS = {
    "quickstart": "train SE-ResNet-20 on handwritten digits, evaluate it, export it to all formats",
    "list": "the networks with size and multiply-adds; published weights; recipes",
    "summary": "one network, stage by stage",
    "data": "what is in a folder of images, and what may be wrong with it, before training",
    "train": "a recipe on a dataset, on one device or many; the same command continues it",
    "evaluate": "top-1, top-5 and confusions of networks, or of their average, on a dataset",
    "curves": "the errors of several runs in one picture",
    "predict": "the top-k classes of images",
    "convert": "weights of PyTorch and Caffe, or published ones, to .weights.h5 or .safetensors",
    "excitations": "the gates of every SE block on a dataset: tables, statistics and pictures",
    "ablate": "variants of the SE block by one recipe and several seeds, with the paper's figures",
    "prune": "a network without some of its SE blocks or channels, with what that saves and costs",
    "report": "a training run as one self-contained web page",
    "export": "a network as SavedModel, TFLite and ONNX, each file run and compared with Keras",
    "detect": "Faster R-CNN: train, evaluate, predict, export; images with boxes to begin with",
}
# Of a command that has some: they are commands of two words
SUBCOMMANDS = {
    "detect": {
        "train": "a recipe on images with boxes; the same command continues it",
        "evaluate": "COCO's average precision, by class; precision-recall curves, mistakes",
        "predict": "the objects in images: a table, and pictures with their boxes",
        "export": "a detector as SavedModel, TFLite and ONNX, each file compared with Keras",
        "scenes": "the embedded images with boxes, digits on photographs, in COCO's format",
        "convert": "torchvision's fasterrcnn_resnet50_fpn (.pth) to .safetensors",
    }
}

# All that run, those of two words among them
EVERY_COMMAND = {name: text for name, text in COMMANDS.items() if name not in SUBCOMMANDS} | {
    f"{group} {name}": text for group, own in SUBCOMMANDS.items() for name, text in own.items()
}

# What bad input and a bad environment raise: one line, without a traceback.
EXPECTED = (ValueError, OSError, ImportError, FloatingPointError)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # of what cannot be written

ONEDNN = "TF_ENABLE_ONEDNN_OPTS"  # "1" or "0"; TensorFlow reads it when it is imported
CPUINFO = "/proc/cpuinfo"
COMPLETION = "--install-completion"
# Of the commands that train
DEFAULT_WORKDIRS = {
    "train": None,
    "ablate": None,
    "quickstart": "quickstart",
    "detect train": None,
}

# What kernels are chosen by, on x86 and on ARM, as Linux names it
INSTRUCTIONS = (
    "avx f16c fma avx2 avx_vnni avx512f avx512bw avx512dq avx512vl avx512_vnni avx512_bf16 "
    "avx512_fp16 amx_tile amx_int8 amx_bf16 amx_fp16 asimddp asimdhp bf16 i8mm sve sve2 sme"
).split()

USAGE = "Usage: keras-senet [--help] [--version] [--install-completion] COMMAND [OPTIONS]\n"
HELP = ("-h", "--help")


def help_text() -> str:
    """What `keras-senet --help` prints."""
    return (
        f"{USAGE}\nSqueeze-and-Excitation networks for Keras 3 and TensorFlow.\n\n"
        f"{_list_commands(COMMANDS)}\n"
        "`keras-senet COMMAND --help` describes a command's flags, and `keras-senet\n"
        "--install-completion` makes the shell complete commands and flags.\n"
    )


def group_help_text(command: str) -> str:
    """What the `--help` of a command with subcommands prints."""
    return (
        f"Usage: keras-senet {command} COMMAND [OPTIONS]\n\n{COMMANDS[command]}.\n\n"
        f"{_list_commands(SUBCOMMANDS[command])}\n"
        f"`keras-senet {command} COMMAND --help` describes a command's flags.\n"
    )


def _list_commands(commands):
    width = max(map(len, commands))
    rows = "".join(f"  {name:{width}}  {text}\n" for name, text in commands.items())
    return f"Commands:\n{rows}"


def split_command(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The command, of two words where it has subcommands, and what follows it."""
    words = 2 if arguments[0] in SUBCOMMANDS else 1
    return " ".join(arguments[:words]), list(arguments[words:])


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    with ends_with_output():
        return _run(sys.argv[1:] if arguments is None else arguments)


def _run(arguments):
    first, second = (*arguments[:2], None, None)[:2]
    if first in HELP or (first in SUBCOMMANDS and second in HELP):
        print(help_text() if first in HELP else group_help_text(first), end="")
        return 0
    if first == "--version":
        print(f"keras-senet {__version__}")
        return 0
    if first not in (*COMMANDS, COMPLETION):
        print(f"keras-senet: error: {_explain(first, COMMANDS)}", file=sys.stderr)
        return 2
    if first in SUBCOMMANDS and second not in SUBCOMMANDS[first]:
        problem = _explain(second, SUBCOMMANDS[first])
        print(f"keras-senet {first}: error: {problem}", file=sys.stderr)
        return 2
    choose_onednn(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow is imported
    import keras_senet_cli as launcher  # this module, which may run under another name

    launcher.parsing = True
    try:
        from keras_senet import cli

        if first == COMPLETION:
            return cli.install_completion(*arguments[1:2])
        return cli.main(arguments)
    finally:
        launcher.parsing = False
        if "keras_senet.layers" not in sys.modules:  # the next import is to register them
            sys.modules.pop("keras_senet", None)


@contextlib.contextmanager
def ends_with_output() -> Iterator[None]:
    """Ends the program where its output cannot be written: without a word and with status 1 if
    nobody reads it any more, as after `| head`; else, as on a full disk, with a line and status 2.
    """
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        if not is_output_lost(error):
            raise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # for what Python still writes when it ends
        if isinstance(error, BrokenPipeError):
            sys.exit(1)
        print(f"error: the output cannot be written: {error.strerror}", file=sys.stderr)
        sys.exit(2)


def is_output_lost(error: OSError) -> bool:
    """Whether an error says that what is printed cannot be written, or nobody reads it."""
    if error.errno in FULL and isinstance(getattr(sys.stdout, "buffer", None), io.RawIOBase):
        return error.filename is None  # of an unbuffered output; a file would be named
    try:
        sys.stdout.flush()  # which fails if it is still in the buffer
        output = select.poll()
        output.register(sys.stdout, select.POLLERR)
        return bool(output.poll(0))
    except (AttributeError, ValueError):  # Windows has no poll, other streams have no number
        return False
    except OSError:
        return True


def _explain(given: str | None, commands: Mapping[str, str]) -> str:
    """What is wrong with the argument that is none of the commands."""
    if given is None:
        return f"a command must be given: {', '.join(commands)}"
    return (
        f"there is no command {given!r}; commands: {', '.join(commands)}{suggest(given, commands)}"
    )


def suggest(given: str, known: Iterable[str]) -> str:
    """A question for the end of a message: the known name that is most like an unknown one."""
    close = difflib.get_close_matches(given, list(known), n=1)
    return f". Did you mean {close[0]!r}?" if close else ""


def choose_onednn(arguments: Sequence[str]) -> None:
    """Says in the environment, for workers too, whether to use oneDNN, unless the user has."""
    value = onednn_for(arguments)
    if value is not None and "tensorflow" not in sys.modules:
        os.environ.setdefault(ONEDNN, value)


def onednn_for(arguments: Sequence[str]) -> str | None:
    """ "1" or "0", or None for TensorFlow's own default: that of an existing run, and with AVX2
    "1" for a new one.

    TensorFlow leaves oneDNN off on CPUs that have AVX2 and nothing newer, where training takes up
    to twice the time without it.
    """
    recorded = _environment_of(_workdir(arguments))
    if recorded is None:
        recorded = {"onednn": True} if "avx2" in instruction_set().split() else {}
    # Runs of earlier versions do not say: they had TensorFlow's default.
    onednn = recorded.get("onednn")
    return None if onednn is None else str(int(bool(onednn)))


def _workdir(arguments):
    """The work directory of a command that trains, or None; the command says what is wrong."""
    command, rest = split_command(arguments)
    if command not in DEFAULT_WORKDIRS:
        return None
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--workdir", default=DEFAULT_WORKDIRS[command])
    try:
        return parser.parse_known_args(rest)[0].workdir
    except argparse.ArgumentError:
        return None


def _environment_of(workdir):
    """What the run in a work directory, or an ablation's first one, recorded; None without one."""
    if not workdir:
        return None
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError, RecursionError):
        found = [Path(workdir, "recipe.json"), *sorted(Path(workdir).glob("*/seed*/recipe.json"))]
        file = next((file for file in found if file.is_file()), None)
        return None if file is None else dict(json.loads(file.read_text()).get("environment", {}))
    return None


def instruction_set() -> str:
    """The kind of this CPU and its extensions that results can depend on: "x86_64 avx fma avx2"."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        has = _cpu_flags()
        return " ".join((platform.machine(), *(name for name in INSTRUCTIONS if name in has)))
    return platform.machine()


def _cpu_flags():
    """Names of extensions as the system says them; none where it is not known how to ask."""
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        keys = ("machdep.cpu.features", "machdep.cpu.leaf7_features")
        said = subprocess.run(
            ["sysctl", "-n", *keys], capture_output=True, text=True, timeout=10, check=True
        ).stdout
        return frozenset(said.lower().replace("avx1.0", "avx").split())
    if sys.platform != "linux":
        return frozenset()
    with open(CPUINFO) as file:
        for line in file:
            name, _, value = line.partition(":")
            if name.strip() in ("flags", "Features"):  # on x86, on ARM; of the first core
                return frozenset(value.split())
    return frozenset()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Holds back what libraries write to the error stream from C++, unless an unexpected exception
    leaves the block.

    What this package says there itself, in lines that begin with its name, comes when the block is
    left.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow is imported
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except EXPECTED:
            raise
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            os.write(2, b"".join(line for line in held if line.startswith(b"keras-senet ")))


if __name__ == "__main__":
    sys.exit(main())
