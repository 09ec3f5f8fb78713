"""The box of each image that is trained on, for many images at once, in NumPy: a graph would
process them one by one.

A function of (sizes (n, 2), positions (n,)) returns boxes (top, left, height, width), int32 (n, 4).
Sizes are (height, width); an image of size 0, 0 has the box 0, 0, 0, 0.
"""

from collections.abc import Callable

import numpy as np

from keras_senet.data.order import SEED, STEP, mix_bits

POSITION = 0x8CB92BA72F3D8DD7  # odd, so that different positions have different states


def choose_center_boxes(sizes: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The largest square in the centre of each image."""
    side = np.min(sizes, axis=1, keepdims=True)
    return np.concatenate([(sizes - side) // 2, side, side], axis=1).astype("int32")


def make_random_boxes(
    min_area: float, seed: int, attempts: int = 10
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A function that chooses boxes of min_area..1 of the area, aspect 3/4..4/3, by position.

    Where none of the attempts fits, it takes the largest square in the centre.
    Source: RandomSizedCrop of fb.resnet.torch, which the authors name as theirs.
    """

    def choose(sizes, positions):
        draws = draw_uniform(seed, positions, (attempts, 5))
        area = (min_area + (1 - min_area) * draws[..., 0]) * sizes.prod(axis=1, keepdims=True)
        aspect = 3 / 4 + (4 / 3 - 3 / 4) * draws[..., 1]
        sides = np.stack([np.sqrt(area / aspect), np.sqrt(area * aspect)], axis=2)
        sides = np.maximum(sides.round().astype("int32"), 1)  # 1 for an image of one pixel
        sides = np.where(draws[..., 2:3] < 0.5, sides[..., ::-1], sides)
        fits = (sides <= sizes[:, None]).all(axis=2)
        rows, chosen = np.arange(len(sizes)), fits.argmax(axis=1)
        sides, draws = sides[rows, chosen], draws[rows, chosen]
        corners = np.floor(draws[:, 3:] * (sizes - sides + 1)).astype("int32")
        boxes = np.concatenate([corners, sides], axis=1)
        return np.where(fits[rows, chosen, None], boxes, choose_center_boxes(sizes, positions))

    return choose


def draw_uniform(seed: int, positions: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Draws from [0, 1) for each position (n,), by (seed, position): float64 (n, *shape)."""
    offsets = np.asarray(positions).astype("uint64") * np.uint64(POSITION)
    states = mix_bits(offsets + np.uint64(seed * SEED % 2**64))[:, None]
    numbers = mix_bits(states + np.arange(np.prod(shape), dtype="uint64") * np.uint64(STEP))
    return ((numbers >> np.uint64(11)) * 2.0**-53).reshape(len(offsets), *shape)
