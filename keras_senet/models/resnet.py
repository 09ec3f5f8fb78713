"""SE-ResNet, SE-ResNeXt and SENet-154 for ImageNet; SE-ResNet with post-activation for 32 x 32
images.

Sources: paper Table 1 and its appendix on SENet-154; the authors' prototxts for where strides and
biases are.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from keras import layers

from keras_senet.models.blocks import (
    Spec,
    ceil_max_pool,
    channel_axis,
    conv_bn,
    conv_bn_relu,
    gated_conv_bn_relu,
    global_pool,
    max_pool,
    squeeze_excite,
    stages,
)
from keras_senet.models.constructor import application
from keras_senet.se import SE

STEM_POOLS = {"ceil": ceil_max_pool, "padded": max_pool, None: None}


@dataclass(frozen=True)
class ResNet(Spec):
    """Images (N, H, W, 3) -> feature map (N, H/32, W/32, 2048), by bottleneck units.

    depths       units in stages 2, 3, ...; each stage after the first halves the size and doubles
                 the widths
    groups       of the 3x3 convolution
    group_width  channels of a group in stage 2
    stride_on    which of a unit's convolutions has the stride: 1, the first 1x1, in the authors'
                 SE-ResNets; 2, the 3x3
    reduce_by    how much narrower than the 3x3 convolution the first 1x1 is (SENet-154: 2)
    projection   kernel of the shortcuts' convolutions that have a stride (SENet-154: 3)
    stem         rows of (kernel, width, stride)
    stem_pool    behind it: "ceil", as Caffe pools; "padded", as PyTorch's networks; or None
    shortcut_pool
                 whether shortcuts with a stride average 2x2 pixels in front of a convolution
                 without one (ResNet-D, 1812.01187, Figure 2c)
    output_stride
                 32, or 16 or 8: then the last stages keep the size and are dilated, with the same
                 weights
    se           the SE blocks, or None for the plain network
    """

    depths: tuple[int, ...]
    groups: int = 1
    group_width: int = 64
    stride_on: int = 1
    reduce_by: int = 1
    projection: int = 1
    stem: tuple[tuple[int, int, int], ...] = ((7, 64, 2),)
    stem_pool: str | None = "ceil"
    shortcut_pool: bool = False
    output_stride: int = 32
    se: SE | None = SE()

    first_stage: ClassVar[int] = 2
    stem_stride: ClassVar[int] = 4
    width: ClassVar[int] = 256  # of the first stage's output
    families: ClassVar[dict[str, dict]] = {
        "caffe": {"stem_pool": "ceil"},
        "legacy": {"stem_pool": "ceil"},
        "later": {"stem_pool": "padded"},
    }

    def __post_init__(self):
        if self.stride_on not in (1, 2):
            raise ValueError(f"`stride_on` must be 1 or 2. Received: stride_on={self.stride_on!r}")
        if self.stem_pool not in STEM_POOLS:
            raise ValueError(
                f"`stem_pool` must be one of {list(STEM_POOLS)}. Received: stem_pool={self.stem_pool!r}"
            )
        if self.output_stride not in (8, 16, 32):
            raise ValueError(
                f"`output_stride` must be 8, 16 or 32. Received: output_stride={self.output_stride!r}"
            )

    def published_by(self, family):
        """As `Spec.published_by`; the authors' networks without groups have the stride in the first
        1x1.
        """
        first = family != "later" and self.groups == 1
        return replace(super().published_by(family), stride_on=1 if first else 2)

    def levels(self, x):
        """The feature map at the end of each stage."""
        x = self.build_stem(x)
        for stage, block, scale, sampling in stages(
            self.depths, self.first_stage, self.stem_stride, self.output_stride
        ):
            x = self.unit(x, stage, block, scale, sampling)
            if block == self.depths[stage - self.first_stage]:
                yield x

    def build_stem(self, x):
        for i, (kernel, width, stride) in enumerate(self.stem):
            x = conv_bn_relu(x, width, kernel, stride=stride, name=f"stem_conv{i + 1}")
        pool = STEM_POOLS[self.stem_pool]
        return pool(x, name="stem_pool") if pool else x

    def unit(self, x, stage, block, scale, sampling):
        """relu(F(x) + shortcut(x)), with an SE block at one of its places."""
        name = f"stage{stage}_block{block}"
        gate = partial(squeeze_excite, self.se, stage=stage, name=f"{name}_se")
        residual = self.residual(gate(x, position="pre"), scale, sampling, stage, name)
        shortcut = gate(self.shortcut(x, scale * self.width, sampling, name), position="identity")
        x = layers.Add(name=f"{name}_add")([residual, shortcut])
        return gate(layers.ReLU(name=f"{name}_relu")(x), position="post")

    def residual(self, x, scale, sampling, stage, name):
        """F(x), gated at its end in the standard position."""
        gate = partial(squeeze_excite, self.se, stage=stage, name=f"{name}_se")
        return gate(self.branch(x, scale, sampling, gate, name))

    def branch(self, x, scale, sampling, gate, name):
        """bn(1x1(relu(bn(3x3(relu(bn(1x1(x))))))))."""
        width = self.groups * self.group_width * scale
        stride, dilation, later = sampling
        first, second = (
            ((stride, 1), (1, later)) if self.stride_on == 1 else ((1, 1), (stride, dilation))
        )
        x = conv_bn_relu(x, width // self.reduce_by, 1, stride=first[0], name=f"{name}_conv1")
        options = {"stride": second[0], "dilation": second[1], "groups": self.groups}
        x = gated_conv_bn_relu(x, width, 3, gate, **options, name=f"{name}_conv2")
        return conv_bn(x, scale * self.width, 1, name=f"{name}_conv3")

    def shortcut(self, x, width, sampling, name):
        """x, or its projection where the unit changes the shape."""
        if sampling.stride == 1 and x.shape[channel_axis()] == width:
            return x
        name = f"{name}_shortcut"
        first_stage = width == self.width
        if self.shortcut_pool and not first_stage:
            # "same" is PyTorch's rounding up: an odd size's last row is averaged over what is there
            x = layers.AveragePooling2D(2, sampling.stride, padding="same", name=f"{name}_pool")(x)
            return conv_bn(x, width, 1, name=name)
        kernel = 1 if first_stage else self.projection
        return conv_bn(
            x, width, kernel, stride=sampling.stride, dilation=sampling.dilation, name=name
        )


@dataclass(frozen=True)
class BasicResNet(ResNet):
    """Images (N, H, W, 3) -> feature map (N, H/32, W/32, 512), by units of two 3x3 convolutions.

    residual_relu  whether a ReLU stands between the last batch normalisation and the SE block, as
                   in timm's legacy_seresnet18 and 34; these networks are not in the paper, whose
                   rule for residual units has none
    """

    residual_relu: bool = False

    width: ClassVar[int] = 64
    families: ClassVar[dict[str, dict]] = {
        "legacy": {"stem_pool": "ceil", "residual_relu": True},
        "later": {"stem_pool": "padded", "residual_relu": False},
        "paper": {
            "stem_pool": "ceil",
            "residual_relu": False,
        },  # none are published, but files of this package are
    }
    published_by = Spec.published_by  # the stride is in the first 3x3 in all of them

    def branch(self, x, scale, sampling, gate, name):
        """bn(3x3(relu(bn(3x3(x)))))."""
        stride, dilation, later = sampling
        options = {"stride": stride, "dilation": dilation}
        x = gated_conv_bn_relu(x, scale * self.width, 3, gate, **options, name=f"{name}_conv1")
        last = conv_bn_relu if self.residual_relu else conv_bn
        return last(x, scale * self.width, 3, dilation=later, name=f"{name}_conv2")


@dataclass(frozen=True)
class SmallResNet(BasicResNet):
    """Images (N, H, W, 3) -> feature map (N, H/4, W/4, 64), for 32 x 32 images: He et al.,
    1512.03385, Section 4.2.

    Shortcuts that change the shape are projections (1x1 convolution and batch normalisation).
    """

    stem: tuple[tuple[int, int, int], ...] = ((3, 16, 1),)
    stem_pool: str | None = None

    first_stage: ClassVar[int] = 1
    stem_stride: ClassVar[int] = 1
    width: ClassVar[int] = 16
    families: ClassVar[dict[str, dict]] = {}


resnext = partial(ResNet, groups=32, group_width=4, stride_on=2)
senet = partial(
    ResNet,
    groups=64,
    group_width=4,
    stride_on=2,
    reduce_by=2,
    projection=3,
    stem=((3, 64, 2), (3, 64, 1), (3, 128, 1)),
)
deep_stem = {"stem": ((3, 32, 2), (3, 32, 1), (3, 64, 1))}  # ResNet-C and -D: 1812.01187, Figure 2
tiered_stem = {"stem": ((3, 24, 2), (3, 32, 1), (3, 64, 1))}  # timm's
pytorch = {"stride_on": 2, "stem_pool": "padded"}
resnet_d = {**pytorch, "shortcut_pool": True}
small = partial(application, input_size=32, min_size=8, classes=10)

# constructor                      depths
SEResNet18 = application(BasicResNet((2, 2, 2, 2)), name="se_resnet18")
SEResNet34 = application(BasicResNet((3, 4, 6, 3)), name="se_resnet34")
SEResNet50 = application(ResNet((3, 4, 6, 3)), name="se_resnet50")
SEResNet101 = application(ResNet((3, 4, 23, 3)), name="se_resnet101")
SEResNet152 = application(ResNet((3, 8, 36, 3)), name="se_resnet152")
SEResNeXt50 = application(resnext((3, 4, 6, 3)), name="se_resnext50")
SEResNeXt101 = application(resnext((3, 4, 23, 3)), name="se_resnext101")
SENet154 = application(
    senet((3, 8, 36, 3)), name="senet154", head=partial(global_pool, dropout=0.2)
)
SEResNet20 = small(SmallResNet((3, 3, 3)), name="se_resnet20")
SEResNet32 = small(SmallResNet((5, 5, 5)), name="se_resnet32")
SEResNet56 = small(SmallResNet((9, 9, 9)), name="se_resnet56")

# Not in the paper, but with published weights (the registry's "later" family): SEResNeXt26 is in
# the authors' form.
SEResNeXt26 = application(resnext((2, 2, 2, 2)), name="se_resnext26")
SEResNeXt26D = application(resnext((2, 2, 2, 2), **deep_stem, **resnet_d), name="se_resnext26d")
SEResNeXt26T = application(resnext((2, 2, 2, 2), **tiered_stem, **resnet_d), name="se_resnext26t")
SEResNeXt101_32x8d = application(
    resnext((3, 4, 23, 3), group_width=8, **pytorch), name="se_resnext101_32x8d"
)
SEResNeXt101D_32x8d = application(
    resnext((3, 4, 23, 3), group_width=8, **deep_stem, **resnet_d), name="se_resnext101d_32x8d"
)
SEResNeXt101_64x4d = application(
    resnext((3, 4, 23, 3), groups=64, **pytorch), name="se_resnext101_64x4d"
)
SEResNet152D = application(
    ResNet((3, 8, 36, 3), **deep_stem, **resnet_d), name="se_resnet152d", input_size=256
)
