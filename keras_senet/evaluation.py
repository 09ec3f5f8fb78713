"""Accuracy of a network on a dataset."""

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from keras_senet.data import evaluation_batches


@dataclass(frozen=True)
class Evaluation:
    """Top-1 and top-5 accuracy (0..1), mean cross-entropy, and the counts [true class, predicted class]."""

    top1: float
    top5: float
    loss: float
    confusion: np.ndarray


def evaluate(model, dataset, batch_size=128, step=None):
    """Evaluates a classifier with softmax output on images of the network's own size.

    Args:
        model: a network with the attribute `preprocessing`.
        dataset: a `keras_senet.data.Dataset`.
        batch_size: images a step.
        step: `prediction_step(model)`, to be traced once for several evaluations.
    """
    probabilities = predict(model, dataset, batch_size, step)
    ranked = np.argsort(-probabilities, axis=1, kind="stable")
    right = ranked == dataset.labels[:, None]
    confusion = np.zeros((probabilities.shape[1],) * 2, "int64")
    np.add.at(confusion, (dataset.labels, ranked[:, 0]), 1)
    losses = keras.losses.sparse_categorical_crossentropy(dataset.labels, probabilities)
    return Evaluation(right[:, 0].mean(), right[:, :5].any(axis=1).mean(), float(np.mean(losses)), confusion)


def predict(model, dataset, batch_size=128, step=None):
    """Class probabilities (N, classes) of all images of a dataset."""
    step = step or prediction_step(model)
    return np.concatenate([step(images).numpy() for images, _ in evaluation_batches(dataset, batch_size)])


def prediction_step(model):
    """A tf.function from images uint8 (N, H, W, C) of 0..255 RGB to the model's output."""
    images = tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.uint8)
    return tf.function(lambda x: model(model.preprocessing.normalize(x), training=False), input_signature=[images])
