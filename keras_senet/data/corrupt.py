"""Images that cannot be used."""

from typing import Any, NamedTuple


class Corrupt(NamedTuple):
    """An image that cannot be used: its index in the dataset, its name, and why."""

    index: int  # pyright: ignore[reportIncompatibleMethodOverride] -- hides tuple.index
    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} cannot be used: {self.reason}"


class CorruptImageError(ValueError):
    """An image cannot be decoded or has no valid label; the message names the file and why."""


def find_wrong_label(dataset: Any, index: int, label: int) -> Corrupt | None:
    """`Corrupt` if the label of an image of a dataset is not a class."""
    classes = len(dataset.class_names)
    if 0 <= label < classes:
        return None
    reason = f"its label {label} is not in 0..{classes - 1}"
    return Corrupt(int(index), dataset.name_of(int(index)), reason)
