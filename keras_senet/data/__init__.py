"""Datasets, and the order and augmentation of their images by (seed, epoch, position)."""

from keras_senet.extras import load_names
from keras_senet.recipes.augmentation import Augmentation

# Where the names are: only some need TensorFlow, and all are imported when they are first used.
HOMES = {
    "Corrupt": "corrupt",
    "CorruptImageError": "corrupt",
    "DATASETS": "datasets",
    "Dataset": "sources",
    "DeviceImages": "device",
    "Encoded": "sources",
    "EvaluationBatches": "evaluation",
    "TrainingData": "training",
    "evaluation_batches": "evaluation",
    "lacks_evaluation": "datasets",
    "load": "datasets",
    "resolve_split": "datasets",
    "splits": "datasets",
    "with_classes": "sources",
}
__all__ = ["Augmentation", *HOMES]
__getattr__ = load_names(__name__, HOMES)
