"""Which part of an image is trained on, for many images at once, in NumPy: a graph would take them
one by one.

A function of (sizes (n, 2), places (n,)) gives boxes (top, left, height, width), int32 (n, 4).
Sizes are (height, width); an image of size 0, 0 has the box 0, 0, 0, 0.
"""

import numpy as np

from keras_senet.data.order import SEED, STEP, mixed

PLACE = 0x8CB92BA72F3D8DD7  # odd, so that places have different states


def middle_squares(sizes, places):
    """The largest square in the middle of each image."""
    side = np.min(sizes, axis=1, keepdims=True)
    return np.concatenate([(sizes - side) // 2, side, side], axis=1).astype("int32")


def random_boxes(min_area, seed, attempts=10):
    """Boxes of min_area..1 of the area, aspect 3/4..4/3, which follow from (seed, place).

    Where none of the attempts fits, the largest square in the middle.
    Source: RandomSizedCrop of fb.resnet.torch, which the authors name as theirs.
    """

    def choose(sizes, places):
        draws = uniform(seed, places, (attempts, 5))
        area = (min_area + (1 - min_area) * draws[..., 0]) * sizes.prod(axis=1, keepdims=True)
        aspect = 3 / 4 + (4 / 3 - 3 / 4) * draws[..., 1]
        sides = (
            np.stack([np.sqrt(area / aspect), np.sqrt(area * aspect)], axis=2)
            .round()
            .astype("int32")
        )
        sides = np.maximum(sides, 1)  # of a one-pixel image
        sides = np.where(draws[..., 2:3] < 0.5, sides[..., ::-1], sides)
        fits = (sides <= sizes[:, None]).all(axis=2)
        rows, chosen = np.arange(len(sizes)), fits.argmax(axis=1)
        sides, draws = sides[rows, chosen], draws[rows, chosen]
        corners = np.floor(draws[:, 3:] * (sizes - sides + 1)).astype("int32")
        boxes = np.concatenate([corners, sides], axis=1)
        return np.where(fits[rows, chosen, None], boxes, middle_squares(sizes, places))

    return choose


def uniform(seed, places, shape):
    """Independent draws from [0, 1) for each place (n,), which follow from (seed, place): float64
    (n, *shape).
    """
    places = np.asarray(places).astype("uint64") * np.uint64(PLACE)
    states = mixed(places + np.uint64(seed * SEED % 2**64))[:, None]
    numbers = mixed(states + np.arange(np.prod(shape), dtype="uint64") * np.uint64(STEP))
    return ((numbers >> np.uint64(11)) * 2.0**-53).reshape(len(places), *shape)
