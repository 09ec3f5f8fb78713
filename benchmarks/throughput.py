"""Training steps of SE-ResNet-20 with their data pipeline.

50,000 random images of 32x32 in memory, padded by 4, cropped and mirrored at random; SGD with
Nesterov's momentum and L2 regularisation, float32. Ours are the steps of a `Trainer`; PyTorch's
are eager, in channels_last, with the usual loader: torchvision's transforms of Pillow's images in
two workers.
"""

import itertools
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.side import make_once, repeat

STEPS = 20
IMAGES, CLASSES = 50_000, 10
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)


def write_images(path):
    random = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", IMAGES), ("test", 100)):
        arrays[f"x_{split}"] = random.integers(0, 256, (count, 32, 32, 3), "uint8")
        arrays[f"y_{split}"] = np.arange(count) % CLASSES
    np.savez(path, **arrays)


def prepare(folder, threads, side, batch):
    """A function that trains some steps and waits for the last. `side` is "torch" or a pipeline of
    our own.
    """
    path = make_once(Path(folder, "images.npz"), ".throughput:write_images", f"{folder}/images.npz")
    if side == "torch":
        return prepare_torch(path, batch, threads)
    return prepare_keras(side, str(path), batch, threads)


def prepare_keras(pipeline, path, batch, threads):
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

    def train():
        number, images = next(numbered)
        return trainer.step(images, number).loss

    return repeat(STEPS, train, float)


def prepare_torch(path, batch, threads):
    from PIL import Image
    from torchvision import transforms

    from benchmarks.torch_networks import create, torch

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

    def train():
        pictures, targets = next(batches)
        optimizer.zero_grad()
        pictures = pictures.to(memory_format=torch.channels_last)
        loss = torch.nn.functional.cross_entropy(model(pictures), targets)
        loss.backward()
        optimizer.step()
        return loss

    return repeat(STEPS, train, torch.Tensor.item)
