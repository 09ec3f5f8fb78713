"""Datasets, and the order and augmentation of their images by (seed, epoch, position)."""

from keras_senet.extras import require

require("tensorflow", "tensorflow")  # for the error that names the extra

from keras_senet.data.datasets import DATASETS, load, resolve_split, splits  # noqa: E402
from keras_senet.data.decoding import Corrupt, CorruptImageError  # noqa: E402
from keras_senet.data.evaluation import EvaluationBatches, evaluation_batches  # noqa: E402
from keras_senet.data.sources import Dataset, Encoded  # noqa: E402
from keras_senet.data.training import TrainingData  # noqa: E402
from keras_senet.recipes.augmentation import Augmentation  # noqa: E402

__all__ = [
    "DATASETS",
    "Augmentation",
    "Corrupt",
    "CorruptImageError",
    "Dataset",
    "Encoded",
    "EvaluationBatches",
    "TrainingData",
    "evaluation_batches",
    "load",
    "resolve_split",
    "splits",
]
