"""Images that cannot be used."""

from typing import NamedTuple


class Corrupt(NamedTuple):
    """An image that cannot be used: its index in the dataset, its name, and why."""

    index: int  # pyright: ignore[reportIncompatibleMethodOverride] -- hides tuple.index
    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} cannot be used: {self.reason}"


class CorruptImageError(ValueError):
    """An image cannot be decoded or has no valid label; the message names the file and why."""
