"""Training images a second from ImageNet's JPEGs (random-size crop to 224, flip): torchvision over keras_senet."""

import argparse
import io
import os

import numpy as np
import tensorflow as tf
import torch
from ratio import measure

from keras_senet import data
from keras_senet.data import decoding, images

# torchvision's Python part without its binary lacks two operators that nothing here runs.
_OPERATORS = torch.library.Library("torchvision", "DEF")
_OPERATORS.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
_OPERATORS.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from PIL import Image  # noqa: E402
from torchvision import transforms  # noqa: E402

SIZE = 224


class Jpegs(torch.utils.data.Dataset):
    """The encoded images in memory, decoded and augmented as torchvision's reference training does."""

    def __init__(self, encoded, labels):
        self.encoded, self.labels = encoded, labels
        crop = transforms.RandomResizedCrop(SIZE, antialias=True)
        self.transform = transforms.Compose([crop, transforms.RandomHorizontalFlip(), transforms.PILToTensor()])

    def __len__(self):
        return len(self.encoded)

    def __getitem__(self, index):
        image = Image.open(io.BytesIO(self.encoded[index])).convert("RGB")
        return self.transform(image), int(self.labels[index])


def torchvision_epoch(encoded, labels, batch, workers):
    torch.set_num_threads(1)
    loader = torch.utils.data.DataLoader(
        Jpegs(encoded, labels), batch, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=workers > 0
    )
    return lambda: sum(len(targets) for _, targets in loader)


def our_epoch(dataset, batch):
    augmentation = data.Augmentation(min_area=0.08, flip=True)
    made = data.TrainingData(dataset, batch_size=batch, image_size=SIZE, seed=0, augmentation=augmentation)
    elements = made.batches(0, made.steps_per_epoch)
    return lambda: sum(len(targets) for _, targets in elements)


def differences(encoded, count=50):
    """Grey levels between our crop of a JPEG and Pillow's of the same box: (mean, largest), over `count` images."""
    found = []
    for index, jpeg in enumerate(encoded[:count]):
        whole = Image.open(io.BytesIO(jpeg)).convert("RGB")
        box = images.random_box(0.08, (0, index))
        ours = images.resize(decoding.decode_crop(tf.constant(jpeg), 3, box), SIZE).numpy()
        top, left, height, width = box(whole.height, whole.width).numpy()
        part = whole.crop((left, top, left + width, top + height)).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        found.append(np.abs(np.asarray(part) - ours.astype(int)))
    return np.mean(found), np.max(found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_dir", help="where tensorflow_datasets has imagenet2012")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    dataset = data.load("imagenet2012", "train", options.data_dir)
    encoded, labels = dataset.fetch(np.arange(len(dataset)))
    epochs = [torchvision_epoch(encoded, labels, options.batch, options.workers), our_epoch(dataset, options.batch)]
    print("difference to Pillow's crop, resized: mean {:.3f}, largest {} of 255".format(*differences(encoded)))
    items = len(dataset) // options.batch * options.batch
    measure(("torchvision, DataLoader", "keras_senet.data"), epochs, options.rounds, items)
