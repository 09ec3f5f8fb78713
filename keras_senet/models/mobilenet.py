"""SE-MobileNet: Howard et al., 1704.04861; the paper's Table 3, and the authors' SE-MobileNet as
they showed it.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from keras import layers

from keras_senet.fields import check_field
from keras_senet.models.blocks import (
    Spec,
    bn_relu,
    conv_bn,
    conv_bn_relu,
    depthwise,
    require_standard,
    squeeze_excite,
)
from keras_senet.models.constructor import application
from keras_senet.se import SE


@dataclass(frozen=True)
class MobileNet(Spec):
    """Images (N, H, W, 3) -> feature map (N, H/32, W/32, 1024 x width).

    width       factor of all widths, MobileNet's alpha
    gate_first  whether the SE block stands before the pointwise convolution's ReLU rather than
                after it. The authors' file shows that output gated, but not on which side; after
                it follows their rule for VGG.
    se          the SE blocks, one at each pointwise convolution, or None for the plain network

    ReLU rather than ReLU6 and padding on both sides, as in Caffe's MobileNet.
    """

    width: float = 1.0
    gate_first: bool = False
    se: SE | None = SE()

    # The widths of a stage's blocks. Stage n is at a stride of 2^n; its first block has the stride.
    widths: ClassVar[dict[int, tuple[int, ...]]] = {
        1: (64,),
        2: (128, 128),
        3: (256, 256),
        4: (512, 512, 512, 512, 512, 512),
        5: (1024, 1024),
    }

    def __post_init__(self):
        require_standard(self.se, "MobileNet")
        check_field(self, "width", self.width > 0, "above 0")

    def levels(self, x):
        """The feature maps at strides 2, 4, 8, 16 and 32."""
        x = conv_bn_relu(x, self.channels(32), 3, stride=2, name="stem_conv1")
        for stage, widths in self.widths.items():
            for i, width in enumerate(widths):
                stride = 2 if stage > 1 and i == 0 else 1
                x = self.block(x, stage, i + 1, self.channels(width), stride)
            yield x

    def channels(self, width):
        return max(1, int(width * self.width))

    def block(self, x, stage, block, width, stride):
        """se(relu(bn(1x1(relu(bn(depthwise(x))))))), or relu(se(...))."""
        name = f"stage{stage}_block{block}"
        x = depthwise(x, 3, stride=stride, name=f"{name}_depthwise")
        x = bn_relu(x, name=f"{name}_depthwise")
        x = conv_bn(x, width, 1, name=f"{name}_pointwise")
        relu = layers.ReLU(name=f"{name}_pointwise_relu")
        gate = partial(squeeze_excite, self.se, stage=stage, name=f"{name}_se")
        return relu(gate(x)) if self.gate_first else gate(relu(x))


SEMobileNet = application(MobileNet(), name="se_mobilenet")
