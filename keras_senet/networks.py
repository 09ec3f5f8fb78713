"""The networks with their sizes, counts and the paper's figures, read from a table: nothing is
built, and Keras is not imported. A test compares the table with the built networks.
"""

import csv
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple


class NetworkRow(NamedTuple):
    """One row of `networks.csv`.

    name                 the constructor's
    input_size           height and width of its images by default, in pixels
    classes              by default
    stages               how many numbers `depths` has; 0: its depth is not to be changed
    stage_numbers        of the stages with weights, as in the layers' names; the stem is 1, or 0
                         where there is a stage 1
    parameters           trainable ones
    multiply_adds        of one image of this size, by convolutions and dense layers
    with_rescaling       the same, and one for each element that SE blocks rescale
    plain_multiply_adds  multiply-adds without SE blocks
    plain_parameters     the same of the trainable parameters
    paper_plain, paper   GFLOPs of the authors' re-implementation without and with SE blocks, Tables
                         2 and 3, or None (SE-Inception-ResNet-v2's is a variant that is not public)
    paper_plain_top1_error, paper_plain_top5_error, paper_top1_error, paper_top5_error
                         in percent, as the paper prints them, or None: on ImageNet by one crop of
                         the input size, of the authors' re-implementation without SE blocks and of
                         the network (Tables 2 and 3; SENet-154: Table 8); on CIFAR-10, or CIFAR-100
                         for 100 classes, of the original and of the network (Tables 4 and 5)
    """

    name: str
    input_size: int
    classes: int
    stages: int
    stage_numbers: tuple[int, ...]
    parameters: int
    multiply_adds: int
    with_rescaling: int
    plain_multiply_adds: int
    plain_parameters: int
    paper_plain: float | None
    paper: float | None
    paper_plain_top1_error: float | None
    paper_plain_top5_error: float | None
    paper_top1_error: float | None
    paper_top5_error: float | None


@cache
def read_table() -> dict[str, NetworkRow]:
    """The rows by name, in the order of the table."""
    with files(__package__).joinpath("networks.csv").open(newline="") as file:
        return {row["name"]: _read(row) for row in csv.DictReader(file)}


def _read(row: dict[str, str]) -> NetworkRow:
    return NetworkRow(**{field: _read_cell(field, text) for field, text in row.items()})


def _read_cell(field: str, text: str) -> Any:
    if field == "name":
        return text
    if field == "stage_numbers":
        return tuple(map(int, text.split()))
    if field.startswith("paper"):
        return float(text) if text else None
    return int(text)


def find_row(name: str) -> NetworkRow:
    """The row of a network.

    Raises:
        ValueError: for an unknown name; it lists the known ones.
    """
    if name not in read_table():
        raise ValueError(f"There is no model {name!r}. Models: {', '.join(read_table())}")
    return read_table()[name]
