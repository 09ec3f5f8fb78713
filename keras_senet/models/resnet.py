"""SE-ResNet, SE-ResNeXt and SENet-154 for ImageNet; SE-ResNet with post-activation for 32 x 32
images.

Sources: paper Table 1 and its appendix on SENet-154; the authors' prototxts for where strides and
biases are.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, ClassVar, Self

from keras import layers

from keras_senet.fields import check_field
from keras_senet.models.blocks import (
    CAFFE_LAYERS,
    GlobalPool,
    Sampling,
    Spec,
    build_stages,
    squeeze_excite,
)
from keras_senet.models.constructor import application, small
from keras_senet.models.units import Basic, Bottleneck, Stem, Unit
from keras_senet.se import SE
from keras_senet.weights.names import Naming

# The names of layers in published files. The authors' Caffe networks:
CAFFE = Naming(
    (
        (r"conv1_(\d)/3x3(?:_s2)?", r"stem_conv\1"),
        (r"(stage.*)_1x1_reduce", r"\1_conv1"),
        (r"(stage.*)_3x3", r"\1_conv2"),
        (r"(stage.*)_1x1_increase", r"\1_conv3"),
        (r"(stage.*)_1x1_proj", r"\1_shortcut"),
        *CAFFE_LAYERS,
    ),
    (r"conv([2-5])_(\d{1,3})(?=_)", r"stage\1_block\2"),
)
TORCH_UNIT = (
    (r"(stage.*)\.conv(\d)", r"\1_conv\2"),
    (r"(stage.*)\.bn(\d)", r"\1_conv\2_bn"),
    (r"(stage.*)\.(?:se|se_module)\.fc(?:1|\.0)", r"\1_se_reduce"),  # fc.0: moskomule/senet.pytorch
    (r"(stage.*)\.(?:se|se_module)\.fc(?:2|\.2)", r"\1_se_expand"),
)
TORCH_BLOCKS = (
    r"layer([1-9]\d?)\.(\d{1,3})",
    lambda match: f"stage{int(match[1]) + 1}_block{int(match[2]) + 1}",
)
# The authors' networks as ported by Cadene, timm's legacy_*: timm/models/senet.py
CADENE = Naming(
    (
        (r"layer0\.conv(\d)", r"stem_conv\1"),
        (r"layer0\.bn(\d)", r"stem_conv\1_bn"),
        *TORCH_UNIT,
        (r"(stage.*)\.downsample\.0", r"\1_shortcut"),
        (r"(stage.*)\.downsample\.1", r"\1_shortcut_bn"),
        (r"last_linear", r"predictions"),
    ),
    TORCH_BLOCKS,
    marks=("layer0.conv1.weight",),
)


@cache
def timm(stem: int, pooled_shortcut: bool) -> Naming:
    """timm's names (models/resnet.py): so many stem convolutions, shortcuts pooled or not."""
    first = 1 if pooled_shortcut else 0
    deep = [
        row
        for i in range(3)
        for row in (
            (rf"conv1\.{3 * i}", f"stem_conv{i + 1}"),
            (rf"conv1\.{3 * i + 1}", f"stem_conv{i + 1}_bn"),
        )
    ]
    rows = (
        *(deep if stem > 1 else [(r"conv1", "stem_conv1")]),
        (r"bn1", f"stem_conv{stem}_bn"),
        *TORCH_UNIT,
        (rf"(stage.*)\.downsample\.{first}", r"\1_shortcut"),
        (rf"(stage.*)\.downsample\.{first + 1}", r"\1_shortcut_bn"),
        (r"fc", r"predictions"),
    )
    return Naming(rows, TORCH_BLOCKS, marks=("bn1.weight", "layer1.0."))


# The classes of specs whose own fields were those of their units, and their units
EARLIER = {
    "ResNet": ("ResNet", Bottleneck),
    "BasicResNet": ("ResNet", Basic),
    "SmallResNet": ("SmallResNet", Basic),
    "ShakeResNeXt": ("ShakeResNeXt", Bottleneck),
}


class ResidualNetwork(Spec):
    """Stages of residual units after a stem; each after the first halves the size and doubles the
    width.

    base         the width of the first stage, which a unit expands
    first_stage  its number, in the layers' names
    stem_stride  of its input
    """

    depths: tuple[int, ...]
    unit: Unit
    stem: Stem
    output_stride: int = 32

    base: ClassVar[int] = 64
    first_stage: ClassVar[int] = 1
    stem_stride: ClassVar[int] = 1

    @property
    def width(self) -> int:
        """Channels of the first stage's output."""
        return self.base * self.unit.expansion

    def levels(self, x) -> Iterator:
        where = self.first_stage, self.stem_stride, self.output_stride
        return build_stages(self.stem(x), self.build_unit, self.depths, *where)

    def build_unit(self, x, stage: int, block: int, scale: int, sampling: Sampling):
        """relu(F(x) + shortcut(x)), with an SE block at one of its places."""
        name = f"stage{stage}_block{block}"
        gate = partial(squeeze_excite, self.se, stage=stage, name=f"{name}_se")
        residual = self.residual(gate(x, position="pre"), scale, sampling, stage, name)
        shortcut = self.unit.shortcut(x, self.base, scale, sampling, name)
        x = layers.Add(name=f"{name}_add")([residual, gate(shortcut, position="identity")])
        return gate(layers.ReLU(name=f"{name}_relu")(x), position="post")

    def residual(self, x, scale: int, sampling: Sampling, stage: int, name: str):
        """F(x), gated at its end in the standard position."""
        gate = partial(squeeze_excite, self.se, stage=stage, name=f"{name}_se")
        return gate(self.unit.branch(x, self.base, scale, sampling, gate, name))

    @staticmethod
    def upgrade(stored: dict[str, Any]) -> dict[str, Any]:
        """Also of earlier versions, where a spec had the fields of its unit."""
        if "unit" in stored or str(stored.get("class")) not in EARLIER:
            return stored
        stored = dict(stored)
        stored["class"], unit = EARLIER[stored["class"]]
        # Each had the fields of all units, and ignored some.
        fields = {"class": unit.__name__} | (vars(Basic()) if unit is Basic else {})
        for name in Bottleneck.__dataclass_fields__ | Basic.__dataclass_fields__:
            if name in stored and name in unit.__dataclass_fields__:
                fields[name] = stored[name]
            stored.pop(name, None)
        if stored.pop("shortcut_pool", False):
            fields["projection"] = "pool"
        names = {"rows": "stem", "pool": "stem_pool"}
        stem = {new: stored.pop(old) for new, old in names.items() if old in stored}
        if stored["class"] != "ResNet":
            stored.pop("output_stride", None)
        return stored | {"unit": fields, "stem": stem}


@dataclass(frozen=True)
class ResNet(ResidualNetwork):
    """Images (N, H, W, 3) -> feature map (N, H/32, W/32, C), C 2048 for `Bottleneck` units.

    depths         units in stages 2, 3, ...
    unit           `Bottleneck` or `Basic`
    stem           the convolutions and the pooling before stage 2
    output_stride  32, or 16 or 8: then the last stages keep the size and are dilated, with the same
                   weights
    se             the SE blocks, or None for the plain network
    """

    depths: tuple[int, ...]
    unit: Unit = Bottleneck()
    stem: Stem = Stem()
    output_stride: int = 32
    se: SE | None = SE()

    first_stage: ClassVar[int] = 2
    stem_stride: ClassVar[int] = 4
    # A dilated network has the same weights, which it applies at other places.
    IGNORED_FIELDS: ClassVar[tuple[str, ...]] = ("output_stride",)

    def __post_init__(self):
        check_field(self, "output_stride", self.output_stride in (8, 16, 32), "8, 16 or 32")

    @property
    def forms(self) -> Mapping[str, Self]:
        """The authors' networks pool as Caffe does, timm's as PyTorch does."""
        return {
            family: replace(
                self,
                unit=self.unit.published_by(family),
                stem=replace(self.stem, pool="padded" if family == "timm" else "ceil"),
            )
            for family in self.unit.families
        }

    @property
    def namings(self) -> Mapping[str, Naming]:
        pooled = self.unit.projection == "pool"
        found = {"caffe": CAFFE, "cadene": CADENE, "timm": timm(len(self.stem.rows), pooled)}
        return {family: found[family] for family in self.unit.families if family in found}


@dataclass(frozen=True)
class SmallResNet(ResidualNetwork):
    """Images (N, H, W, 3) -> feature map (N, H/4, W/4, 64), for 32 x 32 images: He et al.,
    1512.03385, Section 4.2.

    depths  units in stages 1, 2, 3

    Shortcuts that change the shape are projections (1x1 convolution and batch normalisation).
    """

    depths: tuple[int, ...]
    unit: Unit = Basic()
    stem: Stem = Stem(((3, 16, 1),), pool=None)
    se: SE | None = SE()

    base: ClassVar[int] = 16


resnext_unit = partial(Bottleneck, groups=32, group_width=4, stride_on=2)
resnext = partial(ResNet, unit=resnext_unit())
senet = partial(
    ResNet,
    unit=Bottleneck(groups=64, group_width=4, stride_on=2, reduce_by=2, projection=3),
    stem=Stem(((3, 64, 2), (3, 64, 1), (3, 128, 1))),
)
# Stems of ResNet-C and -D (1812.01187, Figure 2), and timm's "tiered" one
padded = Stem(pool="padded")
deep = Stem(((3, 32, 2), (3, 32, 1), (3, 64, 1)), pool="padded")
tiered = Stem(((3, 24, 2), (3, 32, 1), (3, 64, 1)), pool="padded")

# constructor                      depths
SEResNet18 = application(ResNet((2, 2, 2, 2), Basic()), name="se_resnet18")
SEResNet34 = application(ResNet((3, 4, 6, 3), Basic()), name="se_resnet34")
SEResNet50 = application(ResNet((3, 4, 6, 3)), name="se_resnet50")
SEResNet101 = application(ResNet((3, 4, 23, 3)), name="se_resnet101")
SEResNet152 = application(ResNet((3, 8, 36, 3)), name="se_resnet152")
SEResNeXt50 = application(resnext((3, 4, 6, 3)), name="se_resnext50")
SEResNeXt101 = application(resnext((3, 4, 23, 3)), name="se_resnext101")
SENet154 = application(senet((3, 8, 36, 3)), name="senet154", head=GlobalPool(dropout=0.2))
SEResNet20 = small(SmallResNet((3, 3, 3)), name="se_resnet20")
SEResNet32 = small(SmallResNet((5, 5, 5)), name="se_resnet32")
SEResNet56 = small(SmallResNet((9, 9, 9)), name="se_resnet56")

# Not in the paper, but with published weights in timm's form: SEResNeXt26 is in the authors' form.
SEResNeXt26 = application(resnext((2, 2, 2, 2)), name="se_resnext26")
SEResNeXt26D = application(
    ResNet((2, 2, 2, 2), resnext_unit(projection="pool"), deep), name="se_resnext26d"
)
SEResNeXt26T = application(
    ResNet((2, 2, 2, 2), resnext_unit(projection="pool"), tiered), name="se_resnext26t"
)
SEResNeXt101_32x8d = application(
    ResNet((3, 4, 23, 3), resnext_unit(group_width=8), padded), name="se_resnext101_32x8d"
)
SEResNeXt101D_32x8d = application(
    ResNet((3, 4, 23, 3), resnext_unit(group_width=8, projection="pool"), deep),
    name="se_resnext101d_32x8d",
)
SEResNeXt101_64x4d = application(
    ResNet((3, 4, 23, 3), resnext_unit(groups=64), padded), name="se_resnext101_64x4d"
)
SEResNet152D = application(
    ResNet((3, 8, 36, 3), Bottleneck(stride_on=2, projection="pool"), deep),
    name="se_resnet152d",
    input_size=256,
)
