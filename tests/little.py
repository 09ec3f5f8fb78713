"""A small dataset and a small network in place of the digits and of SE-ResNet-20, and runs with
them in this process.

As a program it is `keras-senet` with them, for runs in separate processes: `python little.py
train ...`.
"""

import contextlib
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

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

# The same as Keras' own loop can have it, and with a rate that does not depend on the epochs
FITTED = RECIPE.override(mixup=0.0, schedule="constant")


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


def graphs_as_traced():
    """Within, TensorFlow runs graphs without optimizing them first, which takes a fifth of a short
    run: what is equal to the last bit must be trained within, or must not.
    """
    return optimizing_graphs(False)


@contextlib.contextmanager
def optimizing_graphs(wanted):
    """Within, TensorFlow optimizes graphs before it runs them, or does not."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        yield
        return
    optimizer, option = tensorflow.config.optimizer, "disable_meta_optimizer"
    before = optimizer.get_experimental_options().get(option, False)
    optimizer.set_experimental_options({option: not wanted})
    try:
        yield
    finally:
        optimizer.set_experimental_options({option: before})


class Decoded(data.Dataset):
    """A folder's images, decoded at once. Each pipeline that decodes takes 0.3 s to begin, of which
    a run has one to train, one to check each split, and one for each evaluation.
    """

    def __init__(self, encoded):
        raw, labels = encoded.fetch(np.arange(len(encoded)))
        images = np.stack([np.asarray(encoded.decode(each)) for each in raw])
        super().__init__(images, labels, encoded.class_names)
        for name in ("listing", "names", "name_of", "upright"):
            object.__setattr__(self, name, getattr(encoded, name))


def decode_folders(monkeypatch):
    """Folders of images of one size are decoded when they are loaded."""
    load = data.load
    monkeypatch.setattr(data, "load", lambda *args, **options: Decoded(load(*args, **options)))


@contextlib.contextmanager
def eagerly():
    """Within, TensorFlow runs its functions operation by operation: one that a test calls once
    takes several times longer to trace, and to prepare, than to run.
    """
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def skip_drawing(monkeypatch):
    """Figures are made, and their files are there, but not drawn, which takes up to 1 s each."""
    if find_spec("matplotlib") is None:  # as where the oldest versions are tried
        return
    from matplotlib.figure import Figure

    monkeypatch.setattr(
        Figure, "savefig", lambda self, path, **options: Path(path).write_bytes(b"a figure")
    )


def train(workdir, recipe=RECIPE, **options):
    trainer = Trainer(recipe, workdir, verbose=False, **options)
    trainer.train()
    return trainer


def go_back(trainer, copy):
    """Gives a trainer the work directory that it had when `keep_after` copied it, and other values
    than any checkpoint has: a training that goes on has to restore each, as in another process, but
    has its step traced already.
    """
    shutil.rmtree(trainer.workdir.path)
    shutil.copytree(copy, trainer.workdir.path)
    for variable in trainer.checkpoints.variables.values():
        variable.assign(np.full(variable.shape, 7))


def assert_equal_weights(a, b):
    for value, expected in zip(a.model.get_weights(), b.model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)


def do_after(monkeypatch, step, action):
    """Does `action` after so many steps of this process; also after others that were asked for."""
    calls, before = [], Progress.advance

    def advance(self, totals):
        before(self, totals)
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
