"""The images of a recipe."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_senet import data, models
from keras_senet.data.device import find_obstacle
from keras_senet.evaluation.networks import Images
from keras_senet.fields import check_argument, list_some
from keras_senet.preprocessing import Preprocessing
from keras_senet.recipes.recipe import Recipe
from keras_senet.runs import SPLIT
from keras_senet.runs.splits import WORDS


class RunImages(NamedTuple):
    """What a run trains on and is evaluated on.

    train       training images
    evaluation  what each epoch is evaluated on: validation images or, where there are none, test
                images
    split       which of both: "val" or "test"; "train" where a detector's images are one file
    test        test images that are evaluated once, at the end; None without validation images
    is_divided  whether the validation images are a part of the dataset's training images
    """

    train: Images
    evaluation: Images
    split: str
    test: Images | None
    is_divided: bool

    def by_split(self) -> Mapping[str, Images]:
        """The images by the names of their splits."""
        kept = {"train": self.train, "test": self.test, self.split: self.evaluation}
        return {split: images for split, images in kept.items() if images is not None}

    def of(self, split: str) -> Images:
        """The images of a split that is evaluated."""
        return self.evaluation if split == self.split else self.by_split()[split]

    def notes(self) -> list[str]:
        """What the user must know of the images, lines of text."""
        lines = self.describe_division()
        for split, images in self.by_split().items():
            if split != "train" and (missing := find_empty_classes(images)):
                lines.append(f"classes without {WORDS[split]} images: {list_some(missing, 5)}")
        return lines

    def describe_division(self) -> list[str]:
        """How many images were kept for validation, if any were: a line of text."""
        if not self.is_divided:
            return []
        kept, total = len(self.evaluation), len(self.evaluation) + len(self.train)
        return [f"{kept:,} of the {total:,} images are kept for validation: {SPLIT}"]

    def check_evaluated(self) -> None:
        """Decodes all images but the training ones, which takes about as long as one evaluation.

        Raises:
            CorruptImageError: for the first that cannot be decoded: now, not after the first epoch
                or at the end of training.
        """
        for images in (self.evaluation, self.test):
            if images is not None and not images.is_in_memory:
                for _ in data.evaluation_batches(images, 128, lambda image: image[:0, :0]):
                    pass


def load_images(recipe: Recipe, data_dir: str | None = None) -> RunImages:
    """The `RunImages` of a recipe.

    Raises:
        ValueError: if there is no such dataset, or it has fewer than two classes.
    """

    def load(split):
        return data.load(
            recipe.dataset,
            split,
            data_dir,
            upright=recipe.upright,
            validation_fraction=recipe.validation_fraction,
            seed=recipe.seed,
        )

    train_set = load("train")
    _check_classes(recipe.dataset, train_set)
    there = data.splits(recipe.dataset, data_dir)
    is_divided = data.lacks_evaluation(recipe.dataset, data_dir)
    split = "val" if is_divided or "val" in there else "test"
    test_set = load("test") if split == "val" and "test" in there else None
    return RunImages(train_set, load(split), split, test_set, is_divided)


def _check_classes(name, dataset):
    if len(dataset.class_names) < 2:
        raise ValueError(
            "`dataset` must have two classes or more. "
            f"Received: {name!r} with {', '.join(map(repr, dataset.class_names)) or 'none'}"
        )


def make_batches(
    recipe: Recipe, dataset: Images, preprocessing: Preprocessing | None = None
) -> Any:
    """The batches of a recipe; the preprocessing is that of the weights it begins from."""
    kind = data.DeviceImages if recipe.pipeline == "device" else data.TrainingData
    return kind(
        dataset,
        batch_size=recipe.batch_size,
        image_size=image_size(recipe, dataset, preprocessing),
        seed=recipe.seed,
        augmentation=recipe.augmentation,
        class_balanced=recipe.class_balanced,
    )


def resolve_pipeline(recipe: Any, dataset: Any, begun: str | None, pipelines: Sequence[str]) -> Any:
    """The recipe with "device" or "tf.data" for "auto": that of the run that is continued, `begun`,
    else the first of the engine's `pipelines` that these images can have.

    Raises:
        ValueError: for "device" where it cannot be, also of a run that is continued.
    """
    wanted = getattr(recipe, "pipeline", "tf.data")  # a task may have no other
    if wanted == "tf.data":
        return recipe  # `WorkDir` compares it with the run's
    if begun == "device" and "device" not in pipelines:
        raise ValueError(
            "The run makes its batches on the device, and is continued by `Trainer` on JAX or on "
            "one device of TensorFlow. Received: an engine with "
            f"pipeline={' or '.join(map(repr, pipelines))}"
        )
    if begun:
        return recipe if wanted == "device" else dataclasses.replace(recipe, pipeline=begun)
    obstacle = f"this engine has {' and '.join(map(repr, pipelines))}"
    if "device" in pipelines:
        size = recipe.image_size or dataset.image_shape[0]
        obstacle = find_obstacle(dataset, size, recipe.augmentation)
    if wanted == "device":
        accepted = f"'tf.data' or 'auto' here: {obstacle}"
        check_argument("pipeline", wanted, not obstacle, accepted)
        return recipe
    return dataclasses.replace(recipe, pipeline="tf.data" if obstacle else pipelines[0])


def lower_batch_size(recipe: Any, images: int, replicas: int = 1) -> Any:
    """The recipe with the largest batch size up to its own that so many images fill and that can be
    divided into micro-batches; the recipe itself if there is none.
    """
    step = replicas * recipe.accumulation * recipe.together
    batch_size = min(recipe.batch_size, images // step * step)
    return recipe.override(batch_size=batch_size) if batch_size else recipe


def count_classes(dataset: Images) -> np.ndarray:
    """How many images of each class there are, int64 (classes,), without invalid labels."""
    labels, classes = np.asarray(dataset.labels), len(dataset.class_names)
    return np.bincount(labels[(labels >= 0) & (labels < classes)], minlength=classes)


def find_empty_classes(dataset: Images) -> list[str]:
    """The names of the classes without images."""
    return [dataset.class_names[i] for i in np.flatnonzero(count_classes(dataset) == 0)]


def weigh_classes(dataset: Images) -> np.ndarray:
    """N / (K n_c) for each class c, float32 (classes,): N images of K classes, n_c of them of c; 0
    for a class without images. The mean over the images is 1.
    """
    counts = count_classes(dataset)
    weights = counts.sum() / np.maximum(counts, 1) / np.count_nonzero(counts)
    return np.where(counts, weights, 0).astype("float32")


def image_size(recipe: Recipe, dataset: Images, preprocessing: Preprocessing | None = None) -> int:
    """Height and width of the images that are trained on; the preprocessing is that of weights."""
    own = preprocessing.height if preprocessing else models.get(recipe.model).input_size
    return recipe.image_size or dataset.image_shape[0] or own
