"""The images of a recipe."""

from keras_senet import data, models


def load_images(recipe, data_dir=None):
    """(training images, test images, the `TrainingData` of the recipe)."""
    train_set, test_set = (data.load(recipe.dataset, split, data_dir=data_dir) for split in ("train", "test"))
    batches = data.TrainingData(
        train_set,
        batch_size=recipe.batch_size,
        image_size=image_size(recipe, train_set),
        seed=recipe.seed,
        augmentation=recipe.augmentation,
        class_balanced=recipe.class_balanced,
    )
    return train_set, test_set, batches


def image_size(recipe, dataset):
    """Height and width of the images that are trained on."""
    own = models.get(recipe.model).input_size
    return recipe.image_size or dataset.image_shape[0] or own
