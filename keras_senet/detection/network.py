"""The parts of a detector that have weights, as functional Keras models."""

from collections.abc import Sequence
from functools import partial

import keras
from keras import initializers, layers, ops

from keras_senet.models.blocks import channel_axis
from keras_senet.models.surgery import LEVELS, features

PYRAMID = ("P2", "P3", "P4", "P5", "P6")
# One for each layer, made when it is: an initializer draws its seed when it is made, and has equal
# values for all layers that share it.
# Uniform within sqrt(3 / fan_in), as the Kaiming initialisation of torchvision with a = 1.
linear = partial(initializers.VarianceScaling, 1.0, "fan_in", "uniform")
# Uniform within 1 / sqrt(fan_in), PyTorch's default.
smaller = partial(initializers.VarianceScaling, 1 / 3, "fan_in", "uniform")
normal = partial(initializers.RandomNormal, stddev=0.01)


def make_proposer(backbone: keras.Model, channels: int, ratios: int) -> keras.Model:
    """Images -> the maps of the pyramid, and for each anchor a logit and four deltas.

    The outputs are "P2" to "P6", each (N, H, W, channels) at strides 4 to 64, "objectness" (N,
    anchors) and "deltas" (N, anchors, 4), level by level, row by row, ratio by ratio. Source: Lin
    et al., arXiv 1612.03144; Ren et al., arXiv 1506.01497.

    Raises:
        ValueError: for a backbone without feature maps at strides 4 to 32, or with a classifier.
    """
    view = features(backbone)
    maps = _make_pyramid([view.output[level] for level in LEVELS], channels)
    convolve = layers.Conv2D(
        channels, 3, padding="same", activation="relu", kernel_initializer=normal(), name="rpn_conv"
    )
    objectness = layers.Conv2D(ratios, 1, kernel_initializer=normal(), name="rpn_objectness")
    deltas = layers.Conv2D(4 * ratios, 1, kernel_initializer=normal(), name="rpn_deltas")
    logits, changes = [], []
    for level, x in zip(PYRAMID, maps, strict=True):
        x = convolve(x)
        logits.append(_flatten(objectness(x), (-1,), f"objectness_{level}"))
        changes.append(_flatten(deltas(x), (-1, 4), f"deltas_{level}"))
    outputs = {
        level: _channels_last(x, f"{level}_map") for level, x in zip(PYRAMID, maps, strict=True)
    }
    outputs["objectness"] = layers.Concatenate(1, name="objectness", dtype="float32")(logits)
    outputs["deltas"] = layers.Concatenate(1, name="deltas", dtype="float32")(changes)
    return keras.Model(view.inputs[0], outputs, name=f"{backbone.name}_proposer")


def predict_anchors(proposer: keras.Model, around) -> tuple:
    """The logits (N, ratios) and deltas (N, ratios, 4) of all anchors of N places, as `proposer`
    has them, from the features (N, 9 * channels) of the 3 x 3 places around each.
    """
    hidden = ops.relu(_multiply(proposer.get_layer("rpn_conv"), around))
    logits, deltas = (
        ops.cast(_multiply(proposer.get_layer(f"rpn_{name}"), hidden), "float32")
        for name in ("objectness", "deltas")
    )
    return logits, ops.reshape(deltas, (-1, logits.shape[-1], 4))


def _multiply(convolution, x):
    """What a convolution outputs at places of which x (N, n) is what it sees."""
    kernel, bias = (ops.cast(each, x.dtype) for each in (convolution.kernel, convolution.bias))
    return ops.matmul(x, ops.reshape(kernel, (-1, convolution.filters))) + bias


def _make_pyramid(maps, channels):
    """The maps P2 to P6 of C2 to C5: sums of a lateral 1x1 convolution and the enlarged coarser
    map, each then smoothed by a 3x3 convolution.
    """
    x, outputs = None, []
    for level, source in reversed(list(enumerate(maps, start=2))):
        lateral = layers.Conv2D(channels, 1, kernel_initializer=linear(), name=f"lateral{level}")(
            source
        )
        if x is None:
            x = lateral
        else:
            x = layers.UpSampling2D(2, name=f"enlarged{level + 1}")(x)
            x = layers.Add(name=f"merged{level}")([lateral, x])
        smooth = layers.Conv2D(
            channels, 3, padding="same", kernel_initializer=linear(), name=f"pyramid{level}"
        )
        outputs.insert(0, smooth(x))
    outputs.append(layers.MaxPooling2D(1, 2, name="pyramid6")(outputs[-1]))
    return outputs


def _channels_last(x, name):
    return x if channel_axis() == -1 else layers.Permute((2, 3, 1), name=f"{name}_last")(x)


def _flatten(x, shape, name):
    return layers.Reshape(shape, name=name)(_channels_last(x, name))


def make_head(channels: int, side: int, hidden: Sequence[int], classes: int) -> keras.Model:
    """Pooled boxes (N, side, side, channels) -> "classes", logits (N, 1 + classes) whose first is
    the background, and "deltas" (N, 1 + classes, 4).
    """
    pooled = x = keras.Input((side, side, channels), name="pooled")
    x = layers.Flatten(name="box_flatten")(x)
    for number, units in enumerate(hidden, start=6):
        x = layers.Dense(
            units, activation="relu", kernel_initializer=smaller(), name=f"box_fc{number}"
        )(x)
    logits = layers.Dense(
        1 + classes, kernel_initializer=smaller(), dtype="float32", name="box_classes"
    )(x)
    deltas = layers.Dense(
        4 * (1 + classes), kernel_initializer=smaller(), dtype="float32", name="box_deltas"
    )(x)
    deltas = layers.Reshape((1 + classes, 4), name="box_deltas_by_class", dtype="float32")(deltas)
    return keras.Model(pooled, {"classes": logits, "deltas": deltas}, name="box_head")
