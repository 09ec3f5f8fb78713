"""Optional libraries, imported where they are needed; an error says how to install them."""

import contextlib
import importlib
from types import ModuleType


class MissingExtraError(ImportError):
    """An optional library is not installed; the message names the extra that has it."""


def require(module: str, extra: str) -> ModuleType:
    """The imported module, or MissingExtraError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise _missing(error, extra) from error


@contextlib.contextmanager
def needs_tensorflow():
    """In the block, an import that fails for want of TensorFlow raises MissingExtraError."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "tensorflow":
            raise
        raise _missing(error, "tensorflow") from error


def _missing(error, extra):
    return MissingExtraError(
        f"This needs the package {error.name!r}, which is not installed. "
        f"Install the extra {extra!r}: pip install 'keras_senet[{extra}]'"
    )
