"""The recipe of a run for which nobody names one."""

import dataclasses
import math

from keras_senet.recipes.augmentation import Augmentation
from keras_senet.recipes.named import RECIPES
from keras_senet.recipes.recipe import Recipe
from keras_senet.weights.registry import list_weights

# The recipes of datasets that the paper, or the quickstart, trains on
PROTOCOLS = {
    "digits": "digits",
    "cifar10": "cifar10",
    "cifar100": "cifar100",
    "imagenet2012": "imagenet",
    "places365_small": "places365",
}
SMALL = 40  # pixels: images up to this size are for the networks for 32x32 images
THOUSANDS = 2000  # images, of which "finetune-modern" needs thousands, and a GPU
MANY = 20_000  # images, above which SEResNet50 is trained and not SEResNet18
UNKNOWN = 10_000  # images that are assumed where they are not counted


def pick_recipe(
    dataset: str,
    *,
    images: int | None = None,
    size: int | None = None,
    weights: str | None = None,
    gpu: bool = False,
    **network: object,
) -> Recipe:
    """The recipe for a dataset; its field `chosen` says why it is this one.

    With weights it is "finetune", or "finetune-modern" for thousands of images and a GPU. Without
    them a known dataset has the recipe of its protocol, and any other one a recipe after
    "cifar10-short" for images of about 32x32 pixels, and after "imagenet" for larger ones, with a
    network, a number of epochs and a batch size for so many images.

    Args:
        dataset: its name, or a folder.
        images: how many there are for training; None if that is not known.
        size: their usual height and width in pixels; None if that is not known.
        weights: what training begins from, as in `Recipe`; None is random weights.
        gpu: whether there is one.
        **network: the fields `model`, `depths` and `se` of a recipe, where it is known of which
            network the weights are.
    """
    seen = _describe_images(images, size)
    if weights is not None:
        is_modern = gpu and (images or 0) >= THOUSANDS
        name = "finetune-modern" if is_modern else "finetune"
        where = "on a GPU" if gpu else "without a GPU"
        fields = {"model": _network_of(weights, size, RECIPES[name].model)} | network
        why = f"{name}, for training from weights on {seen}, {where}"
        return _choose(RECIPES[name], why, dataset=dataset, weights=weights, **fields)
    name = dataset.partition(":")[0]
    if name in PROTOCOLS:
        recipe = RECIPES[PROTOCOLS[name]]
        return _choose(recipe, f"{PROTOCOLS[name]}, the protocol of {name}", dataset=dataset)
    if size is not None and size <= SMALL:
        return _choose_small(dataset, images or UNKNOWN, seen)
    return _choose_large(dataset, images or UNKNOWN, size, seen)


def _describe_images(images, size):
    count = "images" if images is None else f"{images:,} images"
    return count if size is None else f"{count} of {size} pixels"


def _choose(recipe, why, **fields):
    return dataclasses.replace(recipe.override(**fields), chosen=why)


def _network_of(weights, size, usual):
    """The usual network where the weights are a published tag that it has, else the first network
    that has it; of other weights the one for such images.
    """
    tagged = [each.model for each in list_weights() if each.tag == weights]
    if tagged:
        return usual if usual in tagged else tagged[0]
    return "SEResNet20" if size is not None and size <= SMALL else "SEResNet50"


def _choose_small(dataset, images, seen):
    base, batch_size = RECIPES["cifar10-short"], _batch_size(images, most=128)
    return _choose(
        dataclasses.replace(base, source="ours, after cifar10-short"),
        f"one after cifar10-short, for training from scratch on {seen}",
        dataset=dataset,
        epochs=min(max(round(500_000 / images), base.epochs), 100),
        batch_size=batch_size,
        learning_rate=base.learning_rate * batch_size / base.batch_size,
    )


def _choose_large(dataset, images, size, seen):
    batch_size = _batch_size(images, most=256)
    return _choose(
        dataclasses.replace(
            RECIPES["imagenet"],
            augmentation=Augmentation(min_area=0.25, flip=True),
            source="ours, after imagenet",
        ),
        f"one after imagenet, for training from scratch on {seen}",
        model="SEResNet50" if images >= MANY else "SEResNet18",
        dataset=dataset,
        image_size=0 if size is None else min(max(size // 32 * 32, 64), 224),
        normalization="network",
        epochs=100,
        batch_size=batch_size,
        learning_rate=0.1 * batch_size / 256,
        schedule="cosine",
        milestones=(),
        warmup_epochs=5.0,
        nesterov=True,
        label_smoothing=0.1,
    )


def _batch_size(images, most):
    """A power of two of which an epoch has at least sixteen batches, with enough images."""
    return min(max(2 ** int(math.log2(max(images / 16, 1))), 8), most)
