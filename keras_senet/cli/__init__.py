"""The commands of `keras-senet`, one module each, those of two words in a package. `options` and
`flags` read a command line without Keras; then the command's module is imported, and its `run`
called.
"""

import contextlib
import importlib
import logging
import re
import sys
from collections.abc import Iterator, Sequence

import keras_senet_cli
from keras_senet.cli.flags import UsageError, make_complete_app, read_options, spell_flags
from keras_senet.cli.options import CLASSES
from keras_senet.extras import needs_tensorflow
from keras_senet_cli import EXPECTED, is_output_lost, quiet, split_command

COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # with which Keras writes some of its errors
LIGHT = ("data", "list", "predict")  # commands without Keras, or that import it when they need it


def main(arguments: Sequence[str]) -> int:
    """Runs a command; returns the exit status, 2 after one line about bad input."""
    command, rest = split_command(arguments)
    try:
        options = read_options(command, CLASSES[command], rest)
        if options is not None:
            _run(command, options)
    except EXPECTED as error:
        if isinstance(error, OSError) and is_output_lost(error):
            raise
        if "--traceback" in rest and not isinstance(error, UsageError):
            raise
        text = COLOURS.sub("", " ".join(str(error).split()))
        line = spell_flags(CLASSES[command], text)
        print(f"keras-senet {command}: error: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def install_completion(shell: str | None = None) -> int:
    """Installs a shell's completion, by default of the one that runs this; returns the status."""
    from cyclopts.completion import ShellDetectionError

    try:
        path = make_complete_app(CLASSES).install_completion(shell=shell)  # pyright: ignore
    except (ValueError, RuntimeError, OSError, ShellDetectionError) as error:
        print(f"keras-senet: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"{path}, which the shell's start-up file names: completion in shells opened from now on")
    return 0


def _run(command, options):
    from keras_senet.cli.tables import messages_aside

    with needs_tensorflow():
        module = _import(command)
        with _messages(command), messages_aside(getattr(options, "json", False)):
            module.run(options)


def _import(command):
    keras_senet_cli.parsing = False
    module = f"keras_senet.cli.{command.replace(' ', '.')}"
    if command in LIGHT:
        return importlib.import_module(module)
    with quiet():
        importlib.import_module("keras_senet.models")  # whose classes Keras then knows by name
        return importlib.import_module(module)


@contextlib.contextmanager
def _messages(command: str) -> Iterator[None]:
    """What the package logs, as lines on the error stream: which weights it took, for example."""
    logger, handler = logging.getLogger("keras_senet"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"keras-senet {command}: %(message)s"))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
