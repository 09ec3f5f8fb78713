"""A small dataset and a small network in place of the digits and of SE-ResNet-20.

As a program it is `keras-senet` with them, for runs in separate processes: `python little.py
train ...`.
"""

import sys

import numpy as np

import keras_senet
from keras_senet import data, models
from keras_senet.models.resnet import SmallResNet
from keras_senet.training import Recipe

NETWORK = keras_senet.application(
    SmallResNet((1, 1, 1)), name="tiny", input_size=8, min_size=8, classes=10
)


RECIPE = Recipe(
    epochs=2,
    batch_size=16,
    augmentation=data.Augmentation(pad_and_crop=2, flip=True, mixup=0.2),
    label_smoothing=0.1,
    warmup_epochs=0.5,
)

# The same as Keras' own loop can have it
FITTED = RECIPE.override(mixup=0.0)


def digits(split):
    """Eighty random images of 8x8 pixels: an epoch is five steps of 16."""
    random = np.random.default_rng({"train": 0, "test": 1}[split])
    count = {"train": 80, "test": 20}[split]
    images = random.integers(0, 256, (count, 8, 8, 3), "uint8")
    return data.Dataset(images, np.arange(count) % 10, tuple("0123456789"))


def put_in_place(set_item=dict.__setitem__, set_attribute=setattr):
    """Puts both there, by pytest's `monkeypatch` or for good."""
    get = models.get
    set_item(data.DATASETS, "digits", digits)
    set_attribute(models, "get", lambda name: NETWORK if name == "SEResNet20" else get(name))


if __name__ == "__main__":
    from keras_senet import cli

    put_in_place()
    sys.exit(cli.main(sys.argv[1:]))
