"""Embedded images with boxes: handwritten digits on photographs, both of which scikit-learn ships.

They show that a detector learns and exports; they are no benchmark.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from keras_senet.data.datasets import read_digits
from keras_senet.detection.data.truths import BoxedImages, make_truth
from keras_senet.extras import require
from keras_senet.fields import check_argument
from keras_senet.files import write_atomically

COUNTS = {"train": 600, "test": 100}
SIDES = (96, 160)  # pixels of a scene
DIGITS = (2, 6)  # in a scene
DIGIT_SIDES = (16, 56)  # pixels
EMPTY = 20  # one in so many scenes has no digit
OPAQUE = 0.25  # of a digit's ink, from which it counts for the box
NOISE = 4.0  # grey levels
ATTEMPTS = 20  # to find a free place


def load_scenes(split: str, count: int | None = None, seed: int = 0) -> BoxedImages:
    """Scenes of 96 to 160 pixels a side with 2 to 6 digits of 16 to 56 pixels each.

    Digits and photographs are divided first: training scenes have 1,437 digits and the left three
    quarters of two photographs, test scenes 360 other digits and the right quarter.

    Args:
        split: "train" or "test".
        count: how many scenes; None is 600 for training and 100 for tests.
        seed: which scenes.

    Raises:
        ValueError: for another split.
        MissingExtraError: without scikit-learn.
    """
    check_argument("split", split, split in COUNTS, "'train' or 'test'")
    ink, labels = read_digits(split)
    digits = ink / 16
    photographs = _load_photographs(split)
    images, truths = [], []
    for index in range(COUNTS[split] if count is None else count):
        random = np.random.default_rng([seed, list(COUNTS).index(split), index])
        image, truth = _draw(random, digits, labels, photographs)
        images.append(image)
        truths.append(truth)
    return BoxedImages(
        images,
        [image.shape[:2] for image in images],
        truths,
        tuple("0123456789"),
        list(range(1, len(images) + 1)),
        tuple(range(1, 11)),
    )


def write_scenes(folder: str | Path, counts: Mapping[str, int] | None = None) -> None:
    """Writes the scenes as PNG files, with a JSON file of COCO for each split: `train.json`,
    `test.json` and `images/`. `counts` says how many each has; None is as in `load_scenes`.
    """
    import tensorflow as tf

    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for split, count in (COUNTS if counts is None else counts).items():
        scenes = load_scenes(split, count)
        content = scenes.to_coco()
        for entry, image in zip(content["images"], scenes.images, strict=True):
            entry["file_name"] = f"{split}{entry['id']:04d}.png"
            path = folder / "images" / entry["file_name"]
            write_atomically(path, tf.io.encode_png(image).numpy())
        write_atomically(folder / f"{split}.json", json.dumps(content))


def _load_photographs(split):
    """The parts of the two photographs that are for a split, uint8 (H, W, 3)."""
    images = require("sklearn.datasets", "detection").load_sample_images().images
    parts = []
    for image in images:
        border = 3 * image.shape[1] // 4
        parts.append(image[:, :border] if split == "train" else image[:, border:])
    return parts


def _draw(random, digits, labels, photographs):
    """A scene uint8 (H, W, 3) and its `Truth`."""
    height, width = random.integers(*SIDES, 2, endpoint=True)
    image = _crop(random, photographs[random.integers(len(photographs))], height, width)
    taken = np.zeros((height, width), bool)
    rows = []
    count = 0 if random.integers(EMPTY) == 0 else random.integers(*DIGITS, endpoint=True)
    for _ in range(count):
        index = random.integers(len(digits))
        side = round(float(np.exp(random.uniform(*np.log(DIGIT_SIDES)))))
        place = _find_place(random, taken, side)
        if place is None:
            continue
        box = _paint(random, image, _enlarge(digits[index], side), *place)
        x1, y1, x2, y2 = box
        taken[y1:y2, x1:x2] = True
        rows.append((box, labels[index], float((x2 - x1) * (y2 - y1)), False))
    image += random.normal(0, NOISE, image.shape)
    return np.clip(np.round(image), 0, 255).astype("uint8"), make_truth(rows)


def _crop(random, photograph, height, width):
    top = random.integers(photograph.shape[0] - height + 1)
    left = random.integers(photograph.shape[1] - width + 1)
    return photograph[top : top + height, left : left + width].astype("float32")


def _find_place(random, taken, side):
    """The top and left of a free square, or None."""
    height, width = taken.shape
    for _ in range(ATTEMPTS):
        top, left = random.integers(height - side + 1), random.integers(width - side + 1)
        if not taken[top : top + side, left : left + side].any():
            return top, left
    return None


def _enlarge(digit, side):
    """Ink of 0..1 (side, side), bicubic."""
    image = require("PIL.Image", "detection")
    picture = image.fromarray(digit.astype("float32"))
    return np.clip(np.array(picture.resize((side, side), image.Resampling.BICUBIC)), 0, 1)


def _paint(random, image, ink, top, left):
    """Paints a digit in a colour that contrasts with what is below it; returns its box."""
    side = len(ink)
    patch = image[top : top + side, left : left + side]
    dark = patch.mean() > 127
    colour = random.uniform(0, 80, 3) if dark else random.uniform(175, 255, 3)
    patch += ink[..., None] * (colour.astype("float32") - patch)
    rows, columns = np.nonzero(ink > OPAQUE)
    return (
        int(left + columns.min()),
        int(top + rows.min()),
        int(left + columns.max() + 1),
        int(top + rows.max() + 1),
    )
