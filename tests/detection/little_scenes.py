"""A few images with boxes and a thin backbone in place of the scenes and of SE-ResNet-18.

As a program it trains in the folder that it is given, for runs in separate processes.
"""

import json
import sys
from dataclasses import dataclass, replace
from typing import ClassVar

import keras
import numpy as np
from eager import run_eagerly

import keras_senet
from keras_senet import models, weights
from keras_senet.detection import RECIPES, Anchors, FasterRCNN, Trainer
from keras_senet.detection import trainer as trainer_module
from keras_senet.detection.data import BoxedImages
from keras_senet.detection.data.truths import make_truth
from keras_senet.models.resnet import ResNet
from keras_senet.models.units import Basic


@dataclass(frozen=True)
class Thin(ResNet):
    """Four stages of 16 to 128 channels.

    With 8, TensorFlow's oneDNN writes past its memory: the gradient of a convolution of 1x1 with
    strides, from at most 8 to at most 16 channels, of an odd number of images, by two threads.
    """

    base: ClassVar[int] = 16


NETWORK = keras_senet.application(Thin((1, 1, 1, 1), Basic()), name="thin", input_size=64)
DETECTOR = FasterRCNN(
    channels=8,
    anchors=Anchors((12, 24, 48, 96, 128)),
    hidden=(16,),
    pool_side=3,
    pool_points=1,
    canonical=64.0,
    proposals=(20, 10),
    train_proposals=(20, 20),
    most=10,
    short=64,
    long=96,
)
RECIPE = replace(
    RECIPES["scenes"],
    depths=(),
    detector=DETECTOR,
    anchor_samples=(16, 0.5),
    box_samples=(16, 0.25),
    epochs=2,
    batch_size=2,
    optimizer="sgd",
    learning_rate=0.05,
    warmup_steps=2,
)


def load(name, split, data_dir=None):
    """Six or two images with squares on noise; the first image of both has none."""
    random = np.random.default_rng({"train": 0, "test": 1}[split])
    images, truths = [], []
    for index in range({"train": 6, "test": 2}[split]):
        image = random.integers(0, 100, (64, 64, 3), "uint8")
        rows = []
        for label in range(index % 3):
            side = int(random.integers(16, 28))
            x, y = 32 * label, int(random.integers(0, 64 - side))
            image[y : y + side, x : x + side, label] = 255
            rows.append(((x, y, x + side, y + side), label, float(side**2), False))
        images.append(image)
        truths.append(make_truth(rows))
    sizes = [each.shape[:2] for each in images]
    ids = list(range(1, len(images) + 1))
    return BoxedImages(images, sizes, truths, ("red", "green"), ids, (7, 9))


def put_in_place(set_attribute=setattr):
    """Puts both there, by pytest's `monkeypatch` or for good."""
    get = models.get
    set_attribute(trainer_module, "load_data", load)
    set_attribute(models, "get", lambda name: NETWORK if name == "SEResNet18" else get(name))


# What makes a recipe's detector as little as `DETECTOR`, for the command line
FLAGS = (
    *("--channels", 16, "--hidden", 16, "--pool-side", 3, "--pool-points", 1),
    *("--proposals", 20, 10, "--train-proposals", 20, 20, "--short", 64, "--long", 96),
    *("--anchor-samples", 16, 0.5, "--box-samples", 16, 0.25),
)


def start_recipe(run, monkeypatch, name, workdir, *flags):
    """One step of a recipe on the thin backbone, from weights in a file; its work directory."""
    monkeypatch.setattr(models, "get", lambda name: NETWORK)
    keras.utils.set_random_seed(0)
    model = NETWORK(weights=None, classes=5)
    weights.save_weights(model, workdir.with_suffix(".weights.h5"))
    with run_eagerly():
        status = run(
            *("detect", "train", "--recipe", name, "--workdir", workdir, *FLAGS, *flags),
            *("--backbone-weights", workdir.with_suffix(".weights.h5")),
            *("--max-steps", 1, "--evaluate-epochs", 0),
        )
    assert status == 0
    return json.loads((workdir / "recipe.json").read_text())["recipe"]


def train(workdir, recipe=RECIPE, **options):
    trainer = Trainer(recipe, workdir, verbose=False, **options)
    trainer.train()
    return trainer


def digest(trainer):
    """All that is trained, as bytes."""
    return b"".join(value.tobytes() for value in trainer.model.get_weights())


if __name__ == "__main__":
    put_in_place()
    fields = {"learning_rate": 0.005, "clip_norm": 1.0, "sync_bn": True}
    recipe = RECIPE.override(epochs=int(sys.argv[2]), **fields)
    train(sys.argv[1], recipe, checkpoint_steps=2, keep=99)
