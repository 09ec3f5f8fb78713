"""One training step, forward, backward and update, at 224x224 and batch 16: keras_senet over timm; peak memory of both.

`python benchmarks/train_step.py`, or with `--network resnext`, `--batch`, `--rounds`, `--threads`. float32, random
weights and images, cross-entropy, SGD with momentum 0.9 and a weight decay of 1e-4. Ours is a `tf.function` as the
Trainer's; timm's is eager PyTorch in channels_last. Each side is a process of its own, so that one's threads and memory
are not the other's; they take turns. Memory is the process' peak, and the same over what the imports alone take. Needs
the extra `peers` and timm (CONTRIBUTING.md).

Two things flatter our side. PyTorch's threads wait for one another at every operation: where the machine has other
work, compare with `--threads 1`. And PyTorch asks the C library for each tensor, which by default gives large ones back
to the system and faults them in anew; TensorFlow keeps its own pool. Both sides take the environment of the command:
`MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=16000000000` lets PyTorch keep its memory too.
"""

import argparse
import importlib
import os
import resource
import subprocess
import sys
from pathlib import Path

# option      ours           timm's
NETWORKS = {
    "resnet": ("SEResNet50", "legacy_seresnet50"),
    "resnext": ("SEResNeXt50", "legacy_seresnext50_32x4d"),
}
WARM_UP = 3  # steps: the first traces, and both allocators settle in the next ones


def keras_senet_step(name, batch, threads):
    """A function that trains by one step and returns its loss."""
    import keras
    import tensorflow as tf

    import keras_senet

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    model = getattr(keras_senet, name)(weights=None)
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    optimizer.build(model.trainable_variables)
    variables = model.trainable_variables

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            losses = keras.losses.categorical_crossentropy(tf.one_hot(labels, 1000), model(images, training=True))
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, [v.value for v in variables])
        decayed = [g + 1e-4 * v if v.path.endswith("kernel") else g for g, v in zip(gradients, variables, strict=True)]
        optimizer.apply(decayed, variables)
        return loss

    images = tf.random.stateless_normal((batch, 224, 224, 3), (0, 0))
    labels = tf.range(batch)
    return lambda: float(step(images, labels))


def timm_step(name, batch, threads):
    """A function that trains by one step and returns its loss."""
    from timm_networks import timm, torch

    torch.set_num_threads(threads)
    model = timm.create_model(name).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
    images = torch.randn(batch, 3, 224, 224).to(memory_format=torch.channels_last)
    labels = torch.arange(batch)

    def step():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


# side          what it imports, and its step
SIDES = {
    "keras_senet": ("keras_senet", keras_senet_step),
    "timm": ("timm_networks", timm_step),
}


class Child:
    """One side in a process of its own: called, it trains by a step there."""

    def __init__(self, *arguments):
        command = [sys.executable, __file__, "--child", *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self):
        return float(self.ask("step"))

    def ask(self, question):
        print(question, file=self.process.stdin, flush=True)
        return self.process.stdout.readline()

    def finish(self):
        """The peak of the process' memory in MiB, and that over its imports."""
        peak, imported = map(float, self.ask("memory").split())
        self.process.communicate()
        return peak, peak - imported


def peak_memory():
    """Of this process, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def serve(side, name, batch, threads):
    """What a child does: a line in, an answer out."""
    answers, sys.stdout = sys.stdout, sys.stderr  # the libraries' own words are no answers
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "peers"))
    module, make_step = SIDES[side]
    importlib.import_module(module)
    imported = peak_memory()
    step = make_step(name, int(batch), int(threads))
    for question in sys.stdin:
        print(*([step()] if question == "step\n" else [peak_memory(), imported]), file=answers, flush=True)


def compare(network, options):
    """Prints the ratios of ours to timm's, of a step's time and of the peak of memory."""
    from ratio import measure

    children = [
        Child(side, name, options.batch, options.threads) for side, name in zip(SIDES, NETWORKS[network], strict=True)
    ]
    for child in children:
        for _ in range(WARM_UP):
            child()
    names = [" ".join(pair) for pair in zip(SIDES, NETWORKS[network], strict=True)]
    measure(names, children, options.rounds, options.batch)
    memory = zip(*(child.finish() for child in children), strict=True)
    for what, (ours, timms) in zip(("peak memory", "the same over the imports"), memory, strict=True):
        print(f"{what}: {ours:.0f} MiB over {timms:.0f} MiB, ratio {ours / timms:.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=NETWORKS, help="one of them alone")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    for network in [options.network] if options.network else NETWORKS:
        compare(network, options)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        serve(*sys.argv[2:])
    else:
        main()
