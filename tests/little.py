"""A small dataset and a small network in place of the digits and of SE-ResNet-20, and runs with
them in this process.

As a program it is `keras-senet` with them, for runs in separate processes: `python little.py
train ...`.
"""

import contextlib
import shutil
import sys

import numpy as np

import keras_senet
from keras_senet import data, models
from keras_senet.models.resnet import SmallResNet
from keras_senet.training import Recipe, Trainer
from keras_senet.training.progress import Progress

# Of one, two and three stages, of one unit each: the first is what is trained, as a step of it is
# traced in half the time.
NETWORK, TWO_STAGES, DEEPER = (
    keras_senet.application(
        SmallResNet((1,) * stages), name="tiny", input_size=8, min_size=8, classes=10
    )
    for stages in (1, 2, 3)
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


def put_in_place(set_item=dict.__setitem__, set_attribute=setattr, network=None):
    """Puts both there, by pytest's `monkeypatch` or for good; or another network."""
    get = models.get
    set_item(data.DATASETS, "digits", digits)
    set_attribute(
        models, "get", lambda name: network or NETWORK if name == "SEResNet20" else get(name)
    )


@contextlib.contextmanager
def graphs_as_traced():
    """Within, TensorFlow runs graphs without optimizing them first, which takes a fifth of a short
    run: what is equal to the last bit must be trained within, or must not.
    """
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        yield
        return
    optimizer, option = tensorflow.config.optimizer, "disable_meta_optimizer"
    before = optimizer.get_experimental_options().get(option, False)
    optimizer.set_experimental_options({option: True})
    try:
        yield
    finally:
        optimizer.set_experimental_options({option: before})


def train(workdir, recipe=RECIPE, **options):
    trainer = Trainer(recipe, workdir, verbose=False, **options)
    trainer.train()
    return trainer


def assert_equal_weights(a, b):
    for value, expected in zip(a.model.get_weights(), b.model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)


def do_after(monkeypatch, step, action):
    """Does `action` after so many steps of this process."""
    calls = []

    def advance(self, totals):
        calls.append(totals)
        if len(calls) == step:
            action()

    monkeypatch.setattr(Progress, "advance", advance)


def keep_after(monkeypatch, step, workdir, copy):
    """Copies the work directory after so many steps: what a process that is killed then leaves."""
    ignored = shutil.ignore_patterns(".lock")
    do_after(monkeypatch, step, lambda: shutil.copytree(workdir, copy, ignore=ignored))


def kill():
    raise SystemError("killed")


if __name__ == "__main__":
    from keras_senet import cli

    put_in_place()
    sys.exit(cli.main(sys.argv[1:]))
