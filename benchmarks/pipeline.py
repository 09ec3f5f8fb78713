"""Training batches from a folder of JPEGs (random-size crop to 224, flip).

The folder is made of ImageNet's images as tensorflow_datasets has them, in its usual folder or in
TFDS_DATA_DIR. Both sides read its files, each in the way that it recommends: torchvision's
ImageFolder, DataLoader and the transforms of its reference training, up to normalised float32;
`keras_senet.data`, whose batches are uint8, normalised after it as its networks do. "uint8" stops
both before the normalisation. A call is several passes, so that what begins with a pass (workers,
iterators) counts as little as in ImageNet's long ones.
"""

import os
from pathlib import Path

from benchmarks.side import make_once

PASSES = 12


def write_folder(folder):
    """The encoded images of ImageNet as files in folders of their classes, untouched."""
    import numpy as np

    from keras_senet import data

    dataset = data.load("imagenet2012", "train", os.environ.get("TFDS_DATA_DIR"))
    encoded, labels = dataset.fetch(np.arange(len(dataset)))
    for index, (jpeg, label) in enumerate(zip(encoded, labels, strict=True)):
        path = Path(folder, "train", dataset.class_names[label], f"{index}.JPEG")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg)


def prepare(folder, threads, side, batch, size, dtype, passes=PASSES):
    """A function that reads the batches of some passes."""
    make_once(Path(folder, "train"), ".pipeline:write_folder", folder)
    steps = passes * len(list(Path(folder, "train").rglob("*.JPEG"))) // batch
    read = {"torchvision": by_torchvision, "keras_senet": by_keras_senet}[side]
    run = read(Path(folder), threads, batch, size, steps, dtype == "uint8")
    run.steps = steps
    return run


def by_torchvision(folder, workers, batch, size, steps, uint8):
    """As torchvision's reference training for classification does it."""
    from torchvision import datasets, transforms

    from benchmarks.torch_networks import torch
    from keras_senet.preprocessing import IMAGENET

    torch.set_num_threads(1)
    crop = transforms.RandomResizedCrop(size, antialias=True)
    made = [crop, transforms.RandomHorizontalFlip(), transforms.PILToTensor()]
    if not uint8:
        mean, std = (tuple(n / 255 for n in numbers) for numbers in (IMAGENET.mean, IMAGENET.std))
        made += [transforms.ConvertImageDtype(torch.float), transforms.Normalize(mean, std)]
    images = datasets.ImageFolder(folder / "train", transforms.Compose(made))
    passes = torch.utils.data.ConcatDataset((1 + steps * batch // len(images)) * [images])
    loader = torch.utils.data.DataLoader(
        torch.utils.data.Subset(passes, range(steps * batch)),
        batch,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    return lambda: sum(len(targets) for _, targets in loader)


def by_keras_senet(folder, threads, batch, size, steps, uint8):
    import tensorflow as tf

    from keras_senet import data
    from keras_senet.preprocessing import IMAGENET

    augmentation = data.Augmentation(min_area=0.08, flip=True)
    dataset = data.load(folder, "train")
    made = data.TrainingData(
        dataset, batch_size=batch, image_size=size, seed=0, augmentation=augmentation
    )
    elements = made.batches(0, steps)
    normalize = (lambda images: images) if uint8 else tf.function(IMAGENET.normalize)
    return lambda: sum(len(normalize(images)) for images, _ in elements)
