"""Modules that are imported when they are needed; of an optional one that is missing, an error says
how to install it.
"""

import contextlib
import importlib
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from types import ModuleType
from typing import Any


class MissingExtraError(ImportError):
    """An optional library is not installed; the message names the extra that has it."""


def require(module: str, extra: str) -> ModuleType:
    """The imported module, or MissingExtraError with the command that installs it."""
    try:  # AutoGraph, which converts this within a graph, warns of what imports
        return sys.modules.get(module) or importlib.import_module(module)
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


def load_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package, which imports a name from its home, one of the package's
    modules, when it is first used, and finds modules.
    """

    def __getattr__(name):  # noqa: N807
        if name in homes:
            with needs_tensorflow():
                value = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
            setattr(sys.modules[package], name, value)
            return value
        if not name.startswith("_") and find_spec(f"{package}.{name}"):
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return __getattr__


def _missing(error, extra):
    return MissingExtraError(
        f"This needs the package {error.name!r}, which is not installed. "
        f"Install the extra {extra!r}: pip install 'keras_senet[{extra}]'"
    )
