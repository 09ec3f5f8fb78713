"""A few images of a dataset for pictures: by class, and as a recipe would train on them."""

import numpy as np
import tensorflow as tf

from keras_senet.images.decoding import decode
from keras_senet.images.inspection import Inspection
from keras_senet.recipes import RECIPES
from keras_senet.training.inputs import load_images, lower_batch_size, make_batches

CLASSES, EACH, SIDE = 12, 8, 128  # rows, images of each, pixels per side
BATCH = 32

Rows = list[tuple[str, list[tuple[np.ndarray, str]]]]


def class_samples(found: Inspection) -> Rows:
    """(class, its images with their captions) of up to 12 classes, evenly chosen; an image is uint8
    (H, W, 3) of at most 128 pixels per side.
    """
    by_class: dict[str, list[int]] = {}
    for number, (item, facts) in enumerate(zip(found.items, found.facts, strict=True)):
        if not facts.problem:
            by_class.setdefault(item.label, []).append(number)
    names = sorted(by_class)
    return [
        (name, [(_small(found.items[i].read(-1)), "") for i in _choose(by_class[name], EACH)])
        for name in _choose(names, CLASSES)
    ]


def _choose(values, most):
    """At most so many of the values, evenly spread."""
    places = np.unique(np.linspace(0, len(values) - 1, min(len(values), most)).astype(int))
    return [values[place] for place in places]


def _small(content):
    image = decode(tf.constant(content), 3)
    height, width = image.shape[:2]
    shrink = SIDE / max(height, width)
    if shrink < 1:
        size = [max(1, round(n * shrink)) for n in (height, width)]
        image = tf.cast(tf.round(tf.image.resize(image, size, "area")), tf.uint8)
    return image.numpy()


def augmented_samples(recipe: str, dataset: str, data_dir: str | None = None) -> Rows:
    """Rows of the first images of a training run by a named recipe, augmented and perhaps mixed,
    each with its classes. Corrupt ones are replaced by others.
    """
    chosen = RECIPES[recipe].override(dataset=dataset, batch_size=BATCH, accumulation=1)
    images = load_images(chosen, data_dir).train
    training = make_batches(lower_batch_size(chosen, len(images)), images)
    pixels, targets = _first_batch(training)
    captions = [_describe(target, images.class_names) for target in targets]
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
    """The classes of a target (classes,), the largest fraction first."""
    order = [i for i in np.argsort(-target, kind="stable") if target[i] > 0.005]
    if len(order) == 1:
        return names[order[0]]
    return " + ".join(f"{names[i]} {target[i]:.2f}" for i in order)
