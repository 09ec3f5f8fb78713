"""SE-Shake-Shake-26 2x96d and SE-Shake-Even-29 2x4x64d, for 32 x 32 images: the paper's Tables 4
and 5.

Source: Gastaldi, 1705.07485, and its authors' shakeshakeblock.lua (CIFAR-10) and shakeshake.lua
(CIFAR-100).
"""

from dataclasses import dataclass
from functools import partial

from keras import layers

from keras_senet.layers import ShakeShake
from keras_senet.models.blocks import (
    Spec,
    bn,
    build_stages,
    channel_axis,
    conv,
    conv_bn,
    gated_conv_bn_relu,
    squeeze_excite,
)
from keras_senet.models.constructor import small
from keras_senet.models.resnet import ResidualNetwork
from keras_senet.models.units import Bottleneck, Stem, Unit
from keras_senet.se import SE


@dataclass(frozen=True)
class ShakeShakeResNet(Spec):
    """Images (N, H, W, 3) -> feature map (N, H/4, W/4, 4 x width), by units of two branches that
    are mixed at random.

    depths    units in stages 1, 2, 3
    width     of the first stage
    backward  whether the backward pass mixes with coefficients of its own ("Shake-Shake"), or
              evenly ("Shake-Even")
    mixed_se  whether one SE block stands on the mixed sum; else each branch has its own, which the
              paper's rule (the branch that is not the identity) says, but the paper itself does not
    se        the SE blocks, or None for the plain network
    """

    depths: tuple[int, ...]
    width: int = 96
    backward: bool = True
    mixed_se: bool = False
    se: SE | None = SE()

    def levels(self, x):
        """The feature map at the end of each stage, the last one after the final ReLU."""
        x = conv_bn(x, 16, 3, name="stem_conv1")
        *levels, last = build_stages(x, self.unit, self.depths)
        yield from levels
        yield layers.ReLU(name="final_relu")(last)

    def unit(self, x, stage, block, scale, sampling):
        """mix(F1(x), F2(x)) + shortcut(x): the ReLU after it begins the next unit's branches."""
        name, width, stride = f"stage{stage}_block{block}", self.width * scale, sampling.stride
        gate = partial(squeeze_excite, self.se, stage=stage)
        shared = partial(gate, name=f"{name}_se")
        given = shared(x, position="pre")
        pair = [
            self.branch(
                given,
                width,
                stride,
                partial(gate, name=f"{name}_branch{i}_se"),
                f"{name}_branch{i}",
            )
            for i in (1, 2)
        ]
        mixed = ShakeShake(backward=self.backward, name=f"{name}_mix")(pair)
        mixed = shared(mixed) if self.mixed_se else mixed
        shortcut = shared(self.shortcut(x, width, stride, name), position="identity")
        return shared(layers.Add(name=f"{name}_add")([mixed, shortcut]), position="post")

    def branch(self, x, width, stride, gate, name):
        """gate(bn(3x3(relu(bn(3x3(relu(x)))))))."""
        x = layers.ReLU(name=f"{name}_relu")(x)
        x = gated_conv_bn_relu(x, width, 3, gate, stride=stride, name=f"{name}_conv1")
        x = conv_bn(x, width, 3, name=f"{name}_conv2")
        return x if self.mixed_se else gate(x)

    def shortcut(self, x, width, stride, name):
        """x, or bn of two halves: 1x1 convolutions of every second pixel, and of the next ones."""
        if stride == 1 and x.shape[channel_axis()] == width:
            return x
        x = layers.ReLU(name=f"{name}_shortcut_relu")(x)
        shifted = layers.Cropping2D(((0, 1), (0, 1)), name=f"{name}_shortcut_crop")(x)
        shifted = layers.ZeroPadding2D(((1, 0), (1, 0)), name=f"{name}_shortcut_shift")(shifted)
        halves = [
            conv(half, width // 2, 1, stride=stride, name=f"{name}_shortcut_conv{i}")
            for i, half in ((1, x), (2, shifted))
        ]
        joined = layers.Concatenate(axis=channel_axis(), name=f"{name}_shortcut_concat")(halves)
        return bn(joined, name=f"{name}_shortcut_bn")


@dataclass(frozen=True)
class ShakeResNeXt(ResidualNetwork):
    """Images (N, H, W, 3) -> feature map (N, H/4, W/4, 1024), by residual units of two branches
    mixed at random.

    depths    units in stages 1, 2, 3
    backward  as in `ShakeShakeResNet`
    """

    depths: tuple[int, ...]
    unit: Unit = Bottleneck(groups=4, stride_on=2)
    stem: Stem = Stem(((3, 64, 1),), pool=None)
    se: SE | None = SE()
    backward: bool = False

    def residual(self, x, scale, sampling, stage, name):
        """mix(F1(x), F2(x)), each branch with an SE block at its end."""
        pair = [
            super(ShakeResNeXt, self).residual(x, scale, sampling, stage, f"{name}_branch{i}")
            for i in (1, 2)
        ]
        return ShakeShake(backward=self.backward, name=f"{name}_mix")(pair)


SEShakeShake26 = small(ShakeShakeResNet((4, 4, 4)), name="se_shake_shake26")
SEShakeEven29 = small(ShakeResNeXt((3, 3, 3)), name="se_shake_even29", classes=100)
