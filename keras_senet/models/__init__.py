"""The constructors; `__all__` is the registry that the command line and the tests read."""

from typing import Any

from keras_senet.models.bn_inception import SEBNInception
from keras_senet.models.constructor import Constructor
from keras_senet.models.inception_resnet_v2 import SEInceptionResNetV2
from keras_senet.models.mobilenet import SEMobileNet
from keras_senet.models.network import Network as Network
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
from keras_senet.networks import find_row
from keras_senet.weights.metadata import describe, differences

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
    return globals()[find_row(name).name]


def find(spec: Any) -> Constructor:
    """The constructor of an architecture: one of these, or the variant of the most similar one.

    Raises:
        ValueError: for a spec of a class that none of these has.
    """
    same_kind = [each for name in __all__ if type((each := globals()[name]).spec) is type(spec)]
    own = [each for each in same_kind if spec == each.spec]
    if exact := own or [each for each in same_kind if spec in each.spec.forms.values()]:
        return exact[0]
    if not same_kind:
        raise ValueError(f"There is no model with an architecture such as {spec}")
    stored = describe(spec)
    nearest = min(same_kind, key=lambda each: sum(1 for _ in differences(stored, each.spec)))
    return nearest.variant(spec, name=nearest.name)
