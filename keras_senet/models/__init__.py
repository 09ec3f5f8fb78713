"""The constructors; `__all__` is the registry that the command line and the tests read."""

from keras_senet.models.bn_inception import SEBNInception
from keras_senet.models.constructor import Constructor
from keras_senet.models.inception_resnet_v2 import SEInceptionResNetV2
from keras_senet.models.mobilenet import SEMobileNet
from keras_senet.models.preact import SEResNet110, SEResNet164, SEWideResNet16x8
from keras_senet.models.resnet import (
    SENet154,
    SEResNet18,
    SEResNet20,
    SEResNet32,
    SEResNet34,
    SEResNet50,
    SEResNet56,
    SEResNet101,
    SEResNet152,
    SEResNet152D,
    SEResNeXt26,
    SEResNeXt26D,
    SEResNeXt26T,
    SEResNeXt50,
    SEResNeXt101,
    SEResNeXt101_32x8d,
    SEResNeXt101_64x4d,
    SEResNeXt101D_32x8d,
)
from keras_senet.models.shake_shake import SEShakeEven29, SEShakeShake26
from keras_senet.models.shufflenet import SEShuffleNet
from keras_senet.models.vgg import SEVGG16
from keras_senet.networks import find_network

__all__ = [
    "SEResNet18",
    "SEResNet34",
    "SEResNet50",
    "SEResNet101",
    "SEResNet152",
    "SEResNeXt50",
    "SEResNeXt101",
    "SENet154",
    "SEBNInception",
    "SEInceptionResNetV2",
    "SEVGG16",
    "SEMobileNet",
    "SEShuffleNet",
    "SEResNet20",
    "SEResNet32",
    "SEResNet56",
    "SEResNet110",
    "SEResNet164",
    "SEWideResNet16x8",
    "SEShakeShake26",
    "SEShakeEven29",
    "SEResNet152D",
    "SEResNeXt26",
    "SEResNeXt26D",
    "SEResNeXt26T",
    "SEResNeXt101_32x8d",
    "SEResNeXt101D_32x8d",
    "SEResNeXt101_64x4d",
]


def get(name: str) -> Constructor:
    """The constructor of this name, such as "SEResNet50".

    Raises:
        ValueError: for an unknown name; it lists the known ones.
    """
    return globals()[find_network(name).name]
