"""SE-BN-Inception: the authors' SE-BN-Inception.prototxt; Ioffe and Szegedy, 1502.03167, for the
plain network.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Self

from keras import layers

from keras_senet.layers.data_format import image_shape
from keras_senet.models.blocks import (
    CAFFE_LAYERS,
    Spec,
    ceil_max_pool,
    channel_axis,
    conv_bn_relu,
    require_standard,
    squeeze_excite,
)
from keras_senet.models.constructor import application
from keras_senet.se import SE
from keras_senet.weights.names import Naming


class Module(NamedTuple):
    """Widths of a module's four branches; a stride of 2 is in the last 3x3 of each and the pool."""

    stage: int
    one: int  # 1x1; 0 is no such branch
    three: tuple[int, int]  # 1x1, 3x3
    double: tuple[int, int, int]  # 1x1, 3x3, 3x3
    pool: str
    projection: int  # 1x1 after the pool; 0 is none
    stride: int = 1


MODULES = (
    #      stage 1x1  3x3         double 3x3       pool   1x1  stride
    Module(3,    64,  (64, 64),   (64, 96, 96),    "avg", 32),     # 3a
    Module(3,    64,  (64, 96),   (64, 96, 96),    "avg", 64),     # 3b
    Module(4,    0,   (128, 160), (64, 96, 96),    "max", 0,   2), # 3c
    Module(4,    224, (64, 96),   (96, 128, 128),  "avg", 128),    # 4a
    Module(4,    192, (96, 128),  (96, 128, 128),  "avg", 128),    # 4b
    Module(4,    160, (128, 160), (128, 160, 160), "avg", 128),    # 4c
    Module(4,    96,  (128, 192), (160, 192, 192), "avg", 128),    # 4d
    Module(5,    0,   (128, 192), (192, 256, 256), "max", 0,   2), # 4e
    Module(5,    352, (192, 320), (160, 224, 224), "avg", 128),    # 5a
    Module(5,    352, (192, 320), (192, 224, 224), "max", 128),    # 5b
)  # fmt: skip


# The authors name the modules by the size of their input, this package by that of their output.
BLOCKS = {
    "3a": "stage3_block1", "3b": "stage3_block2", "3c": "stage4_block1", "4a": "stage4_block2",
    "4b": "stage4_block3", "4c": "stage4_block4", "4d": "stage4_block5", "4e": "stage5_block1",
    "5a": "stage5_block2", "5b": "stage5_block3",
}  # fmt: skip
CAFFE = Naming(
    (
        (r"conv2/3x3_reduce", r"stage2_conv1"),
        (r"conv2/3x3", r"stage2_conv2"),
        (r"(stage.*)/1x1", r"\1_1x1"),
        (r"(stage.*)/3x3_reduce", r"\1_3x3_reduce"),
        (r"(stage.*)/3x3", r"\1_3x3_conv1"),
        (r"(stage.*)/double3x3_reduce", r"\1_double_reduce"),
        (r"(stage.*)/double3x3a", r"\1_double_conv1"),
        (r"(stage.*)/double3x3b", r"\1_double_conv2"),
        (r"(stage.*)/pool_proj", r"\1_pool_proj"),
        *CAFFE_LAYERS,
    ),
    (r"inception_(\d[a-e])", lambda match: BLOCKS.get(match[1], match[0])),
)


@dataclass(frozen=True)
class BNInception(Spec):
    """Images (N, H, W, 3) -> feature map (N, H/32, W/32, 1024).

    modules   the ten modules, in stages by stride: stage n is at a stride of 2^n
    use_bias  whether the convolutions have biases before batch normalisation, as in some ports
    se        the SE blocks, one on each module's concatenation, or None for the plain network

    The modules that halve the size pool with Caffe's rounding up and convolve with padding, which
    give one size for even maps only: at 299 the network does not exist.
    """

    modules: tuple[Module, ...] = MODULES
    use_bias: bool = False
    se: SE | None = SE()

    def __post_init__(self):
        require_standard(self.se, "BN-Inception")

    @property
    def forms(self) -> Mapping[str, Self]:
        return {"caffe": self}

    @property
    def namings(self) -> Mapping[str, Naming]:
        return {"caffe": CAFFE}

    def levels(self, x):
        """The feature maps at strides 4, 8, 16 and 32."""
        conv = partial(conv_bn_relu, use_bias=self.use_bias)
        x = conv(x, 64, 7, stride=2, name="stem_conv1")
        x = conv(ceil_max_pool(x, name="stem_pool"), 64, 1, name="stage2_conv1")
        x = conv(x, 192, 3, name="stage2_conv2")
        yield x
        x = ceil_max_pool(x, name="stage3_pool")
        for stage, modules in itertools.groupby(self.modules, lambda module: module.stage):
            for i, module in enumerate(modules):
                x = self.module(x, module, f"stage{stage}_block{i + 1}")
            yield x

    def module(self, x, module, name):
        """se(concatenation of the branches)."""
        if module.stride > 1:
            _check_even(x)
        conv = partial(conv_bn_relu, use_bias=self.use_bias)
        branches = [conv(x, module.one, 1, name=f"{name}_1x1")] if module.one else []
        for part, widths in (("3x3", module.three), ("double", module.double)):
            y = conv(x, widths[0], 1, name=f"{name}_{part}_reduce")
            for i, width in enumerate(widths[1:]):
                last = i + 2 == len(widths)
                y = conv(
                    y,
                    width,
                    3,
                    stride=module.stride if last else 1,
                    name=f"{name}_{part}_conv{i + 1}",
                )
            branches.append(y)
        branches.append(self.pool(x, module, f"{name}_pool"))
        x = layers.Concatenate(axis=channel_axis(), name=f"{name}_concat")(branches)
        return squeeze_excite(self.se, x, stage=module.stage, name=f"{name}_se")

    def pool(self, x, module, name):
        """3x3 pooling and its projection; Caffe counts the padding in the average."""
        if module.stride > 1:
            return ceil_max_pool(x, name=name)
        if module.pool == "max":
            x = layers.MaxPooling2D(3, 1, padding="same", name=name)(x)
        else:
            x = layers.AveragePooling2D(3, 1, name=name)(
                layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
            )
        return conv_bn_relu(x, module.projection, 1, use_bias=self.use_bias, name=f"{name}_proj")


def _check_even(x):
    sizes = image_shape(x)[:2]
    if any(size is not None and size % 2 for size in sizes):
        raise ValueError(
            "`input_shape` must have sizes at which BN-Inception halves even maps only: "
            "multiples of 32, such as 160, 192, 224, 256, 288 and 320. "
            f"Received: a map of {sizes[0]} x {sizes[1]} before a stride"
        )


SEBNInception = application(BNInception(), name="se_bn_inception")
