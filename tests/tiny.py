"""One small network a family, that every test of all families goes through."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

import numpy as np

import keras_senet
from keras_senet.models.blocks import global_pool
from keras_senet.models.bn_inception import MODULES, BNInception
from keras_senet.models.inception_resnet_v2 import InceptionResNetV2
from keras_senet.models.mobilenet import MobileNet
from keras_senet.models.preact import PreActBottleneck, PreActResNet
from keras_senet.models.resnet import ResNet, SmallResNet, resnext, senet
from keras_senet.models.shake_shake import ShakeResNeXt, ShakeShakeResNet
from keras_senet.models.shufflenet import ShuffleNet
from keras_senet.models.units import Basic
from keras_senet.models.vgg import VGG, dense_head


@dataclass(frozen=True)
class ShortMobileNet(MobileNet):
    """One block a stage, two in one."""

    widths: ClassVar = MobileNet.widths | {2: (128,), 3: (256,), 4: (512, 512), 5: (1024,)}


@dataclass(frozen=True)
class ShortShuffleNet(ShuffleNet):
    """One unit a stage, two in one."""

    units: ClassVar = (1, 2, 1)


class Tiny(NamedTuple):
    spec: object
    width: int  # channels of the feature map
    size: int = 32
    head: object = global_pool

    @property
    def constructor(self):
        return keras_senet.application(
            self.spec, name="tiny", input_size=self.size, classes=10, head=self.head
        )


TINY = {
    "bottleneck": Tiny(ResNet((1, 1)), 512),
    "resnext": Tiny(resnext((1, 1)), 512),
    "senet": Tiny(senet((1, 1)), 512),
    "basic": Tiny(ResNet((1, 1), Basic()), 128),
    "small": Tiny(SmallResNet((1, 1)), 32),
    "preact": Tiny(PreActResNet((1, 1, 1)), 64),
    "preact_pad": Tiny(PreActResNet((2, 1), shortcut="pad"), 32),
    "preact_bottleneck": Tiny(PreActBottleneck((1, 1)), 128),
    "shake_shake": Tiny(ShakeShakeResNet((2, 1), width=16), 32),
    "shake_resnext": Tiny(ShakeResNeXt((1, 1)), 512),
    "bn_inception": Tiny(BNInception(MODULES[:3]), 576, 64),
    "inception_resnet": Tiny(InceptionResNetV2((1, 1, 2)), 1536, 96),
    "vgg": Tiny(VGG((1, 1, 1, 1, 1)), 512, 32, partial(dense_head, width=64)),
    "mobilenet": Tiny(ShortMobileNet(width=0.25), 256),
    "shufflenet": Tiny(ShortShuffleNet(width=0.5), 480),
}


def randomize(model):
    """The model with every variable random, variances above 0."""
    random = np.random.default_rng(0)
    for variable in model.weights:
        positive = variable.path.endswith(("gamma", "moving_variance"))
        variable.assign(
            random.uniform(0.5, 1, variable.shape)
            if positive
            else random.normal(0, 0.1, variable.shape)
        )
    return model
