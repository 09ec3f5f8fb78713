"""The images of a recipe."""

from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from keras_senet import data, models
from keras_senet.data import TrainingData
from keras_senet.evaluation.networks import Images
from keras_senet.preprocessing import Preprocessing
from keras_senet.recipes.recipe import Recipe


class RunImages(NamedTuple):
    """What a run trains on and is evaluated on.

    train       training images
    evaluation  what each epoch is evaluated on: validation images or, where there are none, test
                images
    split       which of both: "val" or "test"
    test        test images that are evaluated once, at the end; None without validation images
    batches     the `TrainingData` of the recipe
    """

    train: Images
    evaluation: Images
    split: str
    test: Images | None
    batches: TrainingData

    def by_split(self) -> Mapping[str, Images]:
        """The images by the names of their splits."""
        kept = {"train": self.train, self.split: self.evaluation, "test": self.test}
        return {split: images for split, images in kept.items() if images is not None}

    def check_evaluated(self) -> None:
        """Decodes all images but the training ones, which takes about as long as one evaluation.

        Raises:
            CorruptImageError: for the first that cannot be decoded: now, not after the first epoch
                or at the end of training.
        """
        for images in (self.evaluation, self.test):
            if isinstance(images, data.Encoded):
                for _ in data.evaluation_batches(images, 128, tf.shape):
                    pass


def load_images(
    recipe: Recipe, data_dir: str | None = None, preprocessing: Preprocessing | None = None
) -> RunImages:
    """The `RunImages` of a recipe; the preprocessing is that of the weights that it begins from."""

    def load(split):
        return data.load(recipe.dataset, split, data_dir, upright=recipe.upright)

    train_set = load("train")
    there = data.splits(recipe.dataset, data_dir)
    split = "val" if "val" in there else "test"
    batches = data.TrainingData(
        train_set,
        batch_size=recipe.batch_size,
        image_size=image_size(recipe, train_set, preprocessing),
        seed=recipe.seed,
        augmentation=recipe.augmentation,
        class_balanced=recipe.class_balanced,
    )
    test_set = load("test") if split == "val" and "test" in there else None
    return RunImages(train_set, load(split), split, test_set, batches)


def image_size(recipe: Recipe, dataset: Images, preprocessing: Preprocessing | None = None) -> int:
    """Height and width of the images that are trained on; the preprocessing is that of weights."""
    own = preprocessing.height if preprocessing else models.get(recipe.model).input_size
    return recipe.image_size or dataset.image_shape[0] or own
