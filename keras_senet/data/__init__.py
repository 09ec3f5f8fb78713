"""Datasets, and the order and augmentation of their images by (seed, epoch, position)."""

from keras_senet.extras import needs_tensorflow

with needs_tensorflow():
    from keras_senet.data.datasets import DATASETS, lacks_evaluation, load, resolve_split, splits
    from keras_senet.data.decoding import Corrupt, CorruptImageError
    from keras_senet.data.evaluation import EvaluationBatches, evaluation_batches
    from keras_senet.data.sources import Dataset, Encoded
    from keras_senet.data.training import TrainingData
    from keras_senet.recipes.augmentation import Augmentation

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
    "lacks_evaluation",
    "load",
    "resolve_split",
    "splits",
]
