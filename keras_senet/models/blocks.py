"""The functional pieces that families share: padded convolutions, the stem's pooling, SE blocks, heads."""

from dataclasses import dataclass

import keras
from keras import layers

from keras_senet.layers import BatchNormalization, GroupedConv2D, SqueezeExcite

POSITIONS = ("standard", "pre", "post", "identity", "conv3x3")
STATISTICS = {"momentum": 0.9, "epsilon": 1e-5}  # epsilon: Caffe's default, which the authors' prototxts keep


@dataclass(frozen=True)
class SE:
    """Where a network's SE blocks are and what they compute; `None` in its place gives the plain network.

    `reduction`, `squeeze`, `gate` and `use_bias` are those of `SqueezeExcite`. `position` is where in a residual
    unit the block stands (paper, Figure 5 and Tables 14 and 15), with F the unit's residual branch:

    standard  relu(se(F(x)) + shortcut(x))
    pre       relu(F(se(x)) + shortcut(x))
    post      se(relu(F(x) + shortcut(x)))
    identity  relu(F(x) + se(shortcut(x)))
    conv3x3   inside F, after the first 3x3 convolution's ReLU; the paper does not say on which side of it

    `stages` restricts the blocks to some stages, by the numbers in the layers' names; None is all of them.
    """

    reduction: int = 16
    squeeze: str | None = "avg"
    gate: str = "sigmoid"
    use_bias: bool = True
    position: str = "standard"
    stages: tuple[int, ...] | None = None

    def __post_init__(self):
        if self.position not in POSITIONS:
            raise ValueError(f"`position` must be one of {list(POSITIONS)}. Received: position={self.position!r}")
        SqueezeExcite(self.reduction, self.squeeze, self.gate, self.use_bias)  # raises for its own arguments


def squeeze_excite(se, x, *, name, stage=None, position="standard"):
    """x behind an SE block, or x itself where `se` has none at this stage and position."""
    if se is None or se.position != position or (se.stages is not None and stage not in se.stages):
        return x
    return SqueezeExcite(se.reduction, se.squeeze, se.gate, se.use_bias, name=name)(x)


def channel_axis():
    return -1 if keras.config.image_data_format() == "channels_last" else 1


def conv(x, filters, kernel, *, stride=1, groups=1, use_bias=False, name):
    """kernel x kernel convolution, padded by (kernel - 1) / 2 on each side as Caffe and PyTorch do.

    Keras' "same" equals this for a stride of 1 only: with a stride it pads even sizes at the bottom right alone.
    """
    if stride > 1 and kernel > 1:
        x = layers.ZeroPadding2D((kernel - 1) // 2, name=f"{name}_pad")(x)
    layer = GroupedConv2D if groups > 1 else layers.Conv2D
    return layer(
        filters,
        kernel,
        strides=stride,
        padding="same" if stride == 1 else "valid",
        groups=groups,
        use_bias=use_bias,
        kernel_initializer="he_normal",
        name=name,
    )(x)


def conv_bn(x, filters, kernel, *, name, **options):
    """bn(conv(x)), for the shortcuts and the last convolution of a branch."""
    return BatchNormalization(axis=channel_axis(), **STATISTICS, name=f"{name}_bn")(
        conv(x, filters, kernel, name=name, **options)
    )


def conv_bn_relu(x, filters, kernel, *, name, **options):
    """relu(bn(conv(x)))."""
    return layers.ReLU(name=f"{name}_relu")(conv_bn(x, filters, kernel, name=name, **options))


def ceil_max_pool(x, *, name):
    """3x3 maximum at a stride of 2 as Caffe pools, without padding and rounding up: sizes n -> ceil((n - 3) / 2) + 1.

    A further row and column of zeros at the bottom right are what rounding up adds for even sizes; for odd ones no
    window reaches them. Zeros are below everything only behind a ReLU, so x must not be negative.
    """
    x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_pad")(x)
    return layers.MaxPooling2D(3, 2, name=name)(x)


def global_pool(x, classes, activation, *, dropout=0.0):
    """(N, H, W, C) -> (N, classes): the mean over H x W, then a dense layer, in float32 under mixed precision."""
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    return classifier(x, classes, activation)


def classifier(x, classes, activation):
    """The last dense layer: a softmax over 1,000 classes needs more than half precision."""
    half = keras.config.dtype_policy().compute_dtype in ("float16", "bfloat16")
    return layers.Dense(classes, activation=activation, dtype="float32" if half else None, name="predictions")(x)
