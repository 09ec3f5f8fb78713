"""Training throughput of SEResNet50, batch 16 at 224x224: Keras' BatchNormalization over ours."""

import argparse

import keras
import numpy as np
import tensorflow as tf
from ratio import measure

import keras_senet
from keras_senet.layers import BatchNormalization


def with_keras_batch_normalization(model):
    """The same network, each of our layers replaced by the one of Keras it derives from."""

    def clone(layer):
        cls = (
            keras.layers.BatchNormalization
            if isinstance(layer, BatchNormalization)
            else type(layer)
        )
        return cls.from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy


def training_step(model, images, labels):
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    optimizer.build(model.trainable_variables)

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            losses = keras.losses.sparse_categorical_crossentropy(
                labels, model(images, training=True)
            )
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(losses, [v.value for v in variables]), variables)
        return tf.reduce_mean(losses)

    return lambda: run().numpy()


def inference(model, images):
    run = tf.function(lambda: model(images, training=False))
    return lambda: run().numpy()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    images = tf.random.stateless_normal((options.batch, 224, 224, 3), (0, 0))
    labels = np.arange(options.batch)
    ours = keras_senet.SEResNet50(weights=None)
    models = (with_keras_batch_normalization(ours), ours)
    names = ("Keras' BatchNormalization", "keras_senet BatchNormalization")
    print("inference")
    measure(names, [inference(model, images) for model in models], options.rounds, options.batch)
    print("training")
    measure(
        names,
        [training_step(model, images, labels) for model in models],
        options.rounds,
        options.batch,
    )
