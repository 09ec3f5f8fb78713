"""A few images of a dataset for pictures: by class, and as a recipe would train on them."""

import numpy as np
import tensorflow as tf

from keras_senet.data.sources import select_evenly
from keras_senet.imagenet import readable
from keras_senet.images.decoding import decode, shrink
from keras_senet.images.inspection import Inspection
from keras_senet.recipes import RECIPES
from keras_senet.training.inputs import load_images, lower_batch_size, make_batches

CLASSES, EACH, SIDE = 12, 8, 128  # rows, images of each, pixels per side
BATCH = 32

Rows = list[tuple[str, list[tuple[np.ndarray, str]]]]


def class_samples(found: Inspection) -> Rows:
    """(class, its images with captions) of up to 12 classes; an image is uint8 (H, W, 3), small."""
    by_class: dict[str, list[int]] = {}
    for number, (item, facts) in enumerate(zip(found.items, found.facts, strict=True)):
        if not facts.problem:
            by_class.setdefault(item.label, []).append(number)
    names = _choose(sorted(by_class), CLASSES)
    return [
        (shown, [(_small(found.items[i].read(-1)), "") for i in _choose(by_class[name], EACH)])
        for name, shown in zip(names, _words(names), strict=True)
    ]


def _words(names):
    pairs = zip(names, readable(names), strict=True)
    return [_shorten(shown.removeprefix(f"{name} "), 22) for name, shown in pairs]


def _choose(values, most):
    return [values[place] for place in select_evenly(len(values), most)]


def _small(content):
    return shrink(decode(tf.constant(content), 3).numpy(), SIDE)


def augmented_samples(recipe: str, dataset: str, data_dir: str | None = None) -> Rows:
    """Rows of the first images of a training run by a named recipe, augmented and perhaps mixed,
    each with its classes. Corrupt ones are replaced by others.
    """
    chosen = RECIPES[recipe].override(dataset=dataset, batch_size=BATCH, accumulation=1)
    images = load_images(chosen, data_dir).train
    training = make_batches(lower_batch_size(chosen, len(images)), images)
    pixels, targets = _first_batch(training)
    names = _words(images.class_names)
    captions = [_describe(target, names) for target in targets]
    pairs = list(zip(pixels, captions, strict=True))
    return [("", pairs[i : i + EACH]) for i in range(0, len(pairs), EACH)]


def _first_batch(training):
    skip: set[int] = set()
    while True:
        try:
            ((pixels, targets),) = training.batches(0, 1, skip=skip)
            return pixels.numpy(), targets.numpy()
        except tf.errors.OpError:
            corrupt = {each.index for each in training.corrupt_at(0, skip)}
            if not corrupt:
                raise
            skip |= corrupt


def _describe(target, names):
    """The classes of a target (classes,), one per line, the largest fraction first."""
    order = [i for i in np.argsort(-target, kind="stable") if target[i] > 0.005]
    if len(order) == 1:
        return names[order[0]]
    return "\n".join(f"{_shorten(names[i], 17)} {100 * target[i]:.0f}%" for i in order)


def _shorten(text, most):
    return text if len(text) <= most else f"{text[: most - 3].rstrip()}..."
