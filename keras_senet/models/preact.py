"""SE-ResNet-110 and SE-ResNet-164 with pre-activation and SE-WRN-16-8, for 32 x 32 images: the
paper's Tables 4 and 5.

Sources: He et al., 1603.05027 ("Identity Mappings"), whose numbers those tables quote, and its
resnet-pre-act.lua; Zagoruyko and Komodakis, 1605.07146, for the wide one.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from keras import layers

from keras_senet.fields import check_choice
from keras_senet.layers import PadChannels
from keras_senet.models.blocks import (
    Spec,
    bn_relu,
    build_stages,
    channel_axis,
    conv,
    conv_bn_relu,
    gated_conv_bn_relu,
    squeeze_excite,
)
from keras_senet.models.constructor import small
from keras_senet.se import SE

SHORTCUTS = ("conv", "pad")


@dataclass(frozen=True)
class PreActResNet(Spec):
    """Images (N, H, W, 3) -> feature map (N, H/4, W/4, 64 x widen), by units of two 3x3
    convolutions.

    depths    units in stages 1, 2, 3
    widen     factor of the widths 16, 32, 64
    shortcut  where a unit changes the shape: "conv", a 1x1 convolution without batch normalisation,
              or "pad", every second pixel with channels of zeros added; both of the pre-activated
              input. The paper does not say which it used; He et al. pad in basic units.
    se        the SE blocks, or None for the plain network; "standard" is after the branch's last
              convolution, "pre" after the pre-activation
    """

    depths: tuple[int, ...]
    widen: int = 1
    shortcut: str = "conv"
    se: SE | None = SE()

    expansion: ClassVar[int] = 1

    def __post_init__(self):
        check_choice("shortcut", self.shortcut, SHORTCUTS)

    def levels(self, x):
        """Each stage's last feature map, the last after the final batch normalisation and ReLU."""
        x = conv(x, 16, 3, name="stem_conv1")
        *levels, last = build_stages(x, self.unit, self.depths)
        yield from levels
        yield bn_relu(last, name="final")

    def unit(self, x, stage, block, scale, sampling):
        """F(relu(bn(x))) + shortcut; a stage's first unit shares the pre-activation with it."""
        name, width, stride = f"stage{stage}_block{block}", 16 * self.widen * scale, sampling.stride
        gate = partial(squeeze_excite, self.se, stage=stage, name=f"{name}_se")
        activated = bn_relu(x, name=f"{name}_preact")
        residual = self.branch(gate(activated, position="pre"), width, stride, gate, name)
        shortcut = self.build_shortcut(
            activated if block == 1 else x, self.expansion * width, stride, name
        )
        both = [gate(residual), gate(shortcut, position="identity")]
        return gate(layers.Add(name=f"{name}_add")(both), position="post")

    def branch(self, x, width, stride, gate, name):
        """3x3(relu(bn(3x3(x))))."""
        x = gated_conv_bn_relu(x, width, 3, gate, stride=stride, name=f"{name}_conv1")
        return conv(x, width, 3, name=f"{name}_conv2")

    def build_shortcut(self, x, width, stride, name):
        """x itself, or in the shape of the unit's output."""
        if stride == 1 and x.shape[channel_axis()] == width:
            return x
        if self.shortcut == "conv":
            return conv(x, width, 1, stride=stride, name=f"{name}_shortcut")
        if stride > 1:
            x = layers.MaxPooling2D(1, stride, name=f"{name}_shortcut_pool")(x)
        return PadChannels(width, name=f"{name}_shortcut")(x)


@dataclass(frozen=True)
class PreActBottleneck(PreActResNet):
    """Images (N, H, W, 3) -> feature map (N, H/4, W/4, 256 x widen), by bottleneck units.

    stride_on  which convolution has the stride: 1, the first 1x1, as in resnet-pre-act.lua; 2, the
               3x3, in some ports
    """

    stride_on: int = 1

    expansion: ClassVar[int] = 4

    def branch(self, x, width, stride, gate, name):
        """1x1(relu(bn(3x3(relu(bn(1x1(x)))))))."""
        first, second = (stride, 1) if self.stride_on == 1 else (1, stride)
        x = conv_bn_relu(x, width, 1, stride=first, name=f"{name}_conv1")
        x = gated_conv_bn_relu(x, width, 3, gate, stride=second, name=f"{name}_conv2")
        return conv(x, self.expansion * width, 1, name=f"{name}_conv3")


SEResNet110 = small(PreActResNet((18, 18, 18), shortcut="pad"), name="se_resnet110")
SEResNet164 = small(PreActBottleneck((18, 18, 18)), name="se_resnet164")
SEWideResNet16x8 = small(PreActResNet((2, 2, 2), widen=8), name="se_wide_resnet16x8")
