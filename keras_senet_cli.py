"""The launcher of `keras-senet`: knows the subcommands' names alone, so that help and typing errors answer at once."""

import contextlib
import os
import sys
import tempfile

__version__ = "0.1.0"

COMMANDS = {
    "quickstart": "train SE-ResNet-20 on handwritten digits, evaluate it, export it to every format",
    "list": "every network with input size, parameters and multiply-adds, or the published weights",
    "summary": "one network, stage by stage",
    "train": "a recipe on a dataset, on one device or many; the same command continues it",
    "evaluate": "top-1, top-5 and confusions of networks, or of their average, on a dataset",
    "curves": "the errors of several runs in one picture",
    "predict": "the likeliest classes of images",
    "convert": "weights of PyTorch and Caffe, or published ones, to .weights.h5 or .safetensors",
    "excitations": "the gates of every SE block on a dataset: tables, statistics and pictures",
    "ablate": "variants of the SE block by one recipe and several seeds, beside the paper's figures",
    "prune": "a network without some of its SE blocks or channels, with what that saves and costs",
    "report": "a training run as one self-contained web page",
    "export": "a network as SavedModel, TFLite and ONNX, each file run and compared with Keras",
}

# What bad input and a bad environment raise: one line, without a traceback.
EXPECTED = (ValueError, OSError, ImportError, FloatingPointError)

USAGE = "usage: keras-senet [-h] [--version] COMMAND ...\n"


def help_text():
    width = max(map(len, COMMANDS))
    rows = "".join(f"  {name:{width}}  {text}\n" for name, text in COMMANDS.items())
    return (
        f"{USAGE}\nSqueeze-and-Excitation networks for Keras 3 and TensorFlow.\n\ncommands:\n{rows}\n"
        "`keras-senet COMMAND --help` describes a command's arguments.\n"
    )


def main(arguments=None):
    """Runs the command line; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    first = arguments[0] if arguments else None
    if first in ("-h", "--help"):
        print(help_text(), end="")
        return 0
    if first == "--version":
        print(f"keras-senet {__version__}")
        return 0
    if first not in COMMANDS:
        given = "no command was given" if first is None else f"there is no command {first!r}"
        print(f"keras-senet: error: {given}; commands: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    with quiet():
        from keras_senet import cli
    return cli.main(arguments)


@contextlib.contextmanager
def quiet():
    """Holds back what libraries write to the error stream from C++, unless an unexpected exception leaves the block.

    What this package says there itself, in lines that begin with its name, comes when the block is left.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # some of TensorFlow's messages; read when it loads
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
