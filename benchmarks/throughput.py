"""Training images/s of SE-ResNet-20 with its data pipeline: keras_senet over PyTorch.

`python benchmarks/throughput.py`, or with `--batch`, `--steps`, `--rounds`, `--threads`, `--sides`.
50,000 random images of 32x32 in memory, padded by 4, cropped and mirrored at random; SGD with
Nesterov's momentum and L2 regularisation, float32. Ours are the steps of a `Trainer`; PyTorch's
are eager, in channels_last, with the usual loader: torchvision's transforms of Pillow's images in
two workers. The sides are processes that take turns; a round is some steps of each. CPU time is
that of the process and of its workers: it says more where the machine has other work. Needs the
extra `peers` and timm (CONTRIBUTING.md).
"""

import argparse
import itertools
import os
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import psutil
from ratio import take_turns
from sides import Side, serve

IMAGES, CLASSES = 50_000, 10
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)


def write_images(path):
    random = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", IMAGES), ("test", 100)):
        arrays[f"x_{split}"] = random.integers(0, 256, (count, 32, 32, 3), "uint8")
        arrays[f"y_{split}"] = np.arange(count) % CLASSES
    np.savez(path, **arrays)


def prepare_keras(pipeline, path, batch, threads):
    """A function that trains some steps and waits for the last."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    from keras_senet.recipes import RECIPES
    from keras_senet.training import Trainer

    recipe = RECIPES["cifar10-short"].override(
        dataset=path, batch_size=batch, epochs=1000, pipeline=pipeline
    )
    workdir = tempfile.mkdtemp(dir=Path(path).parent)
    trainer = Trainer(recipe, workdir, strategy="none", verbose=False)
    numbered = enumerate(trainer._batches(0))

    def train(steps):
        for number, images in itertools.islice(numbered, steps):
            outcome = trainer.step(images, number)
        return float(outcome.loss)

    return train


def prepare_torch(_, path, batch, threads):
    from PIL import Image
    from torch_networks import create, torch
    from torchvision import transforms

    torch.set_num_threads(threads)
    with np.load(path) as file:
        images, labels = file["x_train"], file["y_train"]
    transform = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )

    class Pictures(torch.utils.data.Dataset):
        """As torchvision's CIFAR10."""

        def __len__(self):
            return len(images)

        def __getitem__(self, index):
            return transform(Image.fromarray(images[index])), int(labels[index])

    loader = torch.utils.data.DataLoader(
        Pictures(), batch, shuffle=True, num_workers=2, drop_last=True, persistent_workers=True
    )
    model = create("se_resnet20").to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(
        model.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    batches = itertools.chain.from_iterable(itertools.repeat(loader))

    def train(steps):
        for pictures, targets in itertools.islice(batches, steps):
            optimizer.zero_grad()
            pictures = pictures.to(memory_format=torch.channels_last)
            loss = torch.nn.functional.cross_entropy(model(pictures), targets)
            loss.backward()
            optimizer.step()
        return loss.item()

    return train


# side                    Keras' backend, what prepares, its pipeline
SIDES = {
    "TensorFlow, device": ("tensorflow", prepare_keras, "device"),
    "TensorFlow, tf.data": ("tensorflow", prepare_keras, "tf.data"),
    "JAX, device": ("jax", prepare_keras, "device"),
    "PyTorch": ("torch", prepare_torch, None),
}


def count_cpu():
    """Seconds of this process and its workers."""
    process = psutil.Process()
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def run_side(name, path, batch, steps, threads):
    """What a side's process does; a call returns its CPU time."""
    _, prepare, pipeline = SIDES[name]

    def make():
        train = prepare(pipeline, path, int(batch), int(threads))

        def run():
            before = count_cpu()
            assert np.isfinite(train(int(steps)))
            return count_cpu() - before

        return run

    serve(lambda: None, make)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/images.npz"
        write_images(path)
        shared = path, options.batch, options.steps, options.threads
        backends = [{"KERAS_BACKEND": SIDES[name][0]} for name in options.sides]
        sides = [
            Side(__file__, name, *shared, environment=backend)
            for name, backend in zip(options.sides, backends, strict=True)
        ]
        cpu = [[] for _ in sides]

        def count(side, taken):
            return lambda: taken.append(side())

        functions = [count(side, taken) for side, taken in zip(sides, cpu, strict=True)]
        wall = take_turns(functions, options.rounds, warm_up=2)
        for side in sides:
            side.finish()
    images = options.batch * options.steps
    print(f"SEResNet20, batch {options.batch}, {options.threads} threads, {options.rounds} rounds")
    last = [statistics.median(each[-1][-options.rounds :]) for each in (wall, cpu)]
    for name, seconds, counted in zip(options.sides, wall, cpu, strict=True):
        time, used = statistics.median(seconds), statistics.median(counted[-options.rounds :])
        print(
            f"{name:20} {images / time:7.1f} images/s, {options.sides[-1]} takes "
            f"{last[0] / time:.2f} of its time; {1000 * used / options.steps:7.1f} ms of CPU time "
            f"a step, {last[1] / used:.2f}"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        run_side(*sys.argv[2:])
    else:
        main()
