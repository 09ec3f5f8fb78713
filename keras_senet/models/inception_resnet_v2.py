"""SE-Inception-ResNet-v2: Szegedy et al., 1602.07261, as TF-slim built it, with SE blocks by the
paper's rule.

The authors published no file of theirs. The paper's 11.75 GFLOPs fit no variant that could be built
(this one has 13.16), so theirs was another; Keras, timm and Cadene's port agree on this one.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, NamedTuple

from keras import layers

from keras_senet.initializers import he_normal
from keras_senet.models.blocks import (
    Spec,
    bn_relu,
    channel_axis,
    require_standard,
    squeeze_excite,
)
from keras_senet.models.constructor import application
from keras_senet.preprocessing import IMAGENET
from keras_senet.se import SE

# Rows of (width, kernel) or (width, kernel, stride): strided ones have no padding
Path = tuple[tuple, ...]


class Block(NamedTuple):
    """Residual blocks of a stage: branches are joined, projected to `width`, scaled, and added."""

    paths: tuple[Path, ...]
    width: int
    scale: float
    last_scale: float  # of the stage's last block; without a ReLU after it where it differs


class Reduction(NamedTuple):
    """Branches that are joined, a 3x3 pooling among them."""

    paths: tuple[Path, ...]
    pool: str
    projection: int  # 1x1 after the pool; 0 is none


STEM = ((32, 3, 2), (32, 3, "valid"), (64, 3)), ((80, 1), (192, 3, "valid"))
# stage: what leads into it, and its residual blocks
STAGES = {
    3: (
        Reduction((((96, 1),), ((48, 1), (64, 5)), ((64, 1), (96, 3), (96, 3))), "avg", 64),
        Block((((32, 1),), ((32, 1), (32, 3)), ((32, 1), (48, 3), (64, 3))), 320, 0.17, 0.17),
    ),
    4: (
        Reduction((((384, 3, 2),), ((256, 1), (256, 3), (384, 3, 2))), "max", 0),
        Block((((192, 1),), ((128, 1), (160, (1, 7)), (192, (7, 1)))), 1088, 0.10, 0.10),
    ),
    5: (
        Reduction(
            (((256, 1), (384, 3, 2)), ((256, 1), (288, 3, 2)), ((256, 1), (288, 3), (320, 3, 2))),
            "max",
            0,
        ),
        Block((((192, 1),), ((192, 1), (224, (1, 3)), (256, (3, 1)))), 2080, 0.20, 1.0),
    ),
}


@dataclass(frozen=True)
class InceptionResNetV2(Spec):
    """Images (N, H, W, 3) -> feature map (N, H/32 - 1, W/32 - 1, 1536) or so: most strides have no
    padding.

    depths          residual blocks in stages 3, 4 and 5
    epsilon         of batch normalisation, TF-slim's
    scale_first     whether the residual is scaled before the SE block rather than after it; the
                    sources fix neither
    se_reductions   whether the two modules that halve the size have an SE block too
    se              the SE blocks, on each residual, or None for the plain network
    """

    depths: tuple[int, int, int] = (10, 20, 10)
    epsilon: float = 1e-3
    scale_first: bool = False
    se_reductions: bool = False
    se: SE | None = SE()

    stem_layer: ClassVar[str] = "stem_part1_conv1"

    def __post_init__(self):
        require_standard(self.se, "Inception-ResNet-v2")

    def levels(self, x):
        """The feature maps at strides of about 4, 8, 16 and 32."""
        for i, path in enumerate(STEM):
            x = self.path(x, path, f"stem_part{i + 1}")
            if i == 0:
                x = layers.MaxPooling2D(3, 2, name="stem_pool")(x)
        yield x
        x = layers.MaxPooling2D(3, 2, name="stage3_pool")(x)
        for (stage, (reduction, block)), depth in zip(STAGES.items(), self.depths, strict=True):
            x = self.reduction(x, stage, reduction)
            for i in range(depth):
                x = self.unit(x, stage, i + 1, block, last=i + 1 == depth)
            if stage < max(STAGES):
                yield x
        yield self.conv_bn_relu(x, 1536, 1, "same", 1, "final_conv")

    def reduction(self, x, stage, row):
        """The joined branches of mixed_5b, mixed_6a or mixed_7a."""
        name = f"stage{stage}_mixed"
        strided = row.pool == "max"
        branches = [self.path(x, path, f"{name}_branch{i}") for i, path in enumerate(row.paths)]
        if strided:
            branches.append(layers.MaxPooling2D(3, 2, name=f"{name}_pool")(x))
        else:
            # The mean is without the padding
            pooled = layers.AveragePooling2D(3, 1, padding="same", name=f"{name}_pool")(x)
            branches.append(
                self.conv_bn_relu(pooled, row.projection, 1, "same", 1, f"{name}_pool_proj")
            )
        x = layers.Concatenate(axis=channel_axis(), name=f"{name}_concat")(branches)
        gated = self.se_reductions and strided
        return squeeze_excite(self.se, x, stage=stage, name=f"{name}_se") if gated else x

    def unit(self, x, stage, block, row, last):
        """relu(x + scale * se(up(branches)))."""
        name = f"stage{stage}_block{block}"
        scale = row.last_scale if last else row.scale
        branches = [self.path(x, path, f"{name}_branch{i}") for i, path in enumerate(row.paths)]
        joined = layers.Concatenate(axis=channel_axis(), name=f"{name}_concat")(branches)
        residual = layers.Conv2D(row.width, 1, kernel_initializer=he_normal(), name=f"{name}_up")(
            joined
        )
        gate = partial(squeeze_excite, self.se, stage=stage, name=f"{name}_se")
        if scale == 1.0:
            residual = gate(residual)
        else:
            scaled = layers.Rescaling(scale, name=f"{name}_scale")
            residual = gate(scaled(residual)) if self.scale_first else scaled(gate(residual))
        x = layers.Add(name=f"{name}_add")([x, residual])
        return x if last and scale != row.scale else layers.ReLU(name=f"{name}_relu")(x)

    def path(self, x, rows, name):
        """Convolutions in turn, each with batch normalisation and ReLU."""
        for i, (width, kernel, *step) in enumerate(rows):
            stride = step[0] if step and step[0] != "valid" else 1
            padding = "valid" if step else "same"
            x = self.conv_bn_relu(x, width, kernel, padding, stride, f"{name}_conv{i + 1}")
        return x

    def conv_bn_relu(self, x, width, kernel, padding, stride, name):
        x = layers.Conv2D(
            width,
            kernel,
            stride,
            padding,
            use_bias=False,
            kernel_initializer=he_normal(),
            name=name,
        )(x)
        return bn_relu(x, epsilon=self.epsilon, name=name)


SEInceptionResNetV2 = application(
    InceptionResNetV2(),
    name="se_inception_resnet_v2",
    input_size=299,
    min_size=75,
    preprocessing=replace(IMAGENET, size=299, crop_fraction=299 / 352),  # paper, Section 4.1
)
