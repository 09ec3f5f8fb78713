"""Augmentation of a batch of images as a pure function of `keras.ops`: the same images on every
backend, inside of a compiled function too.

What each operation means is said in `operations` and `mixing`. All numbers are integers below
2**24, also where they are float32, which is then exact however a backend orders or fuses its
operations.
"""

import itertools

import numpy as np
from keras import ops

from keras_senet.data.draws import INDEX, as_words, below, draw, make_keys
from keras_senet.recipes.augmentation import Augmentation

SERVED = frozenset(
    "pad_and_crop reflect flip color_jitter cutout mixup cutmix randaugment_magnitude".split()
)
# The draws of an image, and those of a pair.
ROW, COLUMN, MIRROR, CUT_ROW, CUT_COLUMN, ORDER, *FACTORS = range(9)
KIND, SHARE, BOX_ROW, BOX_COLUMN = range(4)
PER_IMAGE, PER_PAIR = 9, 4
LARGEST_SIDE = 1024  # pixels: sums along a row are below 2**24
UNIT = 64  # a grey level while colours change, in fractions
FACTOR = 256  # 1, as the factor of a colour
LUMINANCE = (306, 601, 117)  # of 1024: ITU-R BT.601
WHOLE = 2**15  # 1, as a share of an image
SHARES = 2**12  # that are drawn, equally probable


class BatchAugmentation:
    """`augment(images, targets, places)` -> the same augmented: images uint8 (b, size, size, C),
    targets float32 (b, classes), and for each image its place in the training, of `WORD` (b,).

    With pairs that are mixed, `b` and the first place are even.
    """

    def __init__(self, augmentation: Augmentation, size: int, seed: int):
        self.augmentation, self.size = augmentation, size
        keys = make_keys(seed, PER_IMAGE + PER_PAIR)
        self.image_keys, self.pair_keys = keys[:, :PER_IMAGE], keys[:, PER_IMAGE:]
        if augmentation.mixup:
            self.shares = np.round(WHOLE * beta_quantiles(augmentation.mixup, SHARES))
        if augmentation.cutmix:
            areas = 1 - beta_quantiles(augmentation.cutmix, SHARES)
            self.sides = (size * np.sqrt(areas)).astype("int64")

    def __call__(self, images, targets, places):
        augmentation = self.augmentation
        draws = draw(places, self.image_keys)
        if augmentation.pad_and_crop or augmentation.flip:
            images = self._crop_and_flip(images, draws)
        if augmentation.color_jitter:
            images = self._jitter_colors(images, draws)
        if augmentation.cutout:
            images = self._cut_out(images, draws)
        if augmentation.mixes:
            images, targets = self._mix(images, targets, places)
        return images, targets

    def _crop_and_flip(self, images, draws):
        """One gather of pixels: black ones, outside of the image, are those of any other."""
        pixels, size = self.augmentation.pad_and_crop, self.size
        count, channels = ops.shape(images)[0], images.shape[-1]
        steps = _indices(size)[None]
        rows = columns = steps
        if pixels:
            rows, columns = (
                steps + below(draws[each], 2 * pixels + 1)[:, None] - pixels
                for each in (ROW, COLUMN)
            )
        if self.augmentation.flip:
            first = columns[:, :1]
            mirrored = first + (size - 1 - steps)
            columns = ops.where(below(draws[MIRROR], 2)[:, None] == 1, mirrored, columns)
        if self.augmentation.reflect:
            rows, columns = (_reflect(each, size - 1) for each in (rows, columns))
        inside = _within(rows, 0, size)[:, :, None] & _within(columns, 0, size)[:, None]
        rows, columns = (ops.clip(each, 0, size - 1) for each in (rows, columns))
        at = (ops.arange(count, dtype=INDEX)[:, None] * size + rows)[:, :, None] * size
        flat = ops.reshape(images, (-1, channels))
        moved = ops.take(flat, at + columns[:, None], axis=0)
        if not pixels or self.augmentation.reflect:
            return moved
        return ops.where(inside[..., None], moved, ops.zeros_like(moved))

    def _cut_out(self, images, draws):
        side, size = self.augmentation.cutout, self.size
        first_rows, first_columns = (
            below(draws[each], size) - side // 2 for each in (CUT_ROW, CUT_COLUMN)
        )
        cut = _box(size, first_rows, first_columns, first_rows + side, first_columns + side)
        return ops.where(cut, ops.zeros_like(images), images)

    def _jitter_colors(self, images, draws):
        strength = round(self.augmentation.color_jitter * FACTOR)
        factors = [
            ops.cast(below(draws[each], 2 * strength + 1) + (FACTOR - strength), "float32")
            for each in FACTORS
        ]
        orders = np.array(list(itertools.permutations(range(len(FACTORS)))), INDEX)
        kinds = ops.take(orders, below(draws[ORDER], len(orders)), axis=0)
        images = ops.cast(images, "float32") * UNIT
        for place in range(len(FACTORS)):
            kind = kinds[:, place, None, None, None]
            luminance = _luminance(images)
            mean = _mean(_mean(_mean(luminance, 2), 1), 3)
            target = ops.where(kind == 2, luminance, ops.where(kind == 1, mean, 0.0))
            factor = ops.take_along_axis(ops.stack(factors, 1), kinds[:, place, None], axis=1)
            factor = factor[:, :, None, None]
            mixed = _divide(factor * images + (FACTOR - factor) * target, FACTOR)
            images = ops.clip(mixed, 0, 255 * UNIT)
        return ops.cast(_divide(images, UNIT), "uint8")

    def _mix(self, images, targets, places):
        """Each image mixed with its neighbour, 2k with 2k + 1, and their targets."""
        draws = draw(ops.right_shift(places, as_words(1)), self.pair_keys)
        images = ops.cast(images, "float32")
        others, number = _swap_pairs(images), below(draws[SHARE], SHARES)
        augmentation = self.augmentation
        if not augmentation.cutmix:
            mixed, shares = self._blend(images, others, number)
        else:
            mixed, shares = self._paste(images, others, number, draws)
        if augmentation.mixup and augmentation.cutmix:
            is_mixup = below(draws[KIND], 2) == 0
            blended, own = self._blend(images, others, number)
            mixed = ops.where(is_mixup[:, None, None, None], blended, mixed)
            shares = ops.where(is_mixup, own, shares)
        shares = shares[:, None]
        targets = shares * targets + (1 - shares) * _swap_pairs(targets)
        return ops.cast(mixed, "uint8"), targets

    def _blend(self, images, others, number):
        """Mixup, and the images' own shares (b,)."""
        share = ops.take(_floats(self.shares), number)
        kept = share[:, None, None, None]
        return _divide(kept * images + (WHOLE - kept) * others, WHOLE), share / WHOLE

    def _paste(self, images, others, number, draws):
        """CutMix, and the images' own shares (b,)."""
        size = self.size
        side = ops.take(ops.convert_to_tensor(self.sides.astype(INDEX)), number)
        first = [below(draws[each], size) - side // 2 for each in (BOX_ROW, BOX_COLUMN)]
        edges = [ops.clip(edge, 0, size) for edge in (*first, *(each + side for each in first))]
        top, left, bottom, right = edges
        area = ops.cast((bottom - top) * (right - left), "float32")
        return ops.where(_box(size, *edges), others, images), 1 - area / size**2


def beta_quantiles(alpha: float, count: int) -> np.ndarray:
    """The quantiles (k + 1/2) / count of Beta(alpha, alpha), float64 (count,), rising."""
    # Half of the distribution, by x = s**power / 2, which takes the pole at 0 away.
    power, steps = max(1 / alpha, 1.0), np.linspace(0, 1, 2**16 + 1)
    x = steps**power / 2
    density = (1 - x) ** (alpha - 1) if alpha < 1 else (4 * x * (1 - x)) ** (alpha - 1)
    areas = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    wanted = (np.arange(count // 2) + 0.5) / count
    lower = np.interp(wanted, areas / (2 * areas[-1]), steps) ** power / 2
    return np.concatenate([lower, 1 - lower[::-1]])


def _indices(count):
    return ops.arange(count, dtype=INDEX)


def _floats(numbers):
    return ops.convert_to_tensor(np.asarray(numbers, "float32"))


def _within(numbers, first, last):
    """Whether numbers are from `first` to below `last`."""
    return (numbers >= first) & (numbers < last)


def _box(size, top, left, bottom, right):
    """Which pixels of images are inside of their boxes, edges (b,) each: bool (b, H, W, 1)."""
    steps = _indices(size)[None]
    rows = _within(steps, top[:, None], bottom[:, None])
    columns = _within(steps, left[:, None], right[:, None])
    return (rows[:, :, None] & columns[:, None])[..., None]


def _reflect(numbers, last):
    """Numbers beyond 0..last mirrored at these, once."""
    return last - ops.absolute(last - ops.absolute(numbers))


def _divide(numbers, divisor):
    """Integers over a divisor, rounded."""
    return ops.floor(numbers / divisor + 0.5)


def _mean(numbers, axis):
    return _divide(ops.sum(numbers, axis, keepdims=True), numbers.shape[axis])


def _luminance(images):
    """Of RGB, (b, H, W, 1); other images are their own."""
    if images.shape[-1] != len(LUMINANCE):
        return images
    weighted = ops.sum(images * _floats(LUMINANCE), axis=-1, keepdims=True)
    return _divide(weighted, sum(LUMINANCE))


def _swap_pairs(values):
    """Elements 2k and 2k + 1 exchanged."""
    pairs = ops.reshape(values, (-1, 2, *values.shape[1:]))
    return ops.reshape(ops.flip(pairs, axis=1), (-1, *values.shape[1:]))
