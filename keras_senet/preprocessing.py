"""From images of 0..255 RGB to what a network takes."""

from dataclasses import dataclass

import keras
from keras import ops


@dataclass(frozen=True)
class Preprocessing:
    """What turns an image into a network's input: `(x - mean) / std` a channel, of an image of `size` pixels a side.

    `mean` and `std` are in units of 0..255 RGB. `crop_fraction` is the part of the resized image's side that the
    centre crop keeps; `interpolation` ("bilinear" or "bicubic") is that of the resizing, antialiased.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: int = 224
    crop_fraction: float = 0.875
    interpolation: str = "bilinear"

    @classmethod
    def scaled(cls, size):
        """0..255 -> -1..1, for whole images of `size` pixels a side."""
        return cls((127.5, 127.5, 127.5), (127.5, 127.5, 127.5), size, crop_fraction=1.0)

    def normalize(self, images, data_format=None):
        """(..., H, W, 3) of 0..255 RGB, any dtype -> float32, the networks' input."""
        data_format = data_format or keras.config.image_data_format()
        shape = (3,) if data_format == "channels_last" else (3, 1, 1)
        mean, std = (ops.reshape(ops.convert_to_tensor(v, "float32"), shape) for v in (self.mean, self.std))
        return (ops.cast(images, "float32") - mean) / std


# timm's legacy_se* checkpoints (0.485, 0.456, 0.406 and 0.229, 0.224, 0.225 of 0..1)
IMAGENET = Preprocessing(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
