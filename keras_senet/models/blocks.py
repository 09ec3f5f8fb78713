"""The functional pieces that families share: padded convolutions, the stem's pooling, SE blocks,
heads.
"""

import abc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import keras
from keras import layers

from keras_senet.initializers import he_normal
from keras_senet.layers import BatchNormalization, GroupedConv2D, SqueezeExcite
from keras_senet.layers.data_format import channel_axis
from keras_senet.se import SE
from keras_senet.weights.metadata import restore, subclasses
from keras_senet.weights.names import Naming

EPSILON = 1e-5  # Caffe's default, which the authors' prototxts keep


# The names of layers that all of the authors' Caffe networks have, and theirs here
CAFFE_LAYERS = (
    (r"conv1/7x7_s2", r"stem_conv1"),
    (r"(stage.*)_1x1_down", r"\1_se_reduce"),
    (r"(stage.*)_1x1_up", r"\1_se_expand"),
    (r"classifier", r"predictions"),
)


class Spec(abc.ABC):
    """An architecture: called on images, it outputs the last of its levels.

    se              the SE blocks, or None for the plain network
    stem_layer      the name of the first convolution
    head_layers     the names of the classifiers' layers, whichever head a constructor has
    IGNORED_FIELDS  fields that may differ from a file's when weights are loaded
    """

    se: SE | None

    stem_layer: ClassVar[str] = "stem_conv1"
    head_layers: ClassVar[tuple[str, ...]] = ("fc1", "fc2", "predictions")
    IGNORED_FIELDS: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def levels(self, x) -> Iterator:
        """The feature maps from the largest to the last, each at the end of its stage."""

    def __call__(self, x):
        *_, x = self.levels(x)
        return x

    @property
    def forms(self) -> Mapping[str, Self]:
        """This network as the weights of each origin are for it: of "caffe", the authors' files;
        "cadene" and "timm", which are timm's two kinds of them.
        """
        return {}

    @property
    def namings(self) -> Mapping[str, Naming]:
        """How files of each of these origins name the network's layers."""
        return {}

    def published_by(self, family: str) -> Self:
        """This network as the weights of a family are for it.

        Raises:
            ValueError: for a family that has none.
        """
        if family not in self.forms:
            families = ", ".join(map(repr, self.forms)) or "none"
            raise ValueError(
                f"there is no table of names in {family!r} files for {type(self).__name__} "
                f"(for it: {families})"
            )
        return self.forms[family]

    @staticmethod
    def upgrade(stored: dict[str, Any]) -> dict[str, Any]:
        """The metadata of a file, as this version would write it."""
        return stored


def read_spec(stored: Any) -> Spec:
    """The architecture that the metadata of a file describe, also of earlier versions.

    Raises:
        ValueError: for one that this package does not have.
    """
    classes = subclasses((Spec,))
    for cls in classes if isinstance(stored, dict) else ():
        stored = cls.upgrade(stored)
    return restore(stored, Spec)


def squeeze_excite(se, x, *, name, stage=None, position="standard"):
    """x after an SE block, or x itself where `se` has none at this stage and position."""
    if se is None or se.position != position or (se.stages is not None and stage not in se.stages):
        return x
    return SqueezeExcite(se.reduction, se.squeeze, se.gate, se.use_bias, name=name)(x)


def require_standard(se, network):
    """Raises ValueError for a position that only residual units have."""
    if se is not None and se.position != "standard":
        raise ValueError(
            f"{network} has SE blocks at position='standard' only. "
            f"Received: position={se.position!r}"
        )


def conv(x, filters, kernel, *, stride=1, dilation=1, groups=1, use_bias=False, name):
    """kernel x kernel convolution, padded by (kernel - 1) / 2 on each side as Caffe and PyTorch do.

    Keras' "same" equals this for a stride of 1 only: with a stride it pads even sizes at the bottom
    right only.
    """
    layer = GroupedConv2D if groups > 1 else layers.Conv2D
    return layer(
        filters,
        kernel,
        strides=stride,
        padding="same" if stride == 1 else "valid",
        dilation_rate=dilation,
        groups=groups,
        use_bias=use_bias,
        kernel_initializer=he_normal(),
        name=name,
    )(_pad(x, kernel, stride, name))


def depthwise(x, kernel, *, stride=1, name):
    """One kernel x kernel filter a channel, padded as `conv` is."""
    return layers.DepthwiseConv2D(
        kernel,
        strides=stride,
        padding="same" if stride == 1 else "valid",
        use_bias=False,
        depthwise_initializer=he_normal(),
        name=name,
    )(_pad(x, kernel, stride, name))


def _pad(x, kernel, stride, name):
    return (
        layers.ZeroPadding2D((kernel - 1) // 2, name=f"{name}_pad")(x)
        if stride > 1 and kernel > 1
        else x
    )


def bn(x, *, epsilon=EPSILON, name):
    """Batch normalisation over the channels."""
    return BatchNormalization(axis=channel_axis(), momentum=0.9, epsilon=epsilon, name=name)(x)


def bn_relu(x, *, epsilon=EPSILON, name):
    """relu(bn(x)), the layers called name_bn and name_relu."""
    return layers.ReLU(name=f"{name}_relu")(bn(x, epsilon=epsilon, name=f"{name}_bn"))


def conv_bn(x, filters, kernel, *, name, **options):
    """bn(conv(x)), for the shortcuts and the last convolution of a branch."""
    return bn(conv(x, filters, kernel, name=name, **options), name=f"{name}_bn")


def conv_bn_relu(x, filters, kernel, *, name, **options):
    """relu(bn(conv(x)))."""
    return bn_relu(conv(x, filters, kernel, name=name, **options), name=name)


def gated_conv_bn_relu(x, filters, kernel, gate, *, name, **options):
    """relu(bn(conv(x))), with an SE block at one position in a branch; `gate` takes `position`."""
    x = gate(conv(x, filters, kernel, name=name, **options), position="conv3x3_linear")
    return gate(bn_relu(x, name=name), position="conv3x3")


class Sampling(NamedTuple):
    """How a unit samples: the strided convolution's `stride` and `dilation`, then `later`."""

    stride: int = 1
    dilation: int = 1
    later: int = 1


def build_stages(x, build_unit, depths, first_stage=1, stride=1, output_stride=32) -> Iterator:
    """The feature maps at the end of stages of units, each of which halves the size and doubles the
    width; a unit is `build_unit(x, stage, block, scale, sampling)`.

    `stride` is that of the first stage's input. From `output_stride` on, a stage keeps the size and
    its convolutions are dilated instead: with equal weights they see what they saw, at each place
    in between too.
    """
    dilation = 1
    for i, depth in enumerate(depths):
        halves = i > 0
        stride *= 2 if halves else 1
        later = 2 * dilation if halves and stride > output_stride else dilation
        strided = halves and later == dilation
        for block in range(depth):
            first = block == 0
            sampling = Sampling(2 if first and strided else 1, dilation if first else later, later)
            x = build_unit(x, first_stage + i, block + 1, 2**i, sampling)
        yield x
        dilation = later


def max_pool(x, *, name):
    """3x3 maximum at a stride of 2 with a border of 1, as PyTorch's networks have it: sizes n ->
    ceil(n / 2).

    The border is of zeros, below everything only after a ReLU, so x must not be negative.
    """
    x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    return layers.MaxPooling2D(3, 2, name=name)(x)


def ceil_max_pool(x, *, name):
    """3x3 maximum at a stride of 2 as Caffe pools, without padding and rounding up: sizes n ->
    ceil((n - 3) / 2) + 1.

    A further row and column of zeros at the bottom right are what rounding up adds for even sizes;
    for odd ones no window reaches them. Zeros are below everything only after a ReLU, so x must
    not be negative. Keras' "same" would do for even sizes; but models are also called on images of
    another size than they were built for.
    """
    x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_pad")(x)
    return layers.MaxPooling2D(3, 2, name=name)(x)


@dataclass(frozen=True)
class GlobalPool:
    """The head (N, H, W, C) -> (N, classes): the mean over H x W, dropout, the classifier."""

    dropout: float = 0.0

    def __call__(self, x, classes: int, activation):
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        if self.dropout:
            x = layers.Dropout(self.dropout, name="dropout")(x)
        return classifier(x, classes, activation)


def classifier(x, classes, activation):
    """The last dense layer, in float32 also under mixed precision, for the sake of its softmax."""
    half = keras.config.dtype_policy().compute_dtype in ("float16", "bfloat16")
    return layers.Dense(
        classes, activation=activation, dtype="float32" if half else None, name="predictions"
    )(x)


global_pool = GlobalPool()
