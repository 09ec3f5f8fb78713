"""Residual units and stems: what `ResNet` and the networks like it are composed of."""

import abc
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from keras import layers

from keras_senet.fields import check_choice, check_field, is_integer
from keras_senet.models.blocks import (
    Sampling,
    ceil_max_pool,
    channel_axis,
    conv_bn,
    conv_bn_relu,
    gated_conv_bn_relu,
    max_pool,
)

STEM_POOLS = {"ceil": ceil_max_pool, "padded": max_pool, None: None}


@dataclass(frozen=True)
class Stem:
    """Images -> the first stage's input, by convolutions with batch normalisation and ReLU.

    rows  of (kernel, width, stride)
    pool  after them: "ceil", as Caffe pools; "padded", as PyTorch's networks; or None
    """

    rows: tuple[tuple[int, int, int], ...] = ((7, 64, 2),)
    pool: str | None = "ceil"

    def __post_init__(self):
        check_choice("pool", self.pool, STEM_POOLS)

    def __call__(self, x):
        for i, (kernel, width, stride) in enumerate(self.rows):
            x = conv_bn_relu(x, width, kernel, stride=stride, name=f"stem_conv{i + 1}")
        pool = STEM_POOLS[self.pool]
        return pool(x, name="stem_pool") if pool else x


class Unit(abc.ABC):
    """A residual unit: its branch, and the projection of its shortcut.

    expansion   channels of the output, relative to the base width of a network's first stage
    families    the origins of published weights
    projection  of shortcuts with a stride: the kernel of a convolution, or "pool" for the average
                of 2 x 2 pixels before a 1x1 convolution (ResNet-D, 1812.01187, Figure 2c)
    """

    expansion: ClassVar[int]
    families: ClassVar[tuple[str, ...]]
    projection: int | str

    def __post_init__(self):
        kernel = is_integer(self.projection) and int(self.projection) > 0
        holds = kernel or self.projection == "pool"
        check_field(self, "projection", holds, "the size of a kernel, or 'pool'")

    @abc.abstractmethod
    def published_by(self, family: str) -> Self:
        """The unit as the weights of a family are for it."""

    @abc.abstractmethod
    def branch(self, x, base: int, scale: int, sampling: Sampling, gate, name: str):
        """F(x), for the base width of a network and the scale of a stage."""

    def shortcut(self, x, base: int, scale: int, sampling: Sampling, name: str):
        """x, or its projection where the unit changes the shape."""
        width, name = self.expansion * base * scale, f"{name}_shortcut"
        if sampling.stride == 1 and x.shape[channel_axis()] == width:
            return x
        if scale == 1:
            return conv_bn(x, width, 1, name=name)
        if self.projection == "pool":
            # "same" is PyTorch's rounding up: an odd size's last row is averaged over what is there
            x = layers.AveragePooling2D(2, sampling.stride, padding="same", name=f"{name}_pool")(x)
            return conv_bn(x, width, 1, name=name)
        options = {"stride": sampling.stride, "dilation": sampling.dilation}
        return conv_bn(x, width, self.projection, **options, name=name)


@dataclass(frozen=True)
class Bottleneck(Unit):
    """bn(1x1(relu(bn(3x3(relu(bn(1x1(x)))))))), with four times the channels of the base width.

    groups       of the 3x3 convolution
    group_width  channels of a group in the first stage
    stride_on    which convolution has the stride: 1, the first 1x1, in the authors' SE-ResNets; 2,
                 the 3x3
    reduce_by    how much narrower than the 3x3 convolution the first 1x1 is (SENet-154: 2)
    projection   of shortcuts with a stride: the kernel of a convolution (SENet-154: 3), or "pool"
                 for the average of 2 x 2 pixels before a 1x1 convolution (ResNet-D, 1812.01187,
                 Figure 2c)
    """

    groups: int = 1
    group_width: int = 64
    stride_on: int = 1
    reduce_by: int = 1
    projection: int | str = 1

    expansion: ClassVar[int] = 4
    families: ClassVar[tuple[str, ...]] = ("caffe", "cadene", "timm")

    def __post_init__(self):
        super().__post_init__()
        check_field(self, "stride_on", self.stride_on in (1, 2), "1 or 2")

    def published_by(self, family):
        """The authors' units without groups have the stride in the first 1x1."""
        return replace(self, stride_on=1 if family != "timm" and self.groups == 1 else 2)

    def branch(self, x, base, scale, sampling, gate, name):
        width = self.groups * self.group_width * scale
        stride, dilation, later = sampling
        first, second = (
            ((stride, 1), (1, later)) if self.stride_on == 1 else ((1, 1), (stride, dilation))
        )
        x = conv_bn_relu(x, width // self.reduce_by, 1, stride=first[0], name=f"{name}_conv1")
        options = {"stride": second[0], "dilation": second[1], "groups": self.groups}
        x = gated_conv_bn_relu(x, width, 3, gate, **options, name=f"{name}_conv2")
        return conv_bn(x, self.expansion * base * scale, 1, name=f"{name}_conv3")


@dataclass(frozen=True)
class Basic(Unit):
    """bn(3x3(relu(bn(3x3(x))))).

    residual_relu  whether a ReLU stands between the last batch normalisation and the SE block, as
                   in timm's legacy_seresnet18 and 34; these networks are not in the paper, whose
                   rule for residual units has none
    projection     as in `Bottleneck`
    """

    residual_relu: bool = False
    projection: int | str = 1

    expansion: ClassVar[int] = 1
    # "paper": none are published, but files of this package are
    families: ClassVar[tuple[str, ...]] = ("cadene", "timm", "paper")

    def published_by(self, family):
        return replace(self, residual_relu=family == "cadene")

    def branch(self, x, base, scale, sampling, gate, name):
        stride, dilation, later = sampling
        options = {"stride": stride, "dilation": dilation}
        x = gated_conv_bn_relu(x, base * scale, 3, gate, **options, name=f"{name}_conv1")
        last = conv_bn_relu if self.residual_relu else conv_bn
        return last(x, base * scale, 3, dilation=later, name=f"{name}_conv2")
