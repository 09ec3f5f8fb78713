"""The weights of the oracle's detector, made from their names in torchvision."""

import zlib
from dataclasses import replace

import numpy as np

import keras_senet
from keras_senet.detection import Anchors, FasterRCNN, torchvision
from keras_senet.models.units import Stem
from keras_senet.weights.readers import Entry

SPEC = FasterRCNN(
    channels=32,
    anchors=Anchors((16, 32, 64, 96, 128)),
    hidden=(64, 64),
    canonical=56.0,
    proposals=(30, 60),
    train_proposals=(60, 120),
    most=40,
    short=96,
    long=128,
)
FACTORS = (
    ("inner_blocks", 0.1),
    ("cls_logits", 0.3),
    ("rpn.head.bbox_pred", 0.05),
    ("cls_score", 0.6),
    ("box_predictor.bbox_pred", 0.6),
)


def make_weights(shapes):
    """{name in torchvision: array in PyTorch's layout} of {name: shape}."""
    return {name: _make(name, shape) for name, shape in shapes.items()}


def _make(name, shape):
    random = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("running_mean"):
        return random.normal(0, 0.1, shape)
    if name.endswith("running_var"):
        return random.uniform(0.5, 1.5, shape)
    if ".bn" in name or "downsample.1" in name:
        if name.endswith("weight"):
            return random.uniform(0.8, 1.2, shape)
        return random.normal(0, 0.1, shape)
    if name.endswith("bias"):
        return random.normal(0, 0.1, shape)
    factor = next((factor for part, factor in FACTORS if part in name), 1)
    return factor * random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)


def shapes_of_detector():
    """Of a detector on a ResNet of one basic block per stage, with a pyramid of 32 channels."""
    shapes = {"backbone.body.conv1.weight": (64, 3, 7, 7)}
    add_normalisation(shapes, "backbone.body.bn1", 64)
    channels = 64
    for number, width in enumerate((64, 128, 256, 512), start=1):
        block = f"backbone.body.layer{number}.0"
        shapes[f"{block}.conv1.weight"] = (width, channels, 3, 3)
        add_normalisation(shapes, f"{block}.bn1", width)
        shapes[f"{block}.conv2.weight"] = (width, width, 3, 3)
        add_normalisation(shapes, f"{block}.bn2", width)
        if width != channels:
            shapes[f"{block}.downsample.0.weight"] = (width, channels, 1, 1)
            add_normalisation(shapes, f"{block}.downsample.1", width)
        channels = width
        for name, shape in (
            (f"inner_blocks.{number - 1}.0", (32, width, 1, 1)),
            (f"layer_blocks.{number - 1}.0", (32, 32, 3, 3)),
        ):
            shapes[f"backbone.fpn.{name}.weight"] = shape
            shapes[f"backbone.fpn.{name}.bias"] = (32,)
    for name, shape in (
        ("rpn.head.conv.0.0", (32, 32, 3, 3)),
        ("rpn.head.cls_logits", (3, 32, 1, 1)),
        ("rpn.head.bbox_pred", (12, 32, 1, 1)),
        ("roi_heads.box_head.fc6", (64, 32 * 7 * 7)),
        ("roi_heads.box_head.fc7", (64, 64)),
        ("roi_heads.box_predictor.cls_score", (6, 64)),
        ("roi_heads.box_predictor.bbox_pred", (24, 64)),
    ):
        shapes[f"{name}.weight"] = shape
        shapes[f"{name}.bias"] = shape[:1]
    return shapes


def add_normalisation(shapes, name, width):
    for part in ("weight", "bias", "running_mean", "running_var"):
        shapes[f"{name}.{part}"] = (width,)


def make_detector():
    """The oracle's detector."""
    spec = keras_senet.SEResNet18.spec
    spec = replace(spec, depths=(1, 1, 1, 1), se=None, stem=Stem(pool="padded"))
    backbone = keras_senet.SEResNet18.variant(spec)(
        include_top=False, input_shape=(None, None, 3), weights=None
    )
    found = SPEC(backbone, list("abcde"))
    arrays = make_weights(shapes_of_detector())
    entries = {
        name: Entry(array.shape, lambda array=array: array.astype("float32"))
        for name, array in arrays.items()
    }
    torchvision.assign(found, entries, epsilon_of_zero=False)
    return found
