"""SE-ShuffleNet 1x, g = 3: Zhang et al., 1707.01083; the paper's Table 3. The authors' file is not
public.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from keras import layers

from keras_senet.fields import check_choice
from keras_senet.layers import ShuffleChannels
from keras_senet.models.blocks import (
    Spec,
    bn,
    channel_axis,
    conv,
    conv_bn_relu,
    depthwise,
    squeeze_excite,
)
from keras_senet.models.constructor import application
from keras_senet.se import SE

# 1707.01083, Table 1: the first stage's width by the number of groups
WIDTHS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
POSITIONS = ("standard", "post")


@dataclass(frozen=True)
class ShuffleNet(Spec):
    """Images (N, H, W, 3) -> feature map (N, H/32, W/32, 960 x width for three groups).

    groups      of the 1x1 convolutions: 1, 2, 3, 4 or 8
    width       factor of all widths, ShuffleNet's s in "ShuffleNet s x"
    narrow      whether a unit's bottleneck is a quarter of its branch's output rather than of the
                unit's: another network in the units with a stride, whose branch has only the
                channels that the shortcut lacks. The ShuffleNet paper and its authors' code take
                the unit's; a Caffe port is narrow.
    strided_se  whether the units with a stride have SE blocks too, as the paper's rule says of
                every unit
    se          the SE blocks, or None for the plain network. "standard": at the end of each branch,
                before the join, as the paper's rule says. "post": after the join and its ReLU.

    Pooling is padded on both sides, as in the ShuffleNet authors' code, so that the network runs at
    any size.
    """

    groups: int = 3
    width: float = 1.0
    narrow: bool = False
    strided_se: bool = True
    se: SE | None = SE()

    units: ClassVar[tuple[int, ...]] = (4, 8, 4)  # in stages 3, 4 and 5: the same table

    def __post_init__(self):
        check_choice("groups", self.groups, WIDTHS)
        if self.se is not None and self.se.position not in POSITIONS:
            raise ValueError(
                f"ShuffleNet takes a position of {POSITIONS}. "
                f"Received: position={self.se.position!r}"
            )
        first = self.channels(WIDTHS[self.groups])
        if first % (4 * self.groups) or not self.width > 0:
            raise ValueError(
                f"`width` must leave widths that {4 * self.groups} divides: four times the groups. "
                f"Received: width={self.width!r}, a first width of {first}"
            )

    def levels(self, x):
        """The feature maps at strides 4, 8, 16 and 32."""
        x = conv_bn_relu(x, self.channels(24), 3, stride=2, name="stem_conv1")
        x = layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
        x = layers.MaxPooling2D(3, 2, name="stem_pool")(x)
        yield x
        for i, depth in enumerate(self.units):
            width = self.channels(WIDTHS[self.groups]) * 2**i
            for block in range(depth):
                x = self.unit(x, 3 + i, block + 1, width)
            yield x

    def channels(self, width):
        return round(width * self.width)

    def unit(self, x, stage, block, width):
        """relu(x + F(x)), or where the size halves relu(concatenation of the pooled x and F(x))."""
        name = f"stage{stage}_block{block}"
        halves = block == 1
        se = self.se if self.strided_se or not halves else None
        gate = partial(squeeze_excite, se, stage=stage, name=f"{name}_se")
        out = width - x.shape[channel_axis()] if halves else width
        first_groups = 1 if (stage, block) == (3, 1) else self.groups  # too few channels for groups
        residual = gate(
            self.branch(
                x, (out if self.narrow else width) // 4, out, 2 if halves else 1, first_groups, name
            )
        )
        if halves:
            pooled = layers.AveragePooling2D(3, 2, name=f"{name}_pool")(
                layers.ZeroPadding2D(1, name=f"{name}_pool_pad")(x)
            )
            x = layers.Concatenate(axis=channel_axis(), name=f"{name}_concat")([pooled, residual])
        else:
            x = layers.Add(name=f"{name}_add")([x, residual])
        return gate(layers.ReLU(name=f"{name}_relu")(x), position="post")

    def branch(self, x, middle, out, stride, first_groups, name):
        """bn(grouped 1x1(bn(depthwise(shuffle(relu(bn(grouped 1x1(x))))))))."""
        x = conv_bn_relu(x, middle, 1, groups=first_groups, name=f"{name}_conv1")
        x = ShuffleChannels(self.groups, name=f"{name}_shuffle")(x)
        x = bn(depthwise(x, 3, stride=stride, name=f"{name}_conv2"), name=f"{name}_conv2_bn")
        return bn(
            conv(x, out, 1, groups=self.groups, name=f"{name}_conv3"), name=f"{name}_conv3_bn"
        )


SEShuffleNet = application(ShuffleNet(), name="se_shufflenet")
