"""Networks by batch size: batch normalisation after a convolution by the fused operation (before) and as it is now.

`python benchmarks/batch_one.py`, or with `--network`, `--batch`, `--rounds`, `--training`, `--quick`;
`TF_ENABLE_ONEDNN_OPTS` is 0 or 1 from outside, and `ONEDNN_MAX_CPU_ISA=AVX2` makes a newer CPU compute as one without
AVX-512. Inference is a `tf.function` of a dynamic batch. Both sides are in one process and take turns.
"""

import argparse
import functools
import os
import platform

import keras
import tensorflow as tf
from ratio import measure

import keras_senet
from keras_senet import layers

NETWORKS = ("SEResNet50", "SEResNeXt50", "SEMobileNet")
SIZE = 224


def cpu_name():
    """As the system calls it."""
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def inference(model):
    return tf.function(lambda images: model(images, training=False), autograph=False)


def training(model):
    variables = [v.value for v in model.trainable_variables]

    def step(images):
        labels = tf.one_hot(tf.range(tf.shape(images)[0]), 1000)
        with tf.GradientTape() as tape:
            losses = keras.losses.categorical_crossentropy(labels, model(images, training=True))
        return tf.linalg.global_norm(tape.gradient(losses, variables))

    return tf.function(step, autograph=False)


def traced(make, model, is_fused):
    """The function as it was, with fused operations everywhere, or as the package chooses on this machine."""
    function = make(model)
    is_slow = layers._is_fused_slowly
    if is_fused:
        layers._is_fused_slowly = lambda: False
    try:
        return function.get_concrete_function(tf.TensorSpec((None, SIZE, SIZE, 3)))
    finally:
        layers._is_fused_slowly = is_slow


def call(function, images):
    return function(images).numpy()


def compare(name, makers, batches, rounds):
    model = getattr(keras_senet, name)(weights=None)
    for make in makers:
        sides = [traced(make, model, is_fused) for is_fused in (True, False)]
        for batch in batches:
            images = tf.random.stateless_normal((batch, SIZE, SIZE, 3), (0, 0))
            print(f"{name}, {make.__name__}, batch {batch}")
            calls = [functools.partial(call, side, images) for side in sides]
            measure(("before: fused", "now"), calls, rounds, batch)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=NETWORKS, action="append")
    parser.add_argument("--batch", type=int, action="append", help="default: 1, 2 and 16")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--training", action="store_true", help="also training steps, equal on both sides")
    parser.add_argument("--quick", action="store_true", help="SEMobileNet, batch 1 and 2, 2 rounds")
    options = parser.parse_args()
    setting = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "TensorFlow's default")
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "none")
    print(f"{cpu_name()}, {os.cpu_count()} cores; oneDNN: {setting}; limit of its instructions: {limit}")
    print("now is", "plain operations" if layers._is_fused_slowly() else "the fused operation, as before")
    if options.quick:
        options.network, options.batch, options.rounds = ["SEMobileNet"], [1, 2], 2
    for name in options.network or NETWORKS:
        makers = (inference, training) if options.training else (inference,)
        compare(name, makers, options.batch or [1, 2, 16], options.rounds)


if __name__ == "__main__":
    main()
