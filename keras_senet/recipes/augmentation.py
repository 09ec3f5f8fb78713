"""What is done to training images: plain data."""

import math
from dataclasses import dataclass

from keras_senet.fields import check_field, require_types

LARGEST = 4096  # pixels, operations: more is a mistake


@dataclass(frozen=True)
class Augmentation:
    """How training images are changed at random; every draw follows from (seed, epoch, place in the
    epoch).

    Augmentation:
    min_area               smallest fraction of the area that a random-size crop keeps, at aspect
                           3/4..4/3; 0: no such crop. The authors' ImageNet: 0.08 (README,
                           fb.resnet.torch)
    pad_and_crop           pixels around the image from which a crop of its size is taken. CIFAR: 4
                           (Sec. 6)
    reflect                whether these are the image's reflection and not black (Wide ResNet's
                           authors)
    flip                   whether to mirror half of the images (ImageNet, CIFAR)
    rotation               degrees, within +-. The authors' README: 10
    pixel_jitter           added to each of the H*W*C values, within +-. The authors' README: 20
    color_jitter           brightness, contrast and saturation times 1 +- this (fb.resnet.torch:
                           0.4)
    randaugment            operations per image, 0: none (arXiv 1909.13719)
    randaugment_magnitude  their strength, 0..1
    random_erasing         probability of a rectangle of noise (arXiv 1708.04896)
    cutout                 side of a black square in pixels, 0: none. CIFAR-10: 16, CIFAR-100: 8
                           (arXiv 1708.04552)
    mixup                  alpha of the Beta distribution of the shares of two blended images, 0:
                           off (arXiv 1710.09412)
    cutmix                 alpha of that of the area which comes from another image, 0: off (arXiv
                           1905.04899)

    Raises:
        ValueError: for any other value, naming the field, the value and what is accepted.
    """

    min_area: float = 0.0
    pad_and_crop: int = 0
    reflect: bool = False
    flip: bool = False
    rotation: float = 0.0
    pixel_jitter: float = 0.0
    color_jitter: float = 0.0
    randaugment: int = 0
    randaugment_magnitude: float = 0.5
    random_erasing: float = 0.0
    cutout: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self):
        require_types(self)
        for field in ("min_area", "color_jitter", "randaugment_magnitude", "random_erasing"):
            check_field(self, field, 0 <= getattr(self, field) <= 1, "from 0 to 1")
        for field in ("pad_and_crop", "cutout"):
            check_field(self, field, 0 <= getattr(self, field) <= LARGEST, f"from 0 to {LARGEST}")
        check_field(self, "rotation", 0 <= self.rotation <= 180, "from 0 to 180")
        check_field(self, "pixel_jitter", 0 <= self.pixel_jitter <= 255, "from 0 to 255")
        check_field(self, "randaugment", 0 <= self.randaugment <= 100, "from 0 to 100")
        for field in ("mixup", "cutmix"):
            check_field(self, field, 0 <= getattr(self, field) < math.inf, "finite and at least 0")

    @property
    def mixes(self) -> bool:
        """Whether images are mixed in pairs."""
        return bool(self.mixup or self.cutmix)
