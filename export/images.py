"""Images to calibrate on and to compare with."""

import logging
import os
import warnings

import keras
import numpy as np

from keras_senet import data
from keras_senet.data.sources import select_evenly
from keras_senet.evaluation.batches import batches_of
from keras_senet.images.walk import describe_left_out, find_images

MOST_IMAGES = 200
BATCH = 32  # images that are decoded at once

log = logging.getLogger(__name__)


def images_for(model: keras.Model, source: str, data_dir=None) -> np.ndarray:
    """Images float32 (N, size, size, C) of 0..255 of a folder, or of a dataset's training images.

    They are `MOST_IMAGES` at most, evenly spread, and as evaluation shows them to the network.

    Warns of files that are no images and are left out.

    Raises:
        ValueError: for a source that is neither, or an image that cannot be decoded.
    """
    is_named = source in data.DATASETS  # also beside a folder of this name, such as a run's
    if not is_named and os.path.isdir(source) and (files := _image_files(source)):
        return np.stack(
            [model.preprocessing.read(files[i]) for i in select_evenly(len(files), MOST_IMAGES)]
        )
    images, _ = images_of(
        model, data.load(source, "train", data_dir, upright=model.preprocessing.upright)
    )
    return images.astype("float32")


def images_of(
    model: keras.Model, dataset, most: int | None = MOST_IMAGES
) -> tuple[np.ndarray, np.ndarray]:
    """(images uint8 (N, size, size, C) as evaluation shows them to the network, their classes) of a
    dataset; `most` None takes all. Images that cannot be decoded are left out, and named in the
    log.
    """
    chosen = dataset.select(select_evenly(len(dataset), most or len(dataset)))
    batches = batches_of(model, chosen, BATCH, skip_corrupt=True)
    images, labels = zip(*((shown[:, 0], labels) for (shown,), labels in batches), strict=True)
    for corrupt in batches.skipped:
        log.warning("left out: %s", corrupt)
    return np.concatenate(images), np.concatenate(labels)


def _image_files(folder):
    found = find_images(folder)
    if found.left_out:
        warnings.warn(describe_left_out(found.left_out), stacklevel=3)
    return found.images
