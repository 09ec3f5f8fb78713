"""Datasets, and the order and augmentation of their images as a function of (seed, epoch, index)."""

from keras_senet.data.datasets import DATASETS, Dataset, load
from keras_senet.data.pipeline import evaluation_batches, steps_per_epoch, training_batches

__all__ = ["DATASETS", "Dataset", "evaluation_batches", "load", "steps_per_epoch", "training_batches"]
