"""Networks by batch size, with and without oneDNN, in inference and training, as a Markdown table
of ms.

`python benchmarks/batch_one.py`, with `--before FOLDER` also of a checkout of an earlier commit.
Functions are of a dynamic batch; a training step is a forward and a backward pass. Each version
runs in a process of its own, and the versions take turns. The setting AVX2 makes a newer CPU
compute as one without AVX-512.
"""

import argparse
import functools
import os
import platform
import sys

from ratio import median_times
from sides import Side, serve

NETWORKS = ("SEResNet50", "SEResNeXt50", "SEMobileNet")
SIZE = 224
WARM_UP = 1  # calls, after the one that traces
SETTINGS = {
    "AVX2": {"TF_ENABLE_ONEDNN_OPTS": "1", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "oneDNN": {"TF_ENABLE_ONEDNN_OPTS": "1", "ONEDNN_MAX_CPU_ISA": "ALL"},
    "off": {"TF_ENABLE_ONEDNN_OPTS": "0"},
}


def cpu_name():
    """As the system calls it."""
    try:
        with open("/proc/cpuinfo") as file:
            return next(
                line.split(":")[1].strip() for line in file if line.startswith("model name")
            )
    except (OSError, StopIteration):
        return platform.processor()


def prepare(name):
    """A function that runs the network once, for inference or training, on a batch of some size."""
    import keras
    import tensorflow as tf

    import keras_senet

    model = getattr(keras_senet, name)(weights=None)
    variables = [v.value for v in model.trainable_variables]
    signature = [tf.TensorSpec((None, SIZE, SIZE, 3))]

    @tf.function(autograph=False, input_signature=signature)
    def inference(images):
        return tf.reduce_sum(model(images, training=False))

    @tf.function(autograph=False, input_signature=signature)
    def training(images):
        labels = tf.one_hot(tf.range(tf.shape(images)[0]), 1000)
        with tf.GradientTape() as tape:
            losses = keras.losses.categorical_crossentropy(labels, model(images, training=True))
        return tf.linalg.global_norm(tape.gradient(losses, variables))

    functions = {"inference": inference, "training": training}

    @functools.cache
    def images(batch):
        return tf.random.stateless_normal((int(batch), SIZE, SIZE, 3), (0, 0))

    def run(mode, batch):
        return float(functions[mode](images(batch)))

    return run


def start(name, setting, folder):
    """A process that runs the network, of the package in the folder or of the installed one."""
    environment = SETTINGS[setting] | ({"PYTHONPATH": folder} if folder else {})
    return Side(__file__, name, environment=environment)


def compare(name, setting, options):
    """Prints rows of the table: for each batch the median of each version."""
    folders = [os.path.abspath(options.before), None] if options.before else [None]
    sides = [start(name, setting, folder) for folder in folders]
    for mode in options.mode:
        cells = []
        for batch in options.batch:
            calls = [functools.partial(side, mode, batch) for side in sides]
            medians = median_times(calls, options.rounds, WARM_UP)
            cells.append(", ".join(f"{1000 * median:.1f}" for median in medians))
        print(f"| {setting} | `{name}` | {mode} | {' | '.join(cells)} |", flush=True)
    for side in sides:
        side.finish()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--before", metavar="FOLDER", help="a checkout of the version to compare with"
    )
    parser.add_argument("--network", choices=NETWORKS, nargs="+", default=NETWORKS)
    parser.add_argument(
        "--setting", choices=SETTINGS, nargs="+", default=list(SETTINGS), help="of oneDNN"
    )
    parser.add_argument(
        "--mode", choices=("inference", "training"), nargs="+", default=["inference", "training"]
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 2, 16])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    versions = "before, now" if options.before else "now"
    print(
        f"{cpu_name()}, {os.cpu_count()} cores; ms, medians of {options.rounds} rounds: "
        f"{versions}\n"
    )
    print(
        f"| setting | network | mode | {' | '.join(f'batch {batch}' for batch in options.batch)} |"
    )
    print(f"|---|---|---|{'---|' * len(options.batch)}")
    for setting in options.setting:
        for name in options.network:
            compare(name, setting, options)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        serve(lambda: __import__("keras_senet"), lambda: prepare(sys.argv[2]))
    else:
        main()
