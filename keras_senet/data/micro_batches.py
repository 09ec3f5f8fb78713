"""What batches there can be of some images, and how they are divided."""

from keras_senet.fields import check_argument
from keras_senet.recipes.augmentation import Augmentation


def check_batch_size(batch_size: int, count: int) -> None:
    """Raises ValueError for a batch that is larger than all images, or empty."""
    is_valid = 1 <= batch_size <= count
    accepted = f"from 1 to the number of images, {count}"
    check_argument("batch_size", batch_size, is_valid, accepted)


def check_reflection(augmentation: Augmentation, image_size: int) -> None:
    """Raises ValueError if a border is to be reflected that is as wide as the image."""
    pixels = augmentation.pad_and_crop
    is_valid = not augmentation.reflect or pixels < image_size
    accepted = f"below the image size, {image_size}, to reflect"
    check_argument("pad_and_crop", pixels, is_valid, accepted)


def divide_batch(batch_size: int, replicas: int, mixes: bool) -> int:
    """The size of each micro-batch; an even one if images are mixed in pairs.

    Raises:
        ValueError: if the batch cannot be divided so.
    """
    size, rest = divmod(batch_size, replicas)
    if rest or not size:
        raise ValueError(
            f"`batch_size` must be a multiple of the number of replicas, {replicas}. "
            f"Received: batch_size={batch_size}"
        )
    if mixes and size % 2:
        raise ValueError(
            f"Images are mixed in pairs: `batch_size` must be a multiple of {2 * replicas}, "
            f"twice the number of replicas. Received: batch_size={batch_size}"
        )
    return size
