"""Faster R-CNN on ResNet-50 at 512x512: one training step of two images (forward, backward,
update), one detection, and their parts: keras_senet over torchvision's `fasterrcnn_resnet50_fpn`.

float32, the same weights and photographs on both sides; the stem, stage 2 and batch normalisation
are frozen, as in torchvision's training from ImageNet weights; SGD with momentum 0.9 and a weight
decay of 1e-4. Ours is a `tf.function` as the Trainer's, torchvision's is eager, in channels_last
and in its default layout.

Needs the extra `peers` and torchvision with its compiled operators (a CPU build of both): its
Python stand-ins for suppression and RoIAlign would be no fair peer.
"""

import sys
from pathlib import Path

import numpy as np

from benchmarks.side import ROOT, make_once

SIZE, BATCH = 512, 2
RATE = 1e-4
FROZEN = ("stem", "stage2")
# Boxes of a few sides in each image, and their labels in torchvision
BOXES = [(40, 60, 200, 300), (250, 100, 500, 420), (300, 20, 360, 90), (10, 350, 90, 500)]
LABELS = [1, 3, 18, 44]


def photographs():
    """Two photographs that scikit-learn ships, uint8 (2, 512, 512, 3)."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    images = [Image.fromarray(image).resize((SIZE, SIZE)) for image in load_sample_images().images]
    return np.stack([np.asarray(image) for image in images])


def prepare_torch(mode, threads, weights, layout):
    """A function that does it once."""
    import torch
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops.misc import FrozenBatchNorm2d

    torch.set_num_threads(threads)
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50",
        weights=None,
        norm_layer=lambda channels: FrozenBatchNorm2d(channels, eps=0.0),
        trainable_layers=3,
    )
    model = FasterRCNN(backbone, 91, min_size=SIZE, max_size=SIZE)
    model.load_state_dict(torch.load(weights))
    model.to(memory_format=getattr(torch, layout)).train(mode == "training")
    images = [torch.tensor(each.transpose(2, 0, 1) / np.float32(255)) for each in photographs()]
    boxes, labels = torch.tensor(BOXES, dtype=torch.float32), torch.tensor(LABELS)
    targets = [{"boxes": boxes, "labels": labels} for _ in images]
    batch = torch.stack(images).to(memory_format=getattr(torch, layout))

    @torch.no_grad()
    def detect():
        return len(model(images[:1])[0]["scores"])

    @torch.no_grad()
    def run_network():
        maps = model.backbone(batch[:1])
        logits, _ = model.rpn.head(list(maps.values()))
        return float(logits[0][0, 0, 0, 0])

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, RATE, momentum=0.9, weight_decay=1e-4)

    def train():
        optimizer.zero_grad()
        loss = sum(model(images, targets).values())
        loss.backward()
        optimizer.step()
        return loss.item()

    return {"training": train, "detection": detect, "network": run_network}[mode]


def prepare_keras(mode, threads, weights, layout):
    """The same by keras_senet."""
    from dataclasses import replace

    import keras
    import tensorflow as tf

    from keras_senet.detection import Sampling, Truths, load_torchvision, losses
    from keras_senet.detection.canvas import prepare
    from keras_senet.graphs import flat_layers, update_by
    from keras_senet.training.backends.tensorflow import (
        call_compiled,
        compute_in_turn,
        run_in_turn,
    )
    from keras_senet.weights.names import own_name

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    if mode == "training":
        run_in_turn()  # as `keras-senet detect train` does
    else:
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    detector = load_torchvision(weights)
    detector.spec = replace(detector.spec, short=SIZE, long=SIZE)
    for layer in flat_layers(detector.backbone):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    images = photographs()
    if mode == "detection":
        return lambda: len(next(detector.detect(images[:1])).scores)
    canvas = prepare(images, detector.preprocessing, SIZE, SIZE)
    if mode == "network":
        signature = [tf.TensorSpec((None, None, None, 3))]
        run = tf.function(
            lambda images: detector.propose_maps(images, training=False), input_signature=signature
        )
        return lambda: float(run(canvas.images[:1])["objectness"][0, 0])
    boxes = tf.tile(tf.constant([BOXES], tf.float32), (BATCH, 1, 1))
    classes = tf.tile(tf.constant([LABELS]) - 1, (BATCH, 1))
    truths = Truths(boxes, classes, tf.fill((BATCH,), len(BOXES)))
    variables = [
        variable
        for variable in detector.variables
        if own_name(variable).endswith(("kernel", "bias"))
        and not own_name(variable).startswith(FROZEN)
    ]
    optimizer = keras.optimizers.SGD(RATE, momentum=0.9)
    optimizer.build(variables)
    update_by(optimizer, compute_in_turn)

    @tf.function(
        autograph=False,
        input_signature=[
            tf.TensorSpec((BATCH, None, None, 3)),
            tf.TensorSpec((BATCH, 2), tf.int32),
            Truths(*(tf.TensorSpec(each.shape, each.dtype) for each in truths)),
            tf.TensorSpec((BATCH, 2), tf.int32),
        ],
    )
    def step(images, sizes, truths, seeds):
        values = [variable.value for variable in variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            parts = losses(detector, images, sizes, truths, Sampling(), seeds, training=True)
            loss = tf.add_n(list(parts.values())) / BATCH
        gradients = tape.gradient(loss, values)
        with tf.control_dependencies([tf.group(*gradients)]):
            decayed = compute_in_turn(lambda g, v: g + 1e-4 * v, gradients, variables)
            optimizer.apply(decayed, variables)
        return loss

    seeds = iter(range(10**9))

    def train():
        drawn = tf.constant([[next(seeds), i] for i in range(BATCH)])
        return float(call_compiled(step, *canvas, truths, drawn))

    return train


def write_weights(path):
    """Weights that detect something, in torchvision's format."""
    import torch

    sys.path[:0] = [str(ROOT / "tests" / "detection")]
    from oracle_weights import make_weights
    from torchvision.models.detection import fasterrcnn_resnet50_fpn

    model = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    arrays = make_weights({name: shape for name, shape in shapes.items() if shape})
    for name, array in arrays.items():
        if name.endswith("bn3.weight"):
            array *= 0.2  # 16 residual branches would otherwise add up to large numbers
        if "cls_score.weight" in name:
            array *= 2  # scores above the threshold
    torch.save({name: torch.tensor(array).float() for name, array in arrays.items()}, path)


def prepare(folder, threads, side, mode):
    """A function that trains one step ("training"), detects ("detection"), or computes the maps
    only ("network"). `side` is "keras_senet", or a memory format of torch for torchvision.
    """
    weights = Path(folder, "fasterrcnn_resnet50_fpn.pth")
    make_once(weights, ".detection:write_weights", weights)
    if side == "keras_senet":
        return prepare_keras(mode, threads, weights, side)
    import torchvision

    if not torchvision.extension._has_ops():
        raise ImportError("torchvision's compiled operators are missing: install a CPU build")
    return prepare_torch(mode, threads, weights, side)
