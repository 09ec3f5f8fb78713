"""The images of a recipe."""

from typing import NamedTuple

from keras_senet import data, models
from keras_senet.data import TrainingData


class Images(NamedTuple):
    """What a run trains on and is evaluated on.

    train       training images
    evaluation  what each epoch is evaluated on: validation images or, where there are none, test
                images
    split       which of both: "val" or "test"
    test        test images that are evaluated once, at the end; None without validation images
    batches     the `TrainingData` of the recipe
    """

    train: data.Dataset | data.Encoded
    evaluation: data.Dataset | data.Encoded
    split: str
    test: data.Dataset | data.Encoded | None
    batches: TrainingData

    def by_split(self):
        """The images by the names of their splits."""
        kept = {"train": self.train, self.split: self.evaluation, "test": self.test}
        return {split: images for split, images in kept.items() if images is not None}


def load_images(recipe, data_dir=None):
    """The `Images` of a recipe."""

    def load(split):
        return data.load(recipe.dataset, split, data_dir, upright=recipe.upright)

    train_set = load("train")
    there = data.splits(recipe.dataset, data_dir)
    split = "val" if "val" in there else "test"
    batches = data.TrainingData(
        train_set,
        batch_size=recipe.batch_size,
        image_size=image_size(recipe, train_set),
        seed=recipe.seed,
        augmentation=recipe.augmentation,
        class_balanced=recipe.class_balanced,
    )
    return Images(
        train_set,
        load(split),
        split,
        load("test") if split == "val" and "test" in there else None,
        batches,
    )


def image_size(recipe, dataset):
    """Height and width of the images that are trained on."""
    own = models.get(recipe.model).input_size
    return recipe.image_size or dataset.image_shape[0] or own
