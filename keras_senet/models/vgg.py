"""SE-VGG-16 with batch normalisation: Simonyan and Zisserman, 1409.1556; the paper's Table 2 and
Section 3.3.
"""

from dataclasses import dataclass
from typing import ClassVar

from keras import layers

from keras_senet.initializers import he_normal
from keras_senet.models.blocks import (
    Spec,
    classifier,
    conv_bn_relu,
    require_standard,
    squeeze_excite,
)
from keras_senet.models.constructor import application
from keras_senet.se import SE


@dataclass(frozen=True)
class VGG(Spec):
    """Images (N, H, W, 3) -> feature map (N, H/32, W/32, 512).

    depths    convolutions in stages 1 .. 5, of 64, 128, 256, 512 and 512 channels
    use_bias  whether they have biases before batch normalisation, as in some ports
    se        the SE blocks, after each convolution's ReLU, or None for the plain network
    """

    depths: tuple[int, ...] = (2, 2, 3, 3, 3)
    use_bias: bool = False
    se: SE | None = SE()

    stem_layer: ClassVar[str] = "stage1_block1_conv"

    def __post_init__(self):
        require_standard(self.se, "VGG")

    def levels(self, x):
        """The feature maps before each pooling, at strides 1 .. 16, and after the last, at 32."""
        for i, depth in enumerate(self.depths):
            stage, width = i + 1, min(64 * 2**i, 512)
            for block in range(depth):
                name = f"stage{stage}_block{block + 1}"
                x = conv_bn_relu(x, width, 3, use_bias=self.use_bias, name=f"{name}_conv")
                x = squeeze_excite(self.se, x, stage=stage, name=f"{name}_se")
            yield x
            x = layers.MaxPooling2D(2, 2, name=f"stage{stage}_pool")(x)
        yield x


def dense_head(x, classes, activation, width=4096):
    """(N, H, W, C) -> (N, classes): two dense layers with ReLU, dropout of 0.5, the classifier."""
    if None in x.shape[1:]:
        raise ValueError(
            "VGG's dense layers need a fixed size: pass an `input_shape` without None, or "
            "`include_top=False`. "
            f"Received: a feature map of {tuple(x.shape)}"
        )
    x = layers.Flatten(name="flatten")(x)
    for i in (1, 2):
        x = layers.Dense(width, activation="relu", kernel_initializer=he_normal(), name=f"fc{i}")(x)
        x = layers.Dropout(0.5, name=f"fc{i}_dropout")(x)
    return classifier(x, classes, activation)


SEVGG16 = application(VGG(), name="se_vgg16", head=dense_head)
