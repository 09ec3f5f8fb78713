"""One training step (forward, backward, update) or, with --inference, one inference: keras_senet
over PyTorch.

`python benchmarks/train_step.py`, or with `--network small`, `--batch`, `--rounds`, `--threads`.
float32, random weights and images, cross-entropy, SGD with momentum 0.9 and a weight decay of 1e-4.
Ours is a `tf.function` as the Trainer's; PyTorch's is in channels_last, eager and, with
`--compiled`, also by `torch.compile`. The peer is timm's network, and for SE-ResNet-20 the one of
benchmarks/torch_networks.py. The sides are processes that take turns. Memory is the process' peak,
and how much of it came after the imports. Needs the extra `peers` and timm (CONTRIBUTING.md);
`torch.compile` needs a C++ compiler. `TF_ENABLE_ONEDNN_OPTS=0` or `1` is the setting of oneDNN.

Two things flatter our side. PyTorch's threads wait for one another at every operation: where the
machine has other work, compare with `--threads 1`. And PyTorch asks the C library for each tensor,
which by default returns large ones to the system and faults them in again; TensorFlow keeps its own
pool. All sides take the environment of the command: `MALLOC_MMAP_THRESHOLD_=4000000000
MALLOC_TRIM_THRESHOLD_=16000000000` lets PyTorch keep its memory too.
"""

import argparse
import importlib
import os
import sys
from typing import NamedTuple

from sides import Side, serve


class Network(NamedTuple):
    """A row: our constructor, the peer's name, and what both are measured with."""

    ours: str
    peer: str
    size: int  # pixels per side
    classes: int
    batch: int  # of a training step


# option                ours           PyTorch's                    size classes batch
NETWORKS = {
    "resnet": Network("SEResNet50", "legacy_seresnet50", 224, 1000, 16),
    "resnext": Network("SEResNeXt50", "legacy_seresnext50_32x4d", 224, 1000, 16),
    "small": Network("SEResNet20", "se_resnet20", 32, 10, 128),
}
WARM_UP = 3  # calls: the first traces, and the allocators settle in the next ones


def prepare_keras(network, inference, batch, threads):
    """A function that trains one step and returns the loss, or infers and returns a probability."""
    import keras
    import tensorflow as tf

    import keras_senet

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    model = getattr(keras_senet, network.ours)(weights=None)
    images = tf.random.stateless_normal((batch, network.size, network.size, 3), (0, 0))
    if inference:
        infer = tf.function(lambda images: model(images, training=False))
        return lambda: float(infer(images)[0, 0])
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    optimizer.build(model.trainable_variables)
    variables = model.trainable_variables

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            losses = keras.losses.categorical_crossentropy(
                tf.one_hot(labels, network.classes), model(images, training=True)
            )
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, [v.value for v in variables])
        decayed = [
            g + 1e-4 * v if v.path.endswith("kernel") else g
            for g, v in zip(gradients, variables, strict=True)
        ]
        optimizer.apply(decayed, variables)
        return loss

    labels = tf.range(batch) % network.classes
    return lambda: float(step(images, labels))


def prepare_torch(network, inference, batch, threads, compiled=False):
    """The same by PyTorch; inference returns a logit."""
    from torch_networks import create, torch

    torch.set_num_threads(threads)
    model = create(network.peer).to(memory_format=torch.channels_last).train(not inference)
    run = torch.compile(model) if compiled else model
    images = torch.randn(batch, 3, network.size, network.size)
    images = images.to(memory_format=torch.channels_last)
    if inference:

        @torch.inference_mode()
        def infer():
            return run(images)[0, 0].item()

        return infer
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
    labels = torch.arange(batch) % network.classes

    def step():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(run(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def prepare_compiled(*arguments):
    return prepare_torch(*arguments, compiled=True)


# side          what it imports, and what makes its function
SIDES = {
    "keras_senet": ("keras_senet", prepare_keras),
    "PyTorch": ("torch_networks", prepare_torch),
    "torch.compile": ("torch_networks", prepare_compiled),
}


def run_side(side, name, inference, batch, threads):
    """What a side's process does."""
    module, prepare = SIDES[side]
    arguments = NETWORKS[name], inference == "True", int(batch), int(threads)
    serve(lambda: importlib.import_module(module), lambda: prepare(*arguments))


def compare(name, options):
    """Prints the ratios of ours to PyTorch's, of the time and of the peak of memory."""
    from ratio import measure

    network = NETWORKS[name]
    batch = options.batch or (1 if options.inference else network.batch)
    names = list(SIDES) if options.compiled else list(SIDES)[:2]
    sides = [
        Side(__file__, side, name, options.inference, batch, options.threads) for side in names
    ]
    for side in sides:
        for _ in range(WARM_UP):
            side()
    what = "inference" if options.inference else "training step"
    onednn = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default")
    print(f"{network.ours}, {what}, batch {batch}, {options.threads} threads, oneDNN {onednn}")
    measure(names, sides, options.rounds, batch)
    for side, memory in zip(names, [side.finish() for side in sides], strict=True):
        print(f"{side:34} peak memory {memory[0]:.0f} MiB, after the imports {memory[1]:.0f} MiB")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", choices=NETWORKS, help="one of them; default: all")
    parser.add_argument("--inference", action="store_true", help="at a batch of 1 by default")
    parser.add_argument("--compiled", action="store_true", help="also beside torch.compile")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    for name in [options.network] if options.network else NETWORKS:
        compare(name, options)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        run_side(*sys.argv[2:])
    else:
        main()
