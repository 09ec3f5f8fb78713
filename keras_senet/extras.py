"""Optional libraries, imported where they are needed; an error says how to install them."""

import importlib
from types import ModuleType


class MissingExtraError(ImportError):
    """An optional library is not installed; the message names the extra that has it."""


def require(module: str, extra: str) -> ModuleType:
    """The imported module, or MissingExtraError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"This needs the package {error.name!r}, which is not installed. "
            f"Install the extra {extra!r}: pip install 'keras_senet[{extra}]'"
        ) from error
