"""Images of a dataset, and what is known of each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Item(NamedTuple):
    """An image of a dataset.

    name   for messages
    split  "" without splits
    label  the name of its class
    read   returns its bytes, or as many as it is given
    path   of its file, "" if it is not one of its own
    """

    name: str
    split: str
    label: str
    read: Callable[[int], bytes]
    path: str = ""


@dataclass(slots=True)
class Facts:
    """What is known of an image file.

    problem      why it cannot be used; "" if it can
    size         in bytes
    format       one of `FORMATS`; "" if unknown
    height, width  of the upright image
    orientation  1..8, as EXIF
    colour       "RGB", "grey", "palette" or "CMYK"; "" if unknown
    extras       of "alpha", "16 bits" and "animated" what is true
    digest       of the content; b"" if unknown
    pixels       a digest of the decoded image; b"" if it was not decoded
    reduced      uint8 (192,): the image of 8 x 8 pixels; None if it was not decoded
    """

    problem: str = ""
    size: int = 0
    format: str = ""
    height: int = 0
    width: int = 0
    orientation: int = 1
    colour: str = ""
    extras: tuple[str, ...] = ()
    digest: bytes = b""
    pixels: bytes = b""
    reduced: np.ndarray | None = None
