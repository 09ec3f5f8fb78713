"""Views of an image that a network predicts from: at which sizes, and in which crops."""

import math
from dataclasses import dataclass

from keras_senet.fields import check_choice, check_field, is_integer, plain
from keras_senet.preprocessing import (
    MAX_SIZE,
    Preprocessing,
    crop_center,
    locate_center,
    resize,
    sides,
)
from keras_senet.weights.registry import Checkpoint

Size = int | tuple[int, int]
CROPS = {"centre": 1, "mirrored": 2, "ten": 10}


@dataclass(frozen=True)
class Protocol:
    """The views of each image that are evaluated; an empty tuple leaves it to the network's own
    `preprocessing`.

    sizes        height and width of the crops, in pixels; () is the network's own
    short_sides  of the resized image, in pixels, each with each of `sizes`; () keeps the network's
                 crop fraction
    crop         "centre"; "mirrored", the centre and its mirror image; or "ten": the centre and the
                 corners of the resized image's central square, and their mirror images (Krizhevsky
                 et al. 2012, Section 4.1)

    The probabilities of all crops and scales are averaged. The interpolation is always the
    network's own.

    Raises:
        ValueError: for any other value, naming it.
    """

    sizes: tuple[int, ...] = ()
    short_sides: tuple[int, ...] = ()
    crop: str = "centre"

    def __post_init__(self):
        for field in ("sizes", "short_sides"):
            values = getattr(self, field)
            valid = (
                isinstance(values, (tuple, list))
                and all(is_integer(n) and 1 <= n <= MAX_SIZE for n in values)
                and len(set(values)) == len(values)
            )
            check_field(self, field, valid, f"different integers of 1..{MAX_SIZE}")
            # As a tuple, so that equal protocols compare equal
            object.__setattr__(self, field, plain(tuple(values)))
        check_choice("crop", self.crop, CROPS)

    def views(self, preprocessing: Preprocessing, size: Size) -> "tuple[Crops, ...]":
        """The `Crops` of a network with this preprocessing, whose own input has `size` pixels
        per side, or a pair.

        Raises:
            ValueError: if a crop is larger than the resized image, or ten crops are all
                the same one.
        """
        sizes = self.sizes or (size,)
        own = preprocessing.short_side_for
        pairs = [(size, short) for size in sizes for short in self.short_sides or (own(size),)]
        return tuple(
            Crops(size, short, preprocessing.interpolation, self.crop) for size, short in pairs
        )


@dataclass(frozen=True)
class Crops:
    """One image uint8 (H, W, C) -> its crops uint8 (crops, height, width, C), resized to
    `short_side`, antialiased.

    `size` is the side of a square, or (height, width); `short_side` with it may be what the resized
    image covers, a pair. Two networks with equal crops share them.
    """

    size: Size
    short_side: Size
    interpolation: str
    crop: str

    def __post_init__(self):
        pairs = list(zip(sides(self.size), sides(self.short_side), strict=True))
        if any(size > short for size, short in pairs):
            raise ValueError(
                f"`short_sides` must be at least the size of the crops, {self.size}. "
                f"Received: {self.short_side}"
            )
        if self.crop == "ten" and all(size == short for size, short in pairs):
            raise ValueError(
                f"With crop='ten', `short_sides` must be above the size of the crops, {self.size}, "
                f"as all are the same one otherwise. Received: {self.short_side}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the crops."""
        return sides(self.size)

    @property
    def count(self) -> int:
        """How many crops there are."""
        return CROPS[self.crop]

    def __str__(self):
        size, short = (
            " x ".join(map(str, n)) if isinstance(n, tuple) else n
            for n in (self.size, self.short_side)
        )
        return f"{self.crop} {size} from {short} {self.interpolation}"

    def __call__(self, image):
        import tensorflow as tf

        image = resize(image, self.short_side, self.interpolation)
        crops = [crop_center(image, self.size)]
        if self.crop == "ten":
            crops += self._corners(image)
        if self.crop != "centre":
            crops += [tf.reverse(crop, [1]) for crop in crops]
        return tf.cast(tf.stack(crops), tf.uint8)  # exact: `resize` rounds

    def _corners(self, image):
        """The four corners of the central square of the resized image."""
        import tensorflow as tf

        (height, width), covered = sides(self.size), sides(self.short_side)
        top, left = locate_center(image, self.short_side)
        corners = [
            (top + y, left + x) for y in (0, covered[0] - height) for x in (0, covered[1] - width)
        ]
        return [
            tf.ensure_shape(image[y : y + height, x : x + width], (height, width, None))
            for y, x in corners
        ]


@dataclass(frozen=True)
class Whole:
    """uint8 (H, W, C) -> the same (1, H, W, C): an image of the network's size already."""

    height: int
    width: int
    count = 1

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.height, self.width

    def __str__(self):
        return f"whole {self.height} x {self.width}"

    def __call__(self, image):
        return image[None]


def larger(checkpoint: Checkpoint) -> Protocol:
    """The protocol by which the publishers of a `Checkpoint` measured `test_top1` and `test_top5`.

    Raises:
        ValueError: if they have not measured it at a larger size.
    """
    if checkpoint.test_size is None or checkpoint.test_crop_fraction is None:
        raise ValueError(
            f"{checkpoint.model} {checkpoint.tag!r} was not measured by its publishers at a larger "
            "size"
        )
    short_side = math.floor(checkpoint.test_size / checkpoint.test_crop_fraction)
    return Protocol((checkpoint.test_size,), (short_side,))


PROTOCOLS = {
    # Each network as its publishers evaluated it: 224 from 256 for the authors' weights.
    "own": Protocol(),
    # Paper, Section 4.1: short side 256, centre 224; short side 352, centre 299 for
    # Inception-ResNet-v2.
    "paper-224": Protocol((224,), (256,)),
    "paper-299": Protocol((299,), (352,)),
    # Paper, Table 8: SENet-154 at 320. No version states the resizing; short side 320 as He et al.
    # (1603.05027), whose figures stand in the same column.
    "paper-320": Protocol((320,), (320,)),
    # Krizhevsky et al. 2012, which the paper's "multi-crop" goes back to.
    "ten-crop": Protocol((), (), "ten"),
    # "Standard multi-scale and multi-crop fusion" of the 2017 challenge (paper, Section 4.1): no
    # version states scales and crops. The scales are GoogLeNet's (1409.4842, Section 7), with
    # Krizhevsky's ten crops.
    "fusion": Protocol((), (256, 288, 320, 352), "ten"),
}
