"""Training images/s from a folder of JPEGs (random-size crop to 224, flip): torchvision over
keras_senet.

The folder is made of ImageNet's images as tensorflow_datasets has them. Both sides read its files,
each in the way that it recommends: torchvision's ImageFolder, DataLoader and the transforms of its
reference training, up to normalised float32; `keras_senet.data`, whose batches are uint8,
normalised after it as its networks do. `--uint8` stops both at uint8. A round is several passes, so
that what begins with a pass (workers, iterators) counts as little as in ImageNet's long ones.
"""

import argparse
import io
import os
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf
import torch
from ratio import measure

from keras_senet import data
from keras_senet.data import boxes, decoding
from keras_senet.data.operations import resize_square
from keras_senet.preprocessing import IMAGENET

# torchvision's Python part without its binary lacks two operators that nothing here runs.
_OPERATORS = torch.library.Library("torchvision", "DEF")
_OPERATORS.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
_OPERATORS.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from PIL import Image  # noqa: E402
from torchvision import datasets, transforms  # noqa: E402

SIZE = 224


def write_folder(dataset, folder):
    """The encoded images of a dataset as files in folders of their classes, untouched."""
    encoded, labels = dataset.fetch(np.arange(len(dataset)))
    for index, (jpeg, label) in enumerate(zip(encoded, labels, strict=True)):
        path = Path(folder, "train", dataset.class_names[label], f"{index}.JPEG")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg)
    return encoded


def torchvision_round(folder, options):
    """As torchvision's reference training for classification does it."""
    torch.set_num_threads(1)
    steps = [transforms.RandomResizedCrop(SIZE, antialias=True), transforms.RandomHorizontalFlip()]
    steps.append(transforms.PILToTensor())
    if not options.uint8:
        mean, std = (tuple(n / 255 for n in numbers) for numbers in (IMAGENET.mean, IMAGENET.std))
        steps += [transforms.ConvertImageDtype(torch.float), transforms.Normalize(mean, std)]
    images = datasets.ImageFolder(folder / "train", transforms.Compose(steps))
    passes = torch.utils.data.ConcatDataset(options.passes * [images])
    loader = torch.utils.data.DataLoader(
        torch.utils.data.Subset(passes, range(options.steps * options.batch)),
        options.batch,
        shuffle=True,
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
    )
    return lambda: sum(len(targets) for _, targets in loader)


def our_round(folder, options):
    augmentation = data.Augmentation(min_area=0.08, flip=True)
    dataset = data.load(folder, "train")
    made = data.TrainingData(
        dataset, batch_size=options.batch, image_size=SIZE, seed=0, augmentation=augmentation
    )
    elements = made.batches(0, options.steps)
    normalize = (lambda images: images) if options.uint8 else tf.function(IMAGENET.normalize)
    return lambda: sum(len(normalize(images)) for images, _ in elements)


def differences(encoded, count=50):
    """Grey levels between our part of a JPEG and Pillow's of the same box: (mean, largest), over
    `count` images.
    """
    found, sizes = [], decoding.read_headers(encoded[:count])[0]
    drawn = boxes.make_random_boxes(0.08, seed=0)(sizes, np.arange(count))
    for jpeg, (top, left, height, width), part in zip(
        encoded, drawn, decoding.plan_windows(drawn, sizes), strict=False
    ):
        ours = resize_square(decoding.decode_box(tf.constant(jpeg), 3, part, None), SIZE).numpy()
        whole = Image.open(io.BytesIO(jpeg)).convert("RGB")
        box = whole.crop((left, top, left + width, top + height))
        found.append(
            np.abs(
                np.asarray(box.resize((SIZE, SIZE), Image.Resampling.BILINEAR)) - ours.astype(int)
            )
        )
    return np.mean(found), np.max(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_dir", help="where tensorflow_datasets has imagenet2012")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument(
        "--uint8", action="store_true", help="without the normalisation on either side"
    )
    parser.add_argument("--passes", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        encoded = write_folder(data.load("imagenet2012", "train", options.data_dir), folder)
        options.steps = options.passes * len(encoded) // options.batch
        print(
            "difference to Pillow's crop, resized: mean {:.3f}, largest {} of 255".format(
                *differences(encoded)
            )
        )
        rounds = [torchvision_round(Path(folder), options), our_round(Path(folder), options)]
        items = options.steps * options.batch
        measure(("torchvision, DataLoader", "keras_senet.data"), rounds, options.rounds, items)


if __name__ == "__main__":
    main()
